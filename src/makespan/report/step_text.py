"""A step as data and as terminal tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from makespan.report.bands import DIGITS
from makespan.report.bands import number as rounded
from makespan.report.labels import LAYOUT_STATUS, MEMORY, STEP_PARTS, label
from makespan.report.refusal import why_not
from makespan.specs.layout import Layout, LayoutStatus, Offload
from makespan.specs.step import StepChange, StepEstimate

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from makespan.specs.hardware import ClusterSpec, FrameworkProfile
    from makespan.specs.model import ModelSpec
    from makespan.specs.training import StepConfig

GIB = 2**30


def layout_data(layout: Layout) -> dict[str, Any]:
    """The layout as plain values."""
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
        "cp_kind": layout.cp_kind.name.lower(),
        "shard_size": layout.shard_size,
        "offload": [str(part.name).lower() for part in Offload if part & layout.offload],
        "cuda_graphs": layout.cuda_graphs.name.lower(),
        "ep_overlap": layout.ep_overlap,
        "order": layout.order.label,
        "num_accelerators": layout.num_accelerators,
    }


def change_data(change: StepChange, estimate: StepEstimate) -> dict[str, Any]:
    """One change that would help, as plain values. `saved_fraction` is null where the layout itself does not fit."""
    saved = 1.0 - change.time_s / estimate.time_s if estimate.status is LayoutStatus.OK else None
    return {
        "dimension": change.dimension,
        "before": change.before,
        "after": change.after,
        "layout": layout_data(change.layout),
        "time_s": rounded(change.time_s, EXACT_DIGITS),
        "memory_bytes": rounded(change.memory_bytes, EXACT_DIGITS),
        "saved_fraction": None if saved is None else rounded(saved, EXACT_DIGITS),
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


def step_data(
    estimate: StepEstimate, changes: Sequence[StepChange] = (), *, reason: str = "", evidence: str = ""
) -> dict[str, Any]:
    """What `makespan step --json` prints: the layout, its status, `step_figures` and the changes that would help.

    reason : why it cannot run.   evidence : one of `catalog.EVIDENCE`. Null where empty.
    """
    return {
        "layout": layout_data(estimate.layout),
        "status": estimate.status.name.lower(),
        "reason": reason or None,
        "bounds_s": [rounded(bound, EXACT_DIGITS) for bound in (estimate.lower_s, estimate.upper_s)],
        "executed_flop": rounded(estimate.executed_flop, EXACT_DIGITS),
        "provenance": estimate.provenance.name.lower(),
        "evidence": evidence or None,
        **step_figures(estimate, digits=EXACT_DIGITS),
        "changes": [change_data(change, estimate) for change in changes],
    }


def heading(model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile) -> str:
    """What runs where, in one line."""
    return (
        f"{model.name} on {cluster.num_accelerators:,} {cluster.accelerator.name}, {config.global_batch:,} x "
        f"{config.seq_len:,} tokens, {config.precision}, {profile.name}"
    )


def step_table(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    estimate: StepEstimate,
    changes: Sequence[StepChange] = (),
    *,
    evidence: str = "",
) -> Group:
    """One step: time by cause, memory by kind, utilisation, and what would help."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.text import Text

    head = Text(heading(model, config, cluster, profile), style="bold")
    layout = Text(
        f"layout: {estimate.layout}   ({estimate.layout.num_accelerators:,} used, {estimate.num_idle:,} idle)"
    )
    if estimate.time_s - estimate.time_s != 0:
        reason = why_not(model, config, cluster, profile, estimate.layout, estimate.status)
        return Group(head, layout, Text(f"cannot run: {reason}", style="red"))
    parts: list[Any] = [head, layout]
    if estimate.status is not LayoutStatus.OK:
        parts.append(Text(f"does not fit: {in_words(LAYOUT_STATUS, estimate.status.name.lower())}", style="red"))
    parts += [_summary(cluster, estimate), Columns([_times(estimate), _memory(estimate)], padding=(0, 4))]
    if changes:
        parts.append(_changes(estimate, changes))
    parts += [Text(f"note: {note}", style="dim") for note in estimate.notes]
    known = (
        f"Step times of {profile.name} on {cluster.accelerator.name} in {config.precision}: {evidence}. "
        if evidence
        else ""
    )
    weakest = f"The weakest kernel figure behind it is {estimate.provenance.name.lower()}."
    parts.append(Text(known + weakest, style="dim"))
    return Group(*parts)


def seconds_text(value: float) -> str:
    """Milliseconds of what takes a second or more, three digits of less."""
    return f"{value:.3f}" if value >= 1.0 else f"{value:#.3g}"


def _summary(cluster: ClusterSpec, estimate: StepEstimate) -> Table:
    from rich.table import Table

    summary = Table.grid(padding=(0, 2))
    summary.add_row(
        "step time",
        f"{seconds_text(estimate.time_s)} s",
        f"eight chances in ten: {seconds_text(estimate.p10_s)} to {seconds_text(estimate.p90_s)} s",
    )
    summary.add_row(
        "bounds",
        f"{seconds_text(estimate.lower_s)} s",
        f"if all overlaps at ideal kernels; {seconds_text(estimate.upper_s)} s if nothing does",
    )
    summary.add_row(
        "tokens/s",
        f"{estimate.tokens_per_s:,.0f}",
        f"{estimate.tokens_per_s / cluster.num_accelerators:,.0f} per accelerator",
    )
    summary.add_row(
        "MFU",
        f"{estimate.mfu:.1%}",
        f"{estimate.mfu_full_attention:.1%} counting full attention; HFU {estimate.hfu:.1%}; all of the 16-bit peak",
    )
    return summary


def _times(estimate: StepEstimate) -> Table:
    """Seconds by cause: what shows, and what runs behind something else."""
    from rich import box
    from rich.table import Table

    times = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    times.add_column("time on the slowest stage", no_wrap=True)
    for heading in ("exposed s", "share", "hidden s"):
        times.add_column(heading, justify="right")
    names = {*estimate.breakdown, *estimate.hidden}
    for name in sorted(names, key=lambda n: (-estimate.breakdown.get(n, 0.0), -estimate.hidden.get(n, 0.0))):
        seconds, hidden = estimate.breakdown.get(name, 0.0), estimate.hidden.get(name, 0.0)
        share = seconds / estimate.time_s
        times.add_row(
            in_words(STEP_PARTS, name),
            f"{seconds:.4f}",
            f"{share:.1%}" if share >= 0.0005 else "<0.1%",
            f"{hidden:.4f}" if hidden else "",
        )
    times.add_section()
    times.add_row("step", f"{estimate.time_s:.4f}", "100.0%")
    return times


def _memory(estimate: StepEstimate) -> Table:
    from rich import box
    from rich.table import Table

    layout = estimate.layout
    memory = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    where = f"stage {estimate.memory.stage + 1} of {layout.pp}" if layout.pp > 1 else "every accelerator"
    memory.add_column(f"memory, {where}", no_wrap=True)
    memory.add_column("GiB", justify="right")
    for name, size in estimate.memory.by_kind.items():
        memory.add_row(in_words(MEMORY, name), f"{size / GIB:.2f}")
    memory.add_section()
    memory.add_row("total", f"{estimate.memory.total_bytes / GIB:.2f}")
    memory.add_row("may be used", f"{estimate.memory.limit_bytes / GIB:.2f}")
    return memory


def _changes(estimate: StepEstimate, changes: Sequence[StepChange]) -> Table:
    """The changes of one dimension that help most, or that make the layout fit."""
    from rich import box
    from rich.table import Table

    fits = estimate.status is LayoutStatus.OK
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("what would help most" if fits else "what would make it fit", no_wrap=True)
    for heading in ("from", "to", "step s", "saves" if fits else "", "memory GiB"):
        table.add_column(heading, justify="right")
    for change in changes:
        table.add_row(
            CHANGES.get(change.dimension, change.dimension),
            change.before,
            change.after,
            seconds_text(change.time_s),
            f"{1.0 - change.time_s / estimate.time_s:.1%}" if fits else "",
            f"{change.memory_bytes / GIB:.1f}",
        )
    return table


CHANGES = {
    "tp": "tensor parallelism",
    "pp": "pipeline stages",
    "cp": "context parallelism",
    "ep": "expert parallelism",
    "etp": "tensor parallelism inside experts",
    "vpp": "chunks a stage (interleaving)",
    "micro_batch": "micro-batch",
    "recompute": "recomputation",
    "sharding": "sharding",
    "schedule": "pipeline schedule",
    "cp_kind": "kind of context parallelism",
    "ep_overlap": "all-to-all behind another micro-batch",
    "cuda_graphs": "recorded graphs",
    "order": "order of ranks on the fabric",
}
"""What a dimension of a layout is called."""


def in_words(table: Mapping[str, str], name: str) -> str:
    """What a part is called in a report."""
    text = label(table, name)
    return text[:1].lower() + text[1:]
