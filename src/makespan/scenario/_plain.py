"""The resolved scenario as plain data: what `makespan plan` writes into the run folder."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from makespan.specs.scenario import Scenario
from makespan.uncertainty import Distribution, Fixed


def resolved(scenario: Scenario | str | Path) -> dict[str, Any]:
    """Every value of a scenario in SI units, the rules that filled the gaps, the facts and their sources.

    The same scenario gives the same data; `json.dumps` takes it as it is (infinite values are the text "never" or
    "unbounded").

    Raises
    ------
    ScenarioError : a path was given, and its file has problems.
    """
    if not isinstance(scenario, Scenario):
        from makespan.scenario._load import load

        scenario = load(scenario)
    data = {name: _plain(getattr(scenario, name)) for name in _names(scenario) if name != "text"}
    data["as_of"] = scenario.as_of.isoformat()
    return {"makespan": 1, **data}


def _names(value: Any) -> list[str]:
    return [f.name for f in fields(value)]


def _plain(value: Any) -> Any:
    if isinstance(value, Fixed):
        return _plain(value.value)
    if isinstance(value, Distribution):
        return {"distribution": type(value).__name__.lower(), **{n: _plain(getattr(value, n)) for n in _names(value)}}
    if isinstance(value, Enum):
        return value.name.lower()
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(getattr(value, name)) for name in _names(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "unbounded" if value > 0 else "-unbounded"
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"no plain form for {type(value).__name__}")
