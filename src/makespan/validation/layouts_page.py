"""The ledger of published layouts as a table for the terminal, as data, and as the page docs/layouts.md."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from makespan.validation.layouts import (
    DIMENSIONS,
    EXPLAINED,
    MISSED,
    OUTSIDE,
    REASONS,
    TIE,
    VERDICTS,
    LayoutLedger,
    PublishedLayout,
)
from makespan.validation.page import markdown_table, percent
from makespan.validation.split import DEVELOPMENT, SPLITS, VALIDATION
from makespan.version import __version__

if TYPE_CHECKING:
    from rich.table import Table

MUST, AIM = 0.80, 0.95
"""Share of runs whose published layout has to be, and should be, a tie or explained."""

FEWEST_SHOWN = 3
"""Runs from which a direction is listed."""


def machine_of(run: PublishedLayout) -> str:
    """`64 x h100-sxm, fp8, 128 x 8192`."""
    return f"{run.num_accelerators} x {run.accelerator}, {run.precision}, {run.global_batch} x {run.seq_len}"


def _by_profile(ledger: LayoutLedger) -> list[tuple[str, ...]]:
    """Verdicts of each profile, and of all."""
    profiles = sorted({run.profile for run in ledger.runs})
    groups = [("all", list(ledger.runs))]
    groups += [(split, [run for run in ledger.runs if run.split == split]) for split in SPLITS]
    groups += [("dense", [run for run in ledger.runs if not run.is_mixture])]
    groups += [("mixtures of experts", [run for run in ledger.runs if run.is_mixture])]
    groups += [(profile, [run for run in ledger.runs if run.profile == profile]) for profile in profiles]
    rows = []
    for name, runs in groups:
        if not runs:
            continue
        counts = Counter(run.verdict for run in runs)
        share = (counts[TIE] + counts[EXPLAINED]) / len(runs)
        rows.append((name, str(len(runs)), *(str(counts[verdict]) for verdict in VERDICTS), percent(share)))
    return rows


HEADINGS = ("runs of", "runs", *VERDICTS, "tie or explained")


def layouts_table(ledger: LayoutLedger) -> Table:
    """Verdicts by split and profile."""
    from rich.table import Table

    worst = min(ledger.runs, key=lambda run: run.ratio, default=None)
    caption = (
        f"{len(ledger.runs)} distinct runs of {ledger.num_rows} rows. The published layout is predicted faster than the best "
        f"found in {ledger.num_worse}; from outside the space in {ledger.num_outside}."
    )
    if worst is not None:
        caption += f" Widest: {worst.id}, {worst.model}, best {percent(1.0 - worst.ratio)} faster ({worst.verdict})."
    table = Table(title="Published layouts against the search", caption=caption, caption_justify="left")
    for position, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if position else "left")
    for row in _by_profile(ledger):
        table.add_row(*row)
    return table


def layouts_as_data(ledger: LayoutLedger) -> dict[str, Any]:
    """The whole ledger as plain data: SI units, shares between 0 and 1, null for none."""

    def data_of(run: PublishedLayout) -> dict[str, Any]:
        data = asdict(run)
        data |= {"layout": str(run.layout), "best": str(run.best), "held": dict(run.held), "leading": run.leading}
        data = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in data.items()
        }
        return data | {
            "ratio": run.ratio if math.isfinite(run.ratio) else None,
            "changes": [list(change) for change in run.changes],
        }

    return {
        "version": __version__,
        "num_rows": ledger.num_rows,
        "num_runs": len(ledger.runs),
        "num_worse": ledger.num_worse,
        "num_outside": ledger.num_outside,
        "tallies": {split: ledger.tally(split) for split in ("all", DEVELOPMENT, VALIDATION)},
        "share": ledger.share(),
        "share_of_rows": ledger.share_of_rows(),
        "must": MUST,
        "aim": AIM,
        "memory_margin": ledger.memory_margin,
        "directions": [[*key, count] for key, count in ledger.directions().items()],
        "runs": [data_of(run) for run in ledger.runs],
    }


def _run_rows(runs: Iterable[PublishedLayout]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for run in sorted(runs, key=lambda run: run.ratio):
        held = ", ".join(
            f"{name} {percent(1.0 - ratio)}" for name, ratio in sorted(run.held.items(), key=lambda i: -i[1])[:3]
        )
        memory = f"{percent(run.memory_fraction)}, {percent(run.best_memory_fraction)}"
        machine = f"{run.model}, {machine_of(run)}, {run.profile}"
        rows.append(
            (
                run.id,
                machine,
                str(run.layout),
                str(run.best),
                percent(1.0 - run.ratio),
                held or "-",
                ", ".join(run.together) or "-",
                memory,
            )
        )
    return rows


def _reason_rows(ledger: LayoutLedger) -> list[tuple[str, ...]]:
    counts = Counter((run.reason.kind, run.reason.dimension) for run in ledger.runs if run.reason is not None)
    ordered = sorted(counts.items(), key=lambda item: (REASONS.index(item[0][0]), -item[1], item[0]))
    return [(kind, dimension or "-", str(count)) for (kind, dimension), count in ordered]


def _direction_rows(ledger: LayoutLedger) -> list[tuple[str, ...]]:
    found = [(name, way, count) for (name, way), count in ledger.directions().items() if count >= FEWEST_SHOWN]
    return [
        (name, way, str(count))
        for name, way, count in sorted(found, key=lambda f: (DIMENSIONS.index(f[0]), -f[2], f[1]))
    ]


def _outside_words(ledger: LayoutLedger) -> str:
    """` (micro_batch 12, ep 3)`: dimensions in which layouts lie outside."""
    counts = Counter(name for run in ledger.runs for name in run.outside)
    words = ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return f" ({words})" if words else ""


def layouts_page(ledger: LayoutLedger) -> str:
    """The page docs/layouts.md, made from a ledger."""
    ties = sorted({round(run.tie_fraction, 3) for run in ledger.runs})
    share = ledger.share() or 0.0
    verdict = "aim reached" if share >= AIM else "reached" if share >= MUST else "**missed**"
    over = sum(run.memory_fraction > 1.0 for run in ledger.runs)
    lines = [
        "# Published layouts against the search",
        "",
        f"Written by `makespan validate --layouts --write`, version {__version__}: {len(ledger.runs)} distinct runs of "
        f"{ledger.num_rows} rows that state their layout. What the words mean: "
        "[explain/validation.md](explain/validation.md#published-layouts-against-the-search).",
        "",
        f"* **Never worse than the published layout, both predicted:** violated in {ledger.num_worse} runs. In "
        f"{ledger.num_outside} more the published layout lies outside the space and is predicted faster{_outside_words(ledger)}.",
        f"* **Published layouts among the ties or explained:** {percent(share)} of the runs, {verdict} (must 80 %, aim 95 %); "
        f"{percent(ledger.share_of_rows())} of the rows. "
        f"A tie is a layout within {', '.join(percent(tie) for tie in ties)} of the best.",
        f"* Published layouts that the memory model has above the accelerator's memory: {over}. The search was given as much.",
        "",
        *markdown_table(HEADINGS, _by_profile(ledger)),
        "",
        "## Reasons",
        "",
        f"`memory`: with the memory smaller by the memory model's P90 error ({percent(ledger.memory_margin)}) the published layout "
        "is a tie. `held`: with this one dimension as published it is, and the publisher kept it over three runs or more of the "
        "model. `recipe`: the same layout is a tie in another run of the publisher. `space`: the published layout is predicted faster, by less than a tie, with a value that the "
        "search does not look at.",
        "",
        *markdown_table(("reason", "dimension", "runs"), _reason_rows(ledger)),
        "",
        "## Which way the search leans",
        "",
        "Runs that are no ties, explained or not: how the best layout differs from the published one. A dimension that leans to "
        "one side over many publishers is a doubt about a term of the step model.",
        "",
        *markdown_table(("dimension", "best has", "runs"), _direction_rows(ledger)),
        "",
        "## Missed",
        "",
        "No tie and no reason. `gain`: what the best saves of the published time. `left with`: the gain that is left when the "
        "dimension stays as published, least first. `together`: dimensions that the publisher never varied, which make the difference vanish only when several are "
        f"kept ({sum(bool(run.together) for run in ledger.runs)} runs; no explanation, since each addition explains more). Memory: "
        "predicted need over what there is, published and best.",
        "",
        *markdown_table(
            ("row", "run", "published", "best", "gain", "left with", "together", "memory"),
            _run_rows(run for run in ledger.runs if run.verdict in (MISSED, OUTSIDE)),
        ),
        "",
    ]
    return "\n".join(lines)
