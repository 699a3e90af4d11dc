"""The answer in a terminal: sentences, the comparison, what holds each option back, what would help."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from makespan.report import formats as f
from makespan.report import words
from makespan.report.data import result
from makespan.specs.plan import Plan
from makespan.units import DAY_S

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 124
"""Columns from which everything goes into one table."""

Option = dict[str, Any]
Column = tuple[str, Callable[[Option], str], bool]


def terminal(plan: Plan, console: Console, *, by: dt.date | None = None, data: dict[str, Any] | None = None) -> None:
    """Print a plan.

    Parameters
    ----------
    by : the deadline to give odds for, in place of the scenario's own.
    data : what `result(plan)` gave, where it is at hand and `by` is None.
    """
    if by is not None:
        seconds = (by - plan.scenario.as_of).days * DAY_S
        plan = replace(plan, scenario=replace(plan.scenario, deadline_s=seconds))
        data = None
    data = result(plan) if data is None else data
    scenario = data["scenario"]
    console.print()
    _say(console, scenario["name"], style="bold")
    if scenario["question"]:
        _say(console, scenario["question"], style="dim")
    console.print()
    for line in data["answers"]:
        _say(console, line)
    console.print()
    dates, money = _columns(data)
    if console.width >= WIDE:
        limits = dates.pop()
        console.print(_table(data["options"], [*dates, *money, limits]))
    else:
        console.print(_table(data["options"], dates))
        console.print(_table(data["options"], [dates[0], *money]))
    _say(
        console,
        f"Medians, with P10 to P90 below them, of {scenario['num_replicates']:,} simulated futures; energy and power at "
        f"the facility meter; money in {scenario['price_year']} dollars; as of {f.date(scenario['as_of'])}.",
        style="dim",
    )
    _explain(console, data)
    _observed(console, data)
    _changes(console, data)


def _say(console: Console, line: str, style: str = "") -> None:
    """A line whose text is never read as markup."""
    from rich.text import Text

    console.print(Text(_tight(line), style=style))


def _item(console: Console, line: str) -> None:
    """A line whose continuation is indented under its start."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(_tight(line)), (0, 0, 0, 2), expand=False))


def _tight(line: str) -> str:
    """Without the space before a per cent sign, at which a terminal would break the line."""
    return line.replace(" %", "%")


def _columns(data: dict[str, Any]) -> tuple[list[Column], list[Column]]:
    scenario = data["scenario"]
    dates: list[Column] = [("Option", lambda option: option["name"], False), ("Model released", _released, False)]
    if scenario["deadline"] is not None:
        head = f"Odds by {f.date(scenario['deadline'])}"
        dates.append((head, lambda option: f.odds(option["probability_by_deadline"], scenario["num_replicates"]), True))
    dates.append(("Held back by", _limits, False))
    money: list[Column] = [
        ("Cost of the model", lambda option: _figure(option["cost_of_model_usd"], "money"), True),
        ("Committed", lambda option: f.money(option["committed_usd"]["p50"]), True),
        ("Energy", lambda option: f.energy(option["energy_j"]["facility"]["p50"]), True),
        ("Peak power", lambda option: f.power(option["peak_power_w"]["facility"]["p50"]), True),
    ]
    return dates, money


def _table(options: Sequence[Option], columns: Sequence[Column]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    best = words.fastest(options)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    for head, _, right in columns:
        table.add_column(Text(head), justify="right" if right else "left", overflow="fold")
    for option in options:
        style = "bold" if option is best else ""
        table.add_row(*(Text(_tight(write(option)), style=style) for _, write, _ in columns))
    return table


def _released(option: Option) -> str:
    band = words.release(option)
    if band["p10"] is None:
        return f.NEVER
    return f"{f.date(band['p50'])}\n{f.date_range(band['p10'], band['p90'])}"


def _figure(band: dict[str, Any], kind: str) -> str:
    middle = f.write(band["p50"], kind)
    return middle if band["p10"] == band["p90"] else f"{middle}\n{f.span(band, kind)}"


def _limits(option: Option) -> str:
    if option["reasons"]:
        return "does not finish, see above" if words.starts(option) else "cannot run, see above"
    return words.what_limits(option)


def _explain(console: Console, data: dict[str, Any]) -> None:
    """What the columns mean that people ask about."""
    _say(
        console,
        f"Held back by: share of the time from {f.date(data['scenario']['as_of'])} to the release. Committed: due whatever runs "
        "(minimum terms, prices of sites); a run that is longer costs more than that, one that shares the rest less.",
        style="dim",
    )


def _observed(console: Console, data: dict[str, Any]) -> None:
    options = data["options"]
    judged = [(option, seen) for option in options for seen in option["observed"] if seen["verdict"] is not None]
    if not judged:
        return
    console.print()
    _say(console, f"What then happened (not used in the forecast): {words.tally(data)}", style="bold")
    for option, seen in judged:
        happened = words.observed_text(seen, seen["value"] if seen["value"] is not None else seen["date"])
        when = f" on {f.date(seen['date'])}" if seen["value"] is not None and seen["date"] else ""
        forecast = words.observed_span(seen)
        note = " (an identity: derived from the outcome, no prediction)" if seen["identity"] else ""
        _item(
            console,
            f"{option['name']}: {seen['label'].lower()} {happened}{when}; forecast {forecast}; {words.verdict(seen)}{note}",
        )


def _changes(console: Console, data: dict[str, Any]) -> None:
    none = words.no_change_helps(data)
    if not data["changes"] and not none:
        return
    console.print()
    if none:
        _say(console, none)
        return
    _say(console, "Changes that would help, cheapest first", style="bold")
    several = len(data["options"]) > 1
    for change in data["changes"]:
        odds, when, money = words.change_effect(change, data["scenario"]["num_replicates"])
        name = f"{change['option']}: " if several else ""
        _item(console, f"{name}{change['text']}: odds {odds}, {when}, costs {money}")
    _say(console, words.CHANGES_NOTE, style="dim")
