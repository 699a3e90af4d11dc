"""The chain: Scenario -> Plan. The only room that calls the others."""

from makespan.study.chain import plan

__all__ = ["plan"]
