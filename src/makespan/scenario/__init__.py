"""Scenario files: from YAML with units to a validated, resolved `Scenario`, or every problem in one pass.

    file -> _yaml (text, limits) -> _tree (nodes with lines) -> _override -> _shape_check (pydantic)
         -> _load (sources, model, run, options, sites) -> Scenario, with facts, sources and rules used

Reference of the file: docs/explain/scenario.md. One page for each error code: docs/errors/.
"""

from __future__ import annotations

from makespan.scenario._context import suggestion
from makespan.scenario._contradictions import contradictions
from makespan.scenario._layout_words import (
    fixed_words,
    layout_value,
    layout_words,
    parse_constraints,
    parse_layout,
    value_of_code,
    word_of,
)
from makespan.scenario._load import check, load
from makespan.scenario._plain import resolved
from makespan.scenario._schema import json_schema
from makespan.scenario._search_words import (
    Ruled,
    parse_batch_law,
    parse_budget,
    parse_max_batch,
    parse_power_limit,
    parse_ramp,
    parse_sizes,
    usual_batch,
    usual_seq_len,
    usual_tokens,
)
from makespan.scenario._starter import starter
from makespan.scenario._words import (
    parse_batch,
    parse_cluster,
    parse_framework,
    parse_model,
    parse_seq_len,
    rounded_batch,
)

__all__ = [
    "Ruled",
    "check",
    "contradictions",
    "fixed_words",
    "json_schema",
    "layout_value",
    "layout_words",
    "load",
    "parse_batch",
    "parse_batch_law",
    "parse_budget",
    "parse_cluster",
    "parse_constraints",
    "parse_framework",
    "parse_layout",
    "parse_max_batch",
    "parse_model",
    "parse_power_limit",
    "parse_ramp",
    "parse_seq_len",
    "parse_sizes",
    "resolved",
    "rounded_batch",
    "starter",
    "suggestion",
    "usual_batch",
    "usual_seq_len",
    "usual_tokens",
    "value_of_code",
    "word_of",
]
