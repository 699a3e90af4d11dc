"""A lever as people read it: its path in words, its ends in the unit it was written in or as what they mean."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from makespan.provenance import Fact
from makespan.report.bands import iso_date, number
from makespan.report.formats import date, days, duration, in_unit_of, percent, plain, share
from makespan.report.labels import lever_label
from makespan.specs.plan import Lever, Plan
from makespan.specs.scenario import Scenario
from makespan.units import DAY_S


def path_names(plan: Plan) -> dict[str, str]:
    """What options, activities and power sources are called in a path -> what the scenario calls them."""
    names = [option.option.name for option in plan.options]
    for option in plan.options:
        for pool in option.pools:
            names += [name.removeprefix("power: ") for name in pool.supply.milestones]
    return {_slug(name): name for name in names}


def lever_row(scenario: Scenario, lever: Lever, facts: Sequence[Fact], names: Mapping[str, str]) -> dict[str, Any]:
    """One lever of `result.json`. `swing_s` counts "never" as the horizon, so it is then a least value."""
    swing = abs(lever.late_s - lever.early_s)
    text = _writer(scenario, lever, facts)
    return {
        "option": lever.option,
        "name": lever.name,
        "label": lever_label(lever.name, names),
        "low": number(lever.low),
        "high": number(lever.high),
        "low_text": text(lever.low),
        "high_text": text(lever.high),
        "release_at_low": _before_horizon(scenario, lever.early_s),
        "release_at_high": _before_horizon(scenario, lever.late_s),
        "swing_s": None if math.isnan(swing) else number(swing),
    }


def swing_text(row: Mapping[str, Any]) -> str:
    """The difference of a row: "104 days", or "555 days or more" where one end is never."""
    least = row["release_at_low"] is None or row["release_at_high"] is None
    return days(row["swing_s"]) + (" or more" if least and row["swing_s"] else "")


def against_prediction(factor: float) -> str:
    """A time over the predicted one as a difference.

    >>> against_prediction(0.744), against_prediction(1.37), against_prediction(1.001)
    ('26 % shorter', '37 % longer', 'as predicted')
    """
    off = round(100 * (factor - 1))
    return "as predicted" if off == 0 else f"{abs(off)} % {'longer' if off > 0 else 'shorter'}"


def _writer(scenario: Scenario, lever: Lever, facts: Sequence[Fact]) -> Callable[[float], str]:
    written = next((fact.text for fact in facts if fact.path == lever.name), None)
    if written is None:
        written = next((rule.value for rule in scenario.rules if rule.path == lever.name), "")
    if lever.name == "model.candidates":
        return lambda value: scenario.models[min(int(value), len(scenario.models) - 1)].model.name
    if lever.name == "step.time_factor":
        return against_prediction
    if lever.name.startswith("failures."):
        return lambda value: f"once in {duration(1 / value)}" if value > 0 else "never"
    if lever.name == "run.execution":
        return lambda value: share(value)
    if re.fullmatch(r"run\.(share(\.\d+)?|restarted_work)", lever.name):
        return lambda value: percent(value, 0)
    return lambda value: _spoken(_with_unit(lever.name, value, written, scenario.as_of))


def _with_unit(name: str, value: float, written: str, as_of: dt.date) -> str:
    """In the unit of the text; where that has none, in the unit that the last part of the path implies.

    >>> day = dt.date(2024, 7, 10)
    >>> _with_unit("stages.x.flop", 3.6e26, "", day), _with_unit("sites.y.burn_in", 466594.0, "", day)
    ('3.60e26 FLOP', '5.40 days')
    >>> _with_unit("sites.y.power.grid.from", 864000.0, "", day), _with_unit("sites.y.pue", 1.2, "1.3", day)
    ('20 Jul 2024', '1.20')
    """
    text = in_unit_of(value, written, as_of)
    if text != plain(value):
        return text
    last = name.rpartition(".")[2]
    if last in ("flop", "compute"):
        return f"{text} FLOP"
    if last in ("date", "from", "ready"):
        return date(iso_date(as_of, value))
    if last in ("duration", "burn_in", "repair", "detection", "restart", "blocking", "save"):
        return duration(value)
    return f"{plain(value * DAY_S)} a day" if last.endswith("_rate") else text


def _spoken(text: str) -> str:
    """Days and whole numbers of them in words.

    >>> _spoken("446 d"), _spoken("3.00 d"), _spoken("4.38 min"), _spoken("3.16e26 FLOP")
    ('446 days', '3.00 days', '4.38 min', '3.16e26 FLOP')
    """
    return re.sub(r"^([\d.,]+) d$", r"\1 days", text)


def _before_horizon(scenario: Scenario, seconds: float) -> str | None:
    """A date, or None where it is the horizon: levers count "never" as that."""
    return iso_date(scenario.as_of, seconds) if seconds < scenario.horizon_s else None


def _slug(name: str) -> str:
    return re.sub(r"[^\w+%-]+", "-", name.strip().lower()).strip("-")


__all__ = ["against_prediction", "lever_row", "path_names", "swing_text"]
