"""A validation as a table for the terminal, as data, and as the page docs/validation.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from makespan.validation.result import COUNTED, RowResult, ScalePoint, Summary, ValidationResult
from makespan.validation.split import DEVELOPMENT, SPLITS, UNSEEN, VALIDATION
from makespan.validation.statistics import (
    GROUP_MEDIAN,
    INEXPRESSIBLE,
    MEDIAN,
    MEMORY,
    OFF_COVERAGE,
    P90,
    SCALING,
    SMALLEST_GROUP,
    Target,
    quantile,
)

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = ("configurations", "rows", "median", "P90", "bias", "80 % interval holds")
WORST_SHOWN = 15
SPLIT_WORDS = {
    DEVELOPMENT: "development rows (fits may use them)",
    VALIDATION: "validation rows (kept out of every fit)",
    UNSEEN: "rows that are not shipped",
}
TARGET_GROUPS = ("generation", "precision", "architecture", "parallelism")


def percent(value: float | None, *, signed: bool = False) -> str:
    """A share as per cent with one digit; a dash for none."""
    if value is None:
        return "-"
    return f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"


def _cells(summary: Summary) -> tuple[str, ...]:
    return (
        str(summary.num_configurations),
        str(summary.num),
        percent(summary.median_absolute),
        percent(summary.p90_absolute),
        percent(summary.median_signed, signed=True),
        percent(summary.coverage),
    )


def splits_of(result: ValidationResult) -> list[str]:
    """Splits that have predictions, in their order."""
    return [split for split in SPLITS if result.summary(split) is not None]


def scaling_errors(result: ValidationResult, split: str) -> list[float]:
    """Absolute errors of the ratios between scales."""
    return [abs(point.error) for point in result.scaling if point.split == split]


def summary_table(result: ValidationResult) -> Table:
    """Errors per split, group and profile, with what could not be predicted in the caption."""
    from rich.table import Table

    tally = ", ".join(f"{count} {status}" for status, count in result.tallies.items())
    memory, identity = result.memory, result.identity
    caption = (
        f"{len(result.rows)} rows of {result.source}: {tally}. Positive bias: predicted slower than measured.\n"
        f"Of the rows that count, {percent(result.expressible)} are expressed. Configurations measured more than once "
        f"({result.spread.num}) spread by {percent(result.spread.median)} at the median, {percent(result.spread.p90)} at P90.\n"
        f"Memory, {memory.num} rows: median |error| {percent(memory.median_absolute)}, "
        f"bias {percent(memory.median_signed, signed=True)}. "
        f"Identity (printed FLOP rate from printed time), {identity.num} rows: median |error| "
        f"{percent(identity.median_absolute)}."
    )
    table = Table(
        title="Predicted against published step times, each configuration once", caption=caption, caption_justify="left"
    )
    for position, heading in enumerate(("rows of", "group", *HEADINGS)):
        table.add_column(heading, justify="left" if position < 2 else "right")
    for summary in result.summaries:
        if summary.split == "all" or summary.group == "profile on":
            continue
        is_whole = summary.group == "all"
        group = "all" if is_whole else f"{summary.group} {summary.name}"
        table.add_row(summary.split, group, *_cells(summary), style="bold" if is_whole else "", end_section=is_whole)
    return table


def as_data(result: ValidationResult) -> dict[str, Any]:
    """The whole result as plain data: SI units, shares between 0 and 1, null for none."""
    rows = []
    for row in result.rows:
        data = asdict(row)
        data["groups"] = [list(pair) for pair in row.groups]
        data["choices"] = dict(row.choices)
        data |= {"error": row.error, "memory_error": row.memory_error, "is_covered": row.is_covered}
        rows.append(data)
    return {
        "version": result.version,
        "source": result.source,
        "tallies": dict(result.tallies),
        "standings": dict(result.standings),
        "expressible": result.expressible,
        "summaries": [asdict(summary) for summary in result.summaries],
        "scaling": [asdict(point) | {"error": point.error} for point in result.scaling],
        "spread": asdict(result.spread),
        "comparisons": [asdict(pair) | {"error": pair.error} for pair in result.comparisons],
        "comparison_spreads": [asdict(spread) for spread in result.comparison_spreads],
        "memory": asdict(result.memory),
        "identity": asdict(result.identity),
        "rows": rows,
        "identities": [asdict(identity) | {"error": identity.error} for identity in result.identities],
    }


def markdown_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    head = list(headings)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in row) + " |" for row in rows]


def _verdict(target: Target, value: float | None) -> str:
    return {"aim": "aim reached", "must": "reached", "missed": "**missed**", "": "-"}[target.verdict(value)]


def _headline(result: ValidationResult) -> list[str]:
    """Every measure against what it must and should reach, for each split."""
    splits = splits_of(result)

    def line(what: str, target: str, cells: Iterable[tuple[str, str]]) -> list[str]:
        return [what, target, *(f"{value}, {verdict}" if verdict != "-" else value for value, verdict in cells)]

    summaries = [result.summary(split) for split in splits]
    medians = [s.median_absolute if s else None for s in summaries]
    p90s = [s.p90_absolute if s else None for s in summaries]
    coverages = [s.coverage if s else None for s in summaries]
    scaling = [quantile(scaling_errors(result, split), 0.5) for split in splits]
    memory = [
        quantile([abs(r.memory_error) for r in result.rows if r.split == split and r.memory_error is not None], 0.5)
        for split in splits
    ]
    missing = None if result.expressible is None else 1.0 - result.expressible
    rows = [
        line("median error of step time", "5 % (3 %)", [(percent(v), _verdict(MEDIAN, v)) for v in medians]),
        line("90th percentile", "15 % (8 %)", [(percent(v), _verdict(P90, v)) for v in p90s]),
        line("ratio between scales, median error", "4 % (2 %)", [(percent(v), _verdict(SCALING, v)) for v in scaling]),
        line(
            "80 % interval holds",
            "70-90 % (78-82 %)",
            [(percent(v), _verdict(OFF_COVERAGE, None if v is None else abs(v - 0.8))) for v in coverages],
        ),
        line("peak memory, median error", "5 % (2 %)", [(percent(v), _verdict(MEMORY, v)) for v in memory]),
        line(
            "counting rows expressed, all splits",
            "95 % (all)",
            [(percent(result.expressible), _verdict(INEXPRESSIBLE, missing))] * len(splits),
        ),
    ]
    return markdown_table(("measure", "must (aim)", *splits), rows)


def _group_rows(result: ValidationResult, split: str) -> list[tuple[str, ...]]:
    rows = []
    for summary in result.summaries:
        if summary.split == split and summary.group in TARGET_GROUPS:
            verdict = (
                _verdict(GROUP_MEDIAN, summary.median_absolute)
                if summary.num_configurations >= SMALLEST_GROUP
                else f"fewer than {SMALLEST_GROUP}"
            )
            rows.append((summary.group, summary.name, *_cells(summary), verdict))
    return rows


def _profile_rows(result: ValidationResult, split: str) -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = []
    for summary in result.summaries:
        if summary.split != split:
            continue
        if summary.group == "profile":
            names.append((f"**{summary.name}**", "all", *_cells(summary)))
        elif summary.group == "profile on":
            profile, accelerator = summary.name.split(" on ", 1)
            names.append((profile, accelerator, *_cells(summary)))
    return sorted(names, key=lambda cells: (cells[0].strip("*"), cells[1] != "all", cells[1]))


def _scaling_rows(points: Sequence[ScalePoint]) -> list[tuple[str, ...]]:
    """One line a series."""
    series: dict[str, list[ScalePoint]] = {}
    for point in points:
        series.setdefault(point.series, []).append(point)
    lines = []
    for members in series.values():
        first = members[0]
        lines.append(
            (
                first.model,
                f"{first.accelerator}, {first.precision}",
                f"{first.smallest} to " + ", ".join(str(point.num_accelerators) for point in members),
                ", ".join(f"{point.measured:.3f}" for point in members),
                ", ".join(f"{point.predicted:.3f}" for point in members),
                percent(quantile([abs(point.error) for point in members], 0.5)),
                percent(members[-1].error, signed=True),
                first.split,
            )
        )
    return sorted(lines)


def _memory_rows(rows: Iterable[RowResult]) -> list[tuple[str, ...]]:
    return [
        (
            row.id,
            row.model,
            f"{row.num_accelerators} x {row.accelerator}",
            row.layout,
            f"{row.memory_gb:.1f}",
            f"{row.published_memory_gb:.1f}",
            percent(row.memory_error, signed=True),
            row.split,
        )
        for row in rows
        if row.memory_error is not None
    ]


def _worst(rows: Iterable[RowResult]) -> list[tuple[str, ...]]:
    counted = (row for row in rows if row.error is not None and row.standing == COUNTED)
    ranked = sorted(counted, key=lambda row: -abs(row.error or 0.0))
    return [
        (
            row.id,
            row.model,
            f"{row.num_accelerators} x {row.accelerator}",
            f"{row.step_time_s:.4g}",
            f"{row.published_step_time_s:.4g}",
            percent(row.error, signed=True),
            row.split,
            row.reason,
        )
        for row in ranked[:WORST_SHOWN]
    ]


def _apart(rows: Iterable[RowResult]) -> list[tuple[str, ...]]:
    """Rows that do not count, by why."""
    groups: dict[str, list[RowResult]] = {}
    for row in rows:
        if row.standing != COUNTED:
            groups.setdefault(row.standing, []).append(row)
    table: list[tuple[str, ...]] = []
    for standing, members in groups.items():
        errors = [row.error for row in members if row.error is not None]
        table.append(
            (
                standing,
                str(len(members)),
                str(len(errors)),
                percent(quantile([abs(e) for e in errors], 0.5)),
                percent(quantile(errors, 0.5), signed=True),
            )
        )
    return table


def _missing(rows: Iterable[RowResult]) -> list[tuple[str, ...]]:
    reasons: dict[tuple[str, str, str], int] = {}
    for row in rows:
        if row.step_time_s is None:
            key = (row.standing, row.status, row.reason.split(";")[0])
            reasons[key] = reasons.get(key, 0) + 1
    return [(str(count), *key) for key, count in sorted(reasons.items(), key=lambda i: (-i[1], i[0]))]


def _split_words(result: ValidationResult) -> str:
    families = {split: len({r.family for r in result.rows if r.split == split}) for split in SPLITS}
    counts = {split: sum(r.split == split for r in result.rows) for split in SPLITS}
    listed = "; ".join(
        f"{counts[split]} {SPLIT_WORDS[split]} in {families[split]} families" for split in SPLITS if counts[split]
    )
    text = f"**Split by family** (publisher, model, accelerator): {listed}."
    if counts[VALIDATION]:
        text += (
            " No fit has used a validation row since the split was made. Before that, the forms of the terms and the first "
            "constants of the profiles were chosen with all shipped rows in view, so the validation rows are fair to the fitted "
            "values and not to the choice of terms. Rows nobody has seen: `makespan validate --rows FILE`."
        )
    return text


def _section_of(result: ValidationResult, split: str) -> list[str]:
    """Groups and profiles of one split."""
    return [
        f"## {split.capitalize()} rows",
        "",
        f"Groups with {SMALLEST_GROUP} or more configurations have to stay under a median of 8 % (aim 5 %). Positive bias: "
        "predicted slower than measured.",
        "",
        *markdown_table(("group", "", *HEADINGS, "median against 8 % (5 %)"), _group_rows(result, split)),
        "",
        *markdown_table(("profile", "accelerator", *HEADINGS), _profile_rows(result, split)),
        "",
    ]


def _lists(result: ValidationResult) -> list[str]:
    """What is listed row by row: series, memory, identities, largest errors, rows apart."""
    return [
        "## Ratios between scales",
        "",
        "Runs that differ in the number of replicas alone (same release, model, precision, layout, batch of an accelerator): step "
        "time over the smallest size's.",
        "",
        *markdown_table(
            ("model", "accelerator", "accelerators", "measured", "predicted", "error", "split"),
            _scaling_rows(result.scaling),
        ),
        "",
        *_comparison_section(result),
        "## Peak memory",
        "",
        f"Every row that prints it: {result.memory.num} rows, median error "
        f"{percent(result.memory.median_absolute)}, P90 {percent(result.memory.p90_absolute)}, bias "
        f"{percent(result.memory.median_signed, signed=True)}. Units of 1e9 bytes on the fullest accelerator.",
        "",
        *markdown_table(
            ("row", "model", "machine", "layout", "predicted", "published", "error", "split"), _memory_rows(result.rows)
        ),
        "",
        "## Identities",
        "",
        f"The printed step time goes in and the printed FLOP rate should come out, under causal or full attention, whichever "
        f"is nearer: {result.identity.num} rows, median |error| {percent(result.identity.median_absolute)}, P90 "
        f"{percent(result.identity.p90_absolute)}. This checks the operation count; it is no accuracy of prediction.",
        "",
        f"## The {WORST_SHOWN} largest errors",
        "",
        *markdown_table(
            ("row", "model", "machine", "predicted s", "published s", "error", "split", "assumed"), _worst(result.rows)
        ),
        "",
        "## Rows that do not count",
        "",
        "LoRA, accelerators of other makers, rows without a size, the precision, a complete architecture or a measured time.",
        "",
        *markdown_table(("why", "rows", "predicted", "median error", "bias"), _apart(result.rows)),
        "",
        "## Rows without a prediction",
        "",
        *markdown_table(("rows", "standing", "status", "reason"), _missing(result.rows)),
        "",
    ]


def _comparison_section(result: ValidationResult) -> list[str]:
    """How well layouts are told apart."""
    rows = [
        (spread.split, spread.name, str(spread.num_groups), str(spread.num), percent(spread.sigma))
        for spread in result.comparison_spreads
    ]
    return [
        "## Comparisons between layouts",
        "",
        "Pairs of layouts that one release ran on one model, accelerator, precision and sequence length: predicted over measured "
        "ratio of their times. `same size`: on as many accelerators, which is what a search compares; a dimension: pairs that "
        "differ in it, and perhaps in others. Each group weighs the same. How near two layouts tie follows from `same size` of the "
        "development rows ([explain](explain/validation.md#comparisons-between-layouts)).",
        "",
        *markdown_table(("split", "pairs that differ in", "groups", "pairs", "sigma"), rows),
        "",
    ]


def page(result: ValidationResult) -> str:
    """The page docs/validation.md, made from a result."""
    lines = [
        "# How accurate are the step times?",
        "",
        f"Written by `makespan validate --write`, version {result.version}, from {result.source}: {len(result.rows)} rows, "
        + ", ".join(f"{count} {status}" for status, count in result.tallies.items())
        + ". What the columns mean: [explain/validation.md](explain/validation.md).",
        "",
        _split_words(result),
        "",
        "## Against the targets",
        "",
        "No number measured on a run goes into its prediction. Each configuration counts once, whatever number of releases "
        "measured it. Errors are |predicted / published - 1|.",
        "",
        *(_headline(result) if splits_of(result) else ["No counting row has both a prediction and a published time."]),
        "",
        f"**Noise floor.** {result.spread.num} configurations were measured more than once, mostly by several releases of one "
        f"publisher: largest over smallest time, less 1, is {percent(result.spread.median)} at the median and "
        f"{percent(result.spread.p90)} at the 90th percentile. No prediction that knows the configuration only can do better "
        "than about half of that.",
        "",
    ]
    for split in splits_of(result):
        lines += _section_of(result, split)
    return "\n".join([*lines, *_lists(result)])
