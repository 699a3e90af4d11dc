"""Weeks of steps: failures, recovery, checkpoints, growth, stages; the release date and a ledger of the wall time."""

from makespan.campaign.closed_form import (
    CycleMeans,
    daly_interval_s,
    erlang_b,
    expected_cycle,
    expected_goodput,
    young_interval_s,
)
from makespan.campaign.run import simulate
from makespan.campaign.timeline import draw_shares

__all__ = [
    "CycleMeans",
    "daly_interval_s",
    "draw_shares",
    "erlang_b",
    "expected_cycle",
    "expected_goodput",
    "simulate",
    "young_interval_s",
]
