"""makespan: when will the model be trained?

The verbs of the command line as functions of specs. Names are loaded when first used, so that importing is quick.

Examples
--------
>>> import makespan
>>> h100 = makespan.catalog.accelerator("h100-sxm").spec
>>> round(h100.peak_flop_per_s["bf16"] / 1e12)
989
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from makespan.version import __version__

if TYPE_CHECKING:
    from makespan import catalog, units
    from makespan.campaign import simulate
    from makespan.compare import changes
    from makespan.economics import cost_of
    from makespan.errors import InfeasibleError, MakespanError, ScenarioError
    from makespan.report import result, search_frame, search_summary, write_run
    from makespan.scenario import check, load
    from makespan.search import search as search_layouts
    from makespan.step import step_estimate
    from makespan.study import plan
    from makespan.supply import supply as capacity_of
    from makespan.uncertainty import Streams, percentiles
    from makespan.validation import validate

_HOME = {
    "InfeasibleError": ("makespan.errors", "InfeasibleError"),
    "MakespanError": ("makespan.errors", "MakespanError"),
    "ScenarioError": ("makespan.errors", "ScenarioError"),
    "Streams": ("makespan.uncertainty", "Streams"),
    "capacity_of": ("makespan.supply", "supply"),
    "changes": ("makespan.compare", "changes"),
    "check": ("makespan.scenario", "check"),
    "cost_of": ("makespan.economics", "cost_of"),
    "load": ("makespan.scenario", "load"),
    "percentiles": ("makespan.uncertainty", "percentiles"),
    "plan": ("makespan.study", "plan"),
    "result": ("makespan.report", "result"),
    "search_frame": ("makespan.report", "search_frame"),
    "search_layouts": ("makespan.search", "search"),
    "search_summary": ("makespan.report", "search_summary"),
    "simulate": ("makespan.campaign", "simulate"),
    "step_estimate": ("makespan.step", "step_estimate"),
    "validate": ("makespan.validation", "validate"),
    "write_run": ("makespan.report", "write_run"),
}


def __getattr__(name: str) -> Any:
    if name in ("catalog", "units"):
        return import_module(f"makespan.{name}")
    if name in _HOME:
        module, attribute = _HOME[name]
        value = getattr(import_module(module), attribute)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'makespan' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "InfeasibleError",
    "MakespanError",
    "ScenarioError",
    "Streams",
    "__version__",
    "capacity_of",
    "catalog",
    "changes",
    "check",
    "cost_of",
    "load",
    "percentiles",
    "plan",
    "result",
    "search_frame",
    "search_layouts",
    "search_summary",
    "simulate",
    "step_estimate",
    "units",
    "validate",
    "write_run",
]
