"""A validation as a table for the terminal, as data, and as the page docs/validation.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from makespan.validation.result import RowResult, Summary, ValidationResult

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = (
    "profile",
    "accelerator",
    "rows",
    "median abs. error",
    "P90 abs. error",
    "median error",
    "80 % interval holds",
)
WORST_SHOWN = 15


def percent(value: float | None, *, signed: bool = False) -> str:
    """A share as per cent with one digit; a dash for none."""
    if value is None:
        return "-"
    return f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"


def _cells(summary: Summary) -> tuple[str, ...]:
    return (
        summary.profile,
        summary.accelerator,
        str(summary.num),
        percent(summary.median_absolute),
        percent(summary.p90_absolute),
        percent(summary.median_signed, signed=True),
        percent(summary.coverage),
    )


def summary_table(result: ValidationResult) -> Table:
    """Errors per profile and accelerator, with what could not be predicted in the caption."""
    from rich.table import Table

    tally = ", ".join(f"{count} {status}" for status, count in result.tallies.items())
    memory, identity = result.memory, result.identity
    caption = (
        f"{len(result.rows)} rows of {result.source}: {tally}. Positive: predicted slower than measured.\n"
        f"Memory, {memory.num} rows: median |error| {percent(memory.median_absolute)}, "
        f"median error {percent(memory.median_signed, signed=True)}. "
        f"Identity (printed FLOP rate from printed time), {identity.num} rows: median |error| "
        f"{percent(identity.median_absolute)}."
    )
    table = Table(title="Predicted against published step times", caption=caption, caption_justify="left")
    for position, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if position < 2 else "right")
    for summary in result.summaries:
        style = "bold" if summary.accelerator == "all" else ""
        table.add_row(*_cells(summary), style=style)
    return table


def as_data(result: ValidationResult) -> dict[str, Any]:
    """The whole result as plain data: SI units, shares between 0 and 1, null for none."""
    rows = []
    for row in result.rows:
        data = asdict(row)
        data |= {"error": row.error, "memory_error": row.memory_error, "is_covered": row.is_covered}
        rows.append(data)
    return {
        "version": result.version,
        "source": result.source,
        "tallies": dict(result.tallies),
        "summaries": [asdict(summary) for summary in result.summaries],
        "memory": asdict(result.memory),
        "identity": asdict(result.identity),
        "rows": rows,
        "identities": [asdict(identity) | {"error": identity.error} for identity in result.identities],
    }


def _markdown_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(headings)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]


def _worst(rows: Iterable[RowResult]) -> list[tuple[str, ...]]:
    ranked = sorted((row for row in rows if row.error is not None), key=lambda row: -abs(row.error or 0.0))
    return [
        (
            row.id,
            row.model,
            f"{row.num_accelerators} x {row.accelerator}",
            f"{row.step_time_s:.4g}",
            f"{row.published_step_time_s:.4g}",
            percent(row.error, signed=True),
            row.reason,
        )
        for row in ranked[:WORST_SHOWN]
    ]


def _missing(rows: Iterable[RowResult]) -> list[tuple[str, ...]]:
    reasons: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.step_time_s is None:
            key = (row.status, row.reason.split(";")[0])
            reasons[key] = reasons.get(key, 0) + 1
    return [
        (str(count), status, reason) for (status, reason), count in sorted(reasons.items(), key=lambda i: (-i[1], i[0]))
    ]


def page(result: ValidationResult) -> str:
    """The page docs/validation.md, made from a result."""
    split = sorted({row.split for row in result.rows})
    lines = [
        "# How accurate are the step times?",
        "",
        f"Written by `makespan validate --write`, version {result.version}, from {result.source}: {len(result.rows)} rows, "
        + ", ".join(f"{count} {status}" for status, count in result.tallies.items())
        + ". What the columns mean: [explain/validation.md](explain/validation.md).",
        "",
        f"**Split: {', '.join(split)}.** "
        + (
            "The constants of the profiles come from an exploration of these very rows, so the figures say how well a few "
            "physical constants describe many runs, not how well an unseen run is predicted. Rows that no fit has used: "
            "`makespan validate --rows FILE`."
            if split == ["development"]
            else "Rows marked `validation` are not among the shipped ones, so no profile was made with them."
        ),
        "",
        "## Predictions",
        "",
        "No number measured on a run goes into its prediction. Positive errors are too slow.",
        "",
        *_markdown_table(HEADINGS, (_cells(summary) for summary in result.summaries)),
        "",
        f"Peak memory, {result.memory.num} rows that print it: median error "
        f"{percent(result.memory.median_signed, signed=True)}, median |error| {percent(result.memory.median_absolute)}, "
        f"P90 |error| {percent(result.memory.p90_absolute)}.",
        "",
        "## Identities",
        "",
        f"The printed step time goes in and the printed FLOP rate should come out, under causal or full attention, whichever "
        f"is nearer: {result.identity.num} rows, median |error| {percent(result.identity.median_absolute)}, P90 "
        f"{percent(result.identity.p90_absolute)}. This checks the operation count; it is no accuracy of prediction.",
        "",
        f"## The {WORST_SHOWN} largest errors",
        "",
        *_markdown_table(
            ("row", "model", "machine", "predicted s", "published s", "error", "assumed"), _worst(result.rows)
        ),
        "",
        "## Rows without a prediction",
        "",
        *_markdown_table(("rows", "status", "reason"), _missing(result.rows)),
        "",
    ]
    return "\n".join(lines)
