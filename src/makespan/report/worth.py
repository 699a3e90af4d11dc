"""What a better cluster would be worth, as data and as a terminal table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from makespan.report.bands import number
from makespan.report.formats import DASH, percent
from makespan.report.step_text import layout_data
from makespan.specs.search import HardwareWorth, Objective

if TYPE_CHECKING:
    from rich.console import Group

LEAST_SHOWN = 0.0005
"""Savings below this print as nothing: half of the last digit of a tenth of a per cent. [-]"""

SAVED = {Objective.TIME: "step time", Objective.COST: "accelerator time", Objective.ENERGY: "energy"}
"""What is saved, by objective."""


def worth_data(worths: Sequence[HardwareWorth]) -> list[dict[str, Any]]:
    """Each improvement as plain JSON data, largest saving first.

    `possible` is false where there was nothing to improve. `accelerators_fraction` is null where it was not worked out and
    where no number of accelerators would save as much; `no_accelerators_would` tells the two apart.
    """
    return [
        {
            "name": worth.name,
            "change": worth.change,
            "possible": is_possible(worth),
            "saved_fraction": number(worth.saved_fraction),
            "saved_by_old_layout_fraction": number(worth.kept_fraction),
            "same_layout": worth.same_layout,
            "accelerators_fraction": number(worth.accelerators_fraction),
            "no_accelerators_would": math.isinf(worth.accelerators_fraction),
            "time_s": number(worth.estimate.time_s),
            "memory_bytes": number(worth.estimate.memory.total_bytes),
            "layout": layout_data(worth.estimate.layout),
        }
        for worth in worths
    ]


def is_possible(worth: HardwareWorth) -> bool:
    """Whether there was anything to improve."""
    return not worth.change.startswith("none")


def worth_table(worths: Sequence[HardwareWorth], *, objective: Objective = Objective.TIME) -> Group:
    """What each improvement saves, with the layout it needs; then what saves nothing."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("with", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("saves", "old layout", "accelerators"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("layout")
    useful = [worth for worth in worths if worth.saved_fraction >= LEAST_SHOWN]
    for worth in useful:
        table.add_row(
            worth.name,
            worth.change,
            percent(worth.saved_fraction),
            percent(worth.kept_fraction),
            _accelerators(worth.accelerators_fraction),
            "the same" if worth.same_layout else str(worth.estimate.layout),
        )
    parts: list[Any] = [
        Text(f"What a better cluster would save of the {SAVED[objective]}, one property at a time", style="bold")
    ]
    if useful:
        parts.append(table)
        parts.append(
            Text(
                "saves: with the layout that is then the best; old layout: without changing it; accelerators: as many "
                "more of them would save the same.",
                style="dim",
            )
        )
    useless = [worth for worth in worths if worth.saved_fraction < LEAST_SHOWN]
    if useless:
        parts.append(Text("Saves nothing: " + "; ".join(_in_words(worth) for worth in useless) + ".", style="dim"))
    return Group(*parts)


def _in_words(worth: HardwareWorth) -> str:
    """An improvement that saves nothing: "HBM capacity +10 %", "oversubscription (no tier is oversubscribed)"."""
    if is_possible(worth):
        return f"{worth.name} {worth.change}"
    return f"{worth.name} ({worth.change.removeprefix('none: ')})"


def _accelerators(fraction: float) -> str:
    """As "+3.1 %"; "none would" where no number saves as much; a dash where it was not worked out."""
    if math.isnan(fraction):
        return DASH
    return "none would" if math.isinf(fraction) else f"+{percent(fraction)}"


__all__ = ["is_possible", "worth_data", "worth_table"]
