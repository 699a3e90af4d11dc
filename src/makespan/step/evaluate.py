"""Time, bounds, memory and status of many layouts at once. The scalar `step_estimate` is this with one row.

Layers depend on few of a layout's sizes, so they are computed once for each distinct combination (`layer`) and looked up;
what is left per row is the pipeline, data parallelism and memory. Loops run over operators, never over layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from makespan.network import point_to_point_s
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import LayoutStatus, Schedule
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step import legality
from makespan.step.arrays import FloatArray, IntArray, LayoutArrays, StepArrays
from makespan.step.blocks import ACTIVATION_BYTES
from makespan.step.data_parallel import data_parallel_times, fully_sharded
from makespan.step.layer import LayerTimes, head_times, layer_times
from makespan.step.memory import memory_bytes, memory_columns, stage_state, with_optimizer
from makespan.step.pipeline import StagePlan, bubble_s, plan_stages
from makespan.step.schedules import PassTimes, batch_s
from makespan.workload import layer_kinds

CHUNK_ROWS = 16384
"""Rows at a time: the working arrays of a chunk stay in a core's cache."""

_KEY_FIELDS = (
    *("tp", "cp", "ep", "etp", "micro_batch", "recompute", "sequence_parallel"),
    *("cp_kind", "offload", "cuda_graphs", "ep_overlap", "schedule"),
)
"""What the times of a layer depend on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerTable:
    """Layer times of every kind and head times, for every distinct combination. `index` maps a layout to its row."""

    kinds: tuple[LayerTimes, ...]
    head: LayerTimes
    index: IntArray

    def of_kinds(self, values: Sequence[FloatArray]) -> FloatArray:
        """Values by kind looked up for every layout. Shape (kinds, layouts)."""
        return np.stack([value[self.index] for value in values])


def _distinct(layouts: LayoutArrays) -> tuple[LayoutArrays, IntArray]:
    """Distinct key rows, and for each layout the row of its key. Counting sort by field: no comparison sort."""
    if len(layouts) == 1:
        return layouts, np.zeros(1, dtype=np.int64)
    code = np.zeros(len(layouts), dtype=np.int64)
    for name in _KEY_FIELDS:
        column = getattr(layouts, name)
        present = np.zeros(int(column.max()) + 1, dtype=np.int64)
        present[column] = 1
        rank = np.cumsum(present) - 1
        code = code * int(present.sum()) + rank[column]
    seen = np.full(int(code.max()) + 1, -1, dtype=np.int64)
    seen[code] = np.arange(len(code))
    first = np.flatnonzero(seen >= 0)
    rows = seen[first]
    seen[first] = np.arange(len(first))
    return layouts.take(rows), seen[code]


def layer_table(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, layouts: LayoutArrays
) -> LayerTable:
    """Times of layers and head for every distinct combination of the sizes they depend on."""
    keys, index = _distinct(layouts)
    return LayerTable(
        kinds=tuple(layer_times(model, config, cluster, profile, keys, kind=kind) for kind in layer_kinds(model)),
        head=head_times(model, config, cluster, profile, keys),
        index=index,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """One micro-batch: which stage is slowest and what it holds. Shapes (layouts,), layers (kinds, layouts).

    slot : time on the slowest stage.   everything : summed over all stages. [s]   layers, heads : of the slowest stage.
    """

    slot: FloatArray
    everything: FloatArray
    layers: FloatArray
    heads: FloatArray


def slots_of(
    model: ModelSpec, plan: StagePlan, layer_s: FloatArray, head_s: FloatArray, alone: NDArray[np.bool_]
) -> Slots:
    """The slowest stage: body, last, or the one before it with the prediction layers.

    layer_s : of each kind, shape (kinds, layouts).   head_s : shape (layouts,).
    """
    mtp_heads = model.mtp_layers * (1.0 - plan.mtp_apart)
    candidates = [
        ((plan.last * layer_s).sum(axis=0) + (1.0 + mtp_heads) * head_s, plan.last, 1.0 + mtp_heads),
        ((plan.body * layer_s).sum(axis=0), plan.body, np.zeros_like(head_s)),
    ]
    if model.mtp_layers:
        own = model.mtp_layers * plan.mtp_apart
        candidates.append(((plan.before_last * layer_s).sum(axis=0) + own * head_s, plan.before_last, own))
    slot, layers, heads = candidates[0]
    for time, counts, with_heads in candidates[1:]:
        slower = (time > slot) & ~alone
        slot, layers, heads = (
            np.where(slower, time, slot),
            np.where(slower, counts, layers),
            np.where(slower, with_heads, heads),
        )
    total = np.array([float(kind.count + kind.mtp) for kind in layer_kinds(model)])
    everything = total @ layer_s + (1.0 + model.mtp_layers) * head_s
    return Slots(slot=slot, everything=everything, layers=layers, heads=np.broadcast_to(heads, slot.shape))


def pass_times(layers: FloatArray, heads: FloatArray, table: LayerTable) -> PassTimes:
    """Forward, input-gradient and weight-gradient seconds of some layers and heads. Shapes (kinds, layouts), (layouts,)."""
    parts = [*table.kinds, table.head]
    counts = np.concatenate([layers, heads[None]])
    forward = (counts * np.stack([part.forward_s[table.index] for part in parts])).sum(axis=0)
    weight = (counts * np.stack([part.weight_s[table.index] for part in parts])).sum(axis=0)
    busy = (counts * np.stack([part.busy_s[table.index] for part in parts])).sum(axis=0)
    return PassTimes(forward_s=forward, input_grad_s=busy - forward - weight, weight_grad_s=weight)


def _other_schedules(
    model: ModelSpec,
    layouts: LayoutArrays,
    table: LayerTable,
    plan: StagePlan,
    slots: Slots,
    bubble: FloatArray,
    count: IntArray,
) -> tuple[Slots, FloatArray]:
    """Slots and bubble where the schedule is not 1F1B (see `schedules.batch_s`).

    A rank of DualPipe works on two stages from opposite ends, so its slot is that of a mean stage.
    """
    heads = np.ones(len(layouts))
    nothing = np.zeros(len(layouts))
    body, first = pass_times(plan.body, nothing, table), pass_times(plan.first, nothing, table)
    last = pass_times(plan.last, heads + model.mtp_layers * (1.0 - plan.mtp_apart), table)
    two_ways = layouts.schedule == int(Schedule.DUALPIPE)
    kinds = layer_kinds(model)
    mean = np.array([float(kind.count + kind.mtp) for kind in kinds])[:, None] / layouts.pp
    chosen = Slots(
        slot=np.where(two_ways, slots.everything / layouts.pp, slots.slot),
        everything=slots.everything,
        layers=np.where(two_ways, mean, slots.layers),
        heads=np.where(two_ways, (1.0 + model.mtp_layers) / layouts.pp, slots.heads),
    )
    total = batch_s(
        layouts.schedule,
        body=body,
        first=first,
        last=last,
        pp=layouts.pp,
        vpp=layouts.vpp,
        num_micro_batches=count,
    )
    other = (layouts.schedule > 0) & (layouts.pp > 1)
    return chosen, np.where(other, np.maximum(total - count * chosen.slot, 0.0), bubble)


def pipe_traffic_s(model: ModelSpec, config: StepConfig, cluster: ClusterSpec, layouts: LayoutArrays) -> FloatArray:
    """One activation to the next stage, or its gradient back. 0 without a pipeline. [s]"""
    spread = np.where(layouts.sequence_parallel > 0, layouts.tp, 1)
    message = layouts.micro_batch * (config.seq_len / layouts.cp) * model.hidden * ACTIVATION_BYTES / spread
    once = point_to_point_s(cluster.fabric, np.asarray(layouts.tp * layouts.cp * layouts.dp, dtype=np.float64), message)
    return np.asarray(np.where(layouts.pp > 1, once, 0.0))


def jitter_factor(profile: FrameworkProfile, num_accelerators: IntArray, *, precision: str) -> FloatArray:
    """Step time over that of a run small enough not to wait for stragglers. [-]"""
    doublings = np.log2(np.maximum(num_accelerators / profile.jitter_from, 1.0))
    each = profile.jitter_per_doubling + (profile.jitter_per_doubling_fp8 if precision == "fp8" else 0.0)
    return np.asarray(1.0 + each * doublings)


def _evaluate_rows(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    table: LayerTable,
    *,
    detail: bool,
) -> dict[str, FloatArray]:
    """Columns for layouts that break no structural rule."""
    index, head = table.index, table.head
    busy = table.of_kinds([times.busy_s for times in table.kinds])
    plan = plan_stages(model, layouts, busy_s=busy)
    alone = layouts.pp == 1
    slots = slots_of(model, plan, busy, head.busy_s[index], alone)
    count = layouts.num_micro_batches(config.global_batch)
    bubble = bubble_s(slots.slot, slots.everything, vpp=layouts.vpp)
    if np.any(layouts.schedule):
        slots, bubble = _other_schedules(model, layouts, table, plan, slots, bubble, count)

    hop = pipe_traffic_s(model, config, cluster, layouts)
    pipe = 2.0 * layouts.vpp * hop * count
    handover = profile.chunk_overhead_s * np.where(layouts.pp > 1, layouts.vpp * count, 0)
    pipe_exposed = np.maximum(profile.pp_exposed * pipe, pipe - count * slots.slot)
    fill = 2.0 * (layouts.pp - 1) * hop
    batch = count * slots.slot + bubble

    state = stage_state(model, layouts, plan)
    forward_layers = table.of_kinds([times.forward_s for times in table.kinds])
    forward = np.minimum((slots.layers * forward_layers).sum(axis=0) + slots.heads * head.forward_s[index], slots.slot)
    data = data_parallel_times(
        model,
        config,
        cluster,
        profile,
        layouts,
        state,
        num_layers=np.maximum(plan.first.sum(axis=0), plan.last.sum(axis=0)),
        num_micro_batches=count,
        forward_s=forward,
        backward_s=slots.slot - forward,
    )
    quiet = batch + pipe_exposed + handover + fill + data.exposed_s + data.optimizer_s
    factor = jitter_factor(profile, layouts.num_accelerators, precision=config.precision)
    memory = memory_bytes(model, config, profile, layouts, plan, state, detail=detail)

    ideal_s = table.of_kinds([times.ideal_s for times in table.kinds])
    ideal = slots_of(model, plan, ideal_s, head.ideal_s[index], alone)
    unhurried = np.where(layouts.schedule >= int(Schedule.ZERO_BUBBLE), ideal.everything / layouts.pp, ideal.slot)
    ideal_batch = count * unhurried + np.where(
        layouts.schedule >= int(Schedule.ZERO_BUBBLE), 0.0, bubble_s(ideal.slot, ideal.everything, vpp=layouts.vpp)
    )
    hidden_layers = table.of_kinds([times.hidden_s for times in table.kinds])
    hidden_inside = count * ((slots.layers * hidden_layers).sum(axis=0) + slots.heads * head.hidden_s[index])
    columns = {
        "time_s": quiet * factor,
        "lower_s": np.maximum(ideal_batch, data.traffic_s),
        "upper_s": (batch + hidden_inside + pipe + handover + fill + data.traffic_s + data.optimizer_s) * factor,
        "memory_bytes": memory.total_bytes,
    }
    if detail:
        columns |= _detail(table, slots, count, index)
        sharded = fully_sharded(layouts)
        columns |= {
            "time.pp": pipe_exposed + handover + fill,
            "time.dp": np.where(sharded, 0.0, data.exposed_s),
            "time.fsdp": np.where(sharded, data.exposed_s, 0.0),
            "time.bubble": bubble,
            "time.optimizer": data.optimizer_s,
            "time.jitter": quiet * (factor - 1.0),
            "hidden.pp": pipe - pipe_exposed,
            "hidden.dp": np.where(sharded, 0.0, data.traffic_s - data.exposed_s),
            "hidden.fsdp": np.where(sharded, np.maximum(data.traffic_s - data.exposed_s, 0.0), 0.0),
            "memory.stage": memory.stage.astype(np.float64),
            "executed_flop": _executed_flop(model, config, layouts, table),
        }
        columns |= memory_columns(memory)
    return columns


def _memory_of_rows(
    model: ModelSpec, config: StepConfig, profile: FrameworkProfile, layouts: LayoutArrays, table: LayerTable
) -> FloatArray:
    """Peak bytes of layouts that break no structural rule, without their times. Shape (layouts,). [B]"""
    plan = plan_stages(model, layouts, busy_s=table.of_kinds([times.busy_s for times in table.kinds]))
    state = stage_state(model, layouts, plan)
    return memory_bytes(model, config, profile, layouts, plan, state).total_bytes


def _executed_flop(model: ModelSpec, config: StepConfig, layouts: LayoutArrays, table: LayerTable) -> FloatArray:
    """FLOP of all kernels of a step over all ranks, every sequence once. [FLOP]"""
    rank = (1.0 + model.mtp_layers) * table.head.executed_flop
    for kind, times in zip(layer_kinds(model), table.kinds, strict=True):
        rank = rank + (kind.count + kind.mtp) * times.executed_flop
    sequences = config.global_batch / layouts.micro_batch
    return np.asarray(rank[table.index] * layouts.tp * layouts.cp * sequences)


def _detail(table: LayerTable, slots: Slots, count: IntArray, index: IntArray) -> dict[str, FloatArray]:
    """Seconds by operator and collective on the slowest stage, over all its micro-batches."""
    columns: dict[str, FloatArray] = {}
    parts = [(table.head, slots.heads), *zip(table.kinds, slots.layers, strict=True)]
    for times, layers in parts:
        for prefix, values in (("time", times.compute), ("time", times.exposed), ("hidden", times.hidden)):
            for name, value in values.items():
                key = f"{prefix}.{name}"
                columns[key] = columns.get(key, 0.0) + count * layers * value[index]
    return columns


def evaluate(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    *,
    memory_headroom: float = 0.0,
    detail: bool = False,
    fitting_only: bool = False,
) -> StepArrays:
    """Time, bounds, memory and status of every layout.

    Parameters
    ----------
    layouts : columns of shape (layouts,).
    memory_headroom : share of the accelerator's memory that must stay free. [-]
    detail : also fill `StepArrays.detail`: `time.*` (adds up to the time), `hidden.*`, `memory.*`, `executed_flop`.
    fitting_only : leave the times of layouts that lack memory NaN. Most of a search's space lacks memory, so this is
        several times faster.

    Returns
    -------
    StepArrays : the first broken rule of a layout is its status. Times and memory are NaN under a structural status or
        NOT_SUPPORTED, and given under OUT_OF_MEMORY.
    """
    config = with_optimizer(config, profile)
    status = np.empty(len(layouts), dtype=np.int64)
    blocked = np.empty(len(layouts), dtype=np.bool_)
    for start in range(0, len(layouts), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        rows = layouts if len(layouts) <= CHUNK_ROWS else layouts.take(part)
        status[part] = legality.structural_status(model, config, cluster, rows)
        blocked[part] = legality.unsupported(config, cluster, profile, rows)
    runnable = np.flatnonzero((status == 0) & ~blocked)
    names = [field.name for field in fields(StepArrays) if field.name not in ("status", "detail")]
    results: dict[str, FloatArray] = {name: np.full(len(layouts), np.nan) for name in names}
    if len(runnable):
        rows = layouts if len(runnable) == len(layouts) else layouts.take(runnable)
        table = layer_table(model, config, cluster, profile, rows)
        limit = cluster.accelerator.hbm_bytes * (1.0 - memory_headroom)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = np.arange(start, min(start + CHUNK_ROWS, len(rows)))
            some, piece = rows, table
            if len(rows) > CHUNK_ROWS:
                some, piece = rows.take(chunk), replace(table, index=table.index[chunk])
            if fitting_only:
                needs = _memory_of_rows(model, config, profile, some, piece)
                results["memory_bytes"][runnable[chunk]] = needs
                enough = np.flatnonzero(needs <= limit)
                if not len(enough):
                    continue
                chunk = chunk[enough]
                some, piece = some.take(enough), replace(piece, index=piece.index[enough])
            columns = _evaluate_rows(model, config, cluster, profile, some, piece, detail=detail)
            for name, values in columns.items():
                if name not in results:
                    results[name] = np.full(len(layouts), np.nan)
                results[name][runnable[chunk]] = values
        full = np.zeros(len(layouts), dtype=bool)
        full[runnable] = results["memory_bytes"][runnable] > limit
        status[full] = int(LayoutStatus.OUT_OF_MEMORY)
    status[(status == 0) & blocked] = int(LayoutStatus.NOT_SUPPORTED)
    detail_columns = {name: values for name, values in results.items() if name not in names}
    return StepArrays(status=status, detail=detail_columns, **{name: results[name] for name in names})
