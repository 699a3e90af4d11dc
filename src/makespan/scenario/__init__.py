"""Scenario files: from YAML with units to a validated, resolved `Scenario`, or every problem in one pass.

    file -> _yaml (text, limits) -> _tree (nodes with lines) -> _override -> _shape_check (pydantic)
         -> _load (sources, model, run, options, sites) -> Scenario, with facts, sources and rules used

Reference of the file: docs/explain/scenario.md. One page for each error code: docs/errors/.
"""

from __future__ import annotations

from makespan.scenario._load import check, load
from makespan.scenario._plain import resolved
from makespan.scenario._schema import json_schema
from makespan.scenario._starter import starter
from makespan.scenario._words import (
    parse_batch,
    parse_cluster,
    parse_constraints,
    parse_framework,
    parse_layout,
    parse_model,
)

__all__ = [
    "check",
    "json_schema",
    "load",
    "parse_batch",
    "parse_cluster",
    "parse_constraints",
    "parse_framework",
    "parse_layout",
    "parse_model",
    "resolved",
    "starter",
]
