"""A step or a search as data and as terminal tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from makespan.report.bands import DIGITS
from makespan.report.bands import number as rounded
from makespan.report.labels import LAYOUT_STATUS, MEMORY, STEP_PARTS, label
from makespan.specs.step import SearchResult, StepEstimate

if TYPE_CHECKING:
    from rich.console import Group

    from makespan.specs.hardware import ClusterSpec, FrameworkProfile
    from makespan.specs.model import ModelSpec
    from makespan.specs.training import StepConfig

GIB = 2**30


def layout_data(estimate: StepEstimate) -> dict[str, Any]:
    """The layout as plain values."""
    layout = estimate.layout
    return {
        "tp": layout.tp,
        "pp": layout.pp,
        "cp": layout.cp,
        "dp": layout.dp,
        "ep": layout.ep,
        "etp": layout.etp,
        "vpp": layout.vpp,
        "micro_batch": layout.micro_batch,
        "schedule": layout.schedule.name.lower(),
        "recompute": layout.recompute.label,
        "sharding": layout.sharding.name.lower(),
        "sequence_parallel": layout.sequence_parallel,
        "num_accelerators": layout.num_accelerators,
    }


EXACT_DIGITS = 17
"""Significant digits that give back the very number: a step printed alone adds up to the last digit."""


def step_figures(estimate: StepEstimate, *, digits: int = DIGITS) -> dict[str, Any]:
    """Times, memory and utilisation of a step as plain JSON data, SI units; null for what does not exist."""

    def number(value: float) -> float | int | None:
        return rounded(value, digits)

    return {
        "time_s": number(estimate.time_s),
        "p10_s": number(estimate.p10_s),
        "p90_s": number(estimate.p90_s),
        "breakdown_s": {name: number(value) for name, value in estimate.breakdown.items()},
        "hidden_s": {name: number(value) for name, value in estimate.hidden.items()},
        "memory_bytes": {name: number(value) for name, value in estimate.memory.by_kind.items()},
        "memory_total_bytes": number(estimate.memory.total_bytes),
        "memory_limit_bytes": number(estimate.memory.limit_bytes),
        "model_flop": number(estimate.model_flop),
        "mfu": number(estimate.mfu),
        "mfu_full_attention": number(estimate.mfu_full_attention),
        "hfu": number(estimate.hfu),
        "tokens_per_step": number(estimate.tokens_per_step),
        "tokens_per_s": number(estimate.tokens_per_s),
        "num_accelerators": estimate.num_accelerators,
        "num_idle": estimate.num_idle,
        "notes": list(estimate.notes),
    }


def step_data(estimate: StepEstimate) -> dict[str, Any]:
    """What `makespan step --json` prints: the layout, its status and `step_figures`."""
    return {
        "layout": layout_data(estimate),
        "status": estimate.status.name.lower(),
        "bounds_s": [rounded(bound, EXACT_DIGITS) for bound in (estimate.lower_s, estimate.upper_s)],
        "executed_flop": rounded(estimate.executed_flop, EXACT_DIGITS),
        "provenance": estimate.provenance.name.lower(),
        **step_figures(estimate, digits=EXACT_DIGITS),
    }


def search_data(result: SearchResult) -> dict[str, Any]:
    """A search as plain JSON data."""
    return {
        "num_layouts": result.num_layouts,
        "num_feasible": result.num_feasible,
        "infeasible": {status.name.lower(): count for status, count in result.infeasible.items() if count},
        "best": None if result.best is None else step_data(result.best),
        "top": [step_data(estimate) for estimate in result.top],
        "pareto": [step_data(estimate) for estimate in result.pareto],
        "nearest": None
        if result.nearest is None
        else {"layout": str(result.nearest[0]), "missing_bytes": result.nearest[1]},
    }


def _heading(model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile) -> str:
    return (
        f"{model.name} on {cluster.num_accelerators:,} {cluster.accelerator.name}, {config.global_batch:,} x "
        f"{config.seq_len:,} tokens, {config.precision}, {profile.name}"
    )


def step_table(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, estimate: StepEstimate
) -> Group:
    """One step: time by cause, memory by kind, utilisation."""
    from rich import box
    from rich.columns import Columns
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text(_heading(model, config, cluster, profile), style="bold")
    layout = Text(
        f"layout: {estimate.layout}   ({estimate.layout.num_accelerators:,} used, {estimate.num_idle:,} idle)"
    )
    if estimate.time_s - estimate.time_s != 0:
        return Group(
            head, layout, Text(f"cannot run: {_words(LAYOUT_STATUS, estimate.status.name.lower())}", style="red")
        )
    summary = Table.grid(padding=(0, 2))
    summary.add_row(
        "step time", f"{estimate.time_s:.3f} s", f"eight chances in ten: {estimate.p10_s:.3f} to {estimate.p90_s:.3f} s"
    )
    summary.add_row(
        "bounds",
        f"{estimate.lower_s:.3f} s",
        f"if all overlaps at ideal kernels; {estimate.upper_s:.3f} s if nothing does",
    )
    summary.add_row(
        "tokens/s",
        f"{estimate.tokens_per_s:,.0f}",
        f"{estimate.tokens_per_s / cluster.num_accelerators:,.0f} per accelerator",
    )
    summary.add_row(
        "MFU",
        f"{estimate.mfu:.1%}",
        f"{estimate.mfu_full_attention:.1%} counting full attention; HFU {estimate.hfu:.1%}",
    )
    times = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    times.add_column("time, exposed", no_wrap=True)
    times.add_column("s", justify="right")
    times.add_column("share", justify="right")
    for name, seconds in sorted(estimate.breakdown.items(), key=lambda item: -item[1]):
        if seconds > 0:
            share = seconds / estimate.time_s
            times.add_row(_words(STEP_PARTS, name), f"{seconds:.4f}", f"{share:.1%}" if share >= 0.0005 else "<0.1%")
    memory = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    memory.add_column("memory, fullest accelerator", no_wrap=True)
    memory.add_column("GiB", justify="right")
    for name, size in estimate.memory.by_kind.items():
        memory.add_row(_words(MEMORY, name), f"{size / GIB:.2f}")
    memory.add_section()
    memory.add_row("total", f"{estimate.memory.total_bytes / GIB:.2f}")
    memory.add_row("may be used", f"{estimate.memory.limit_bytes / GIB:.2f}")
    parts: list[Any] = [head, layout]
    if estimate.status.name != "OK":
        parts.append(Text(f"does not fit: {_words(LAYOUT_STATUS, estimate.status.name.lower())}", style="red"))
    parts += [summary, Columns([times, memory], padding=(0, 4))]
    parts += [Text(f"note: {note}", style="dim") for note in estimate.notes]
    parts.append(Text(f"The weakest kernel figure it stands on is {estimate.provenance.name.lower()}.", style="dim"))
    return Group(*parts)


def search_table(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, result: SearchResult
) -> Group:
    """The fastest layouts, and the tally of the others."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text(_heading(model, config, cluster, profile), style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layout")
    for heading in ("step s", "MFU", "tokens/s", "memory GiB", "used", "idle"):
        table.add_column(heading, justify="right")
    for estimate in result.top:
        table.add_row(
            str(estimate.layout),
            f"{estimate.time_s:.3f}",
            f"{estimate.mfu:.1%}",
            f"{estimate.tokens_per_s:,.0f}",
            f"{estimate.memory.total_bytes / GIB:.1f}",
            f"{estimate.layout.num_accelerators:,}",
            f"{estimate.num_idle:,}",
        )
    return Group(head, table, Text(_tally(result), style="dim"))


def _words(table: Mapping[str, str], name: str) -> str:
    """What a part is called in a report."""
    text = label(table, name)
    return text[:1].lower() + text[1:]


def _tally(result: SearchResult) -> str:
    out = ", ".join(
        f"{count:,} {_words(LAYOUT_STATUS, status.name.lower())}"
        for status, count in sorted(result.infeasible.items(), key=lambda item: -item[1])
        if count
    )
    return f"{result.num_layouts:,} layouts, {result.num_feasible:,} fit" + (f"; out: {out}" if out else "")


def why_nothing_fits(result: SearchResult) -> str:
    """The answer when no layout fits: what stopped them, and how near the nearest came."""
    lines = ["no layout fits", f"  - {_tally(result)}"]
    if result.num_layouts == 0:
        lines[1] = (
            "  - the sizes that were fixed leave nothing to look at: one replica needs more accelerators than there are, or "
            "more of them would idle than allowed"
        )
    if result.nearest is not None:
        layout, missing = result.nearest
        lines.append(f"  - the nearest, {layout}, lacks {missing / GIB:.1f} GiB an accelerator")
    return "\n".join(lines)
