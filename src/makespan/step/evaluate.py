"""Time, bounds, memory and status of many layouts at once. The scalar `step_estimate` is this with one row.

Layers depend on few of a layout's sizes, so they are computed once for each distinct combination (`layer`) and looked up;
what is left per row is the pipeline, data parallelism and memory. Loops run over operators, never over layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from makespan.network import point_to_point_s
from makespan.rows import ByKind, FloatLike, filled, maximum, minimum, some, total, where
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import LayoutStatus, Schedule
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step import legality
from makespan.step.arrays import BoolArray, FloatArray, IntArray, LayoutArrays, StepArrays
from makespan.step.blocks import ACTIVATION_BYTES
from makespan.step.data_parallel import DataParallelTimes, data_parallel_times, fully_sharded
from makespan.step.layer import LayerTimes, blocks_of, head_times, layer_times
from makespan.step.memory import StageState, memory_bytes, memory_columns, stage_loads, stage_state, with_optimizer
from makespan.step.pipeline import StagePlan, bubble_s, plan_stages
from makespan.step.ranks import layer_keys, pipeline_distance
from makespan.step.schedules import PassTimes, batch_s
from makespan.workload import layer_kinds

CHUNK_ROWS = 16384
"""Rows at a time: the working arrays of a chunk stay in a core's cache."""

RESULTS = ("time_s", "lower_s", "upper_s", "memory_bytes")
"""Columns of `StepArrays` that are always there; others are its `detail`."""

_KEY_FIELDS = (
    *("tp", "cp", "ep", "etp", "micro_batch", "recompute", "sequence_parallel"),
    *("cp_kind", "offload", "cuda_graphs", "ep_overlap", "schedule"),
)
"""What the times of a layer depend on, besides `layer_keys`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerTable:
    """Layer times of every kind and head times, for every distinct combination. `index` maps a layout to its row, or is
    None for a layout without an axis."""

    kinds: tuple[LayerTimes, ...]
    head: LayerTimes
    index: IntArray | None

    def rows(self, values: FloatArray) -> FloatArray:
        """Values of the table looked up for every layout."""
        return values if self.index is None else values[self.index]

    def of_kinds(self, pick: Callable[[LayerTimes], FloatArray]) -> ByKind:
        """A column of every kind looked up for every layout."""
        return tuple(self.rows(pick(times)) for times in self.kinds)

    def take(self, chosen: IntArray) -> LayerTable:
        """The same table for some of the layouts."""
        return replace(self, index=None if self.index is None else self.index[chosen])


def _distinct(layouts: LayoutArrays) -> tuple[LayoutArrays, IntArray]:
    """Distinct key rows, and for each layout the row of its key. Counting sort by field: no comparison sort."""
    code = np.zeros(len(layouts), dtype=np.int64)
    for column in (*(getattr(layouts, name) for name in _KEY_FIELDS), *layer_keys(layouts)):
        highest = int(column.max())
        if highest == int(column.min()):
            continue
        present = np.zeros(highest + 1, dtype=np.int64)
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
    keys, index = _distinct(layouts) if layouts.shape else (layouts, None)
    known = blocks_of(model, config, cluster, profile, keys)
    return LayerTable(
        kinds=tuple(
            layer_times(model, config, cluster, profile, keys, kind=kind, known=known) for kind in layer_kinds(model)
        ),
        head=head_times(model, config, cluster, profile, keys),
        index=index,
    )


def flat_table(table: LayerTable, shape: tuple[int, ...], index: tuple[IntArray, ...]) -> LayerTable:
    """Some entries of a table on an open grid, as a flat one: what a batch is made of, without the breakdown."""

    def picked(times: LayerTimes) -> LayerTimes:
        def flat(values: FloatArray) -> FloatArray:
            return np.broadcast_to(values, shape)[index]

        nothing = np.zeros(1)
        return LayerTimes(
            compute={},
            exposed={},
            hidden={},
            compute_s=flat(times.compute_s),
            kernels_s=flat(times.kernels_s),
            exposed_s=flat(times.exposed_s),
            hidden_s=nothing,
            forward_s=flat(times.forward_s),
            weight_s=flat(times.weight_s),
            ideal_s=nothing,
            executed_flop=nothing,
        )

    kinds = tuple(picked(times) for times in table.kinds)
    return LayerTable(kinds=kinds, head=picked(table.head), index=np.arange(len(index[0])))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """One micro-batch: which stage is slowest and what it holds. Shapes (layouts,).

    slot : time on the slowest stage.   everything : summed over all stages. [s]   layers, heads : of the slowest stage.
    """

    slot: FloatArray
    everything: FloatArray
    layers: ByKind
    heads: FloatArray


def slots_of(model: ModelSpec, plan: StagePlan, layer_s: ByKind, head_s: FloatArray, piped: BoolArray) -> Slots:
    """The slowest stage: body, last, the first with its dense layers, or the one before the last with the prediction layers.

    layer_s : of each kind.   piped : whether there is more than one stage. Shapes (layouts,).
    """
    mtp_heads = model.mtp_layers * (1.0 - plan.mtp_apart)
    slot, layers, heads = total(plan.last, layer_s) + (1.0 + mtp_heads) * head_s, plan.last, 1.0 + mtp_heads
    others: list[tuple[FloatArray, ByKind, FloatLike]] = [(total(plan.body, layer_s), plan.body, 0.0)]
    if plan.first is not plan.body:
        others.append((total(plan.first, layer_s), plan.first, 0.0))
    if model.mtp_layers:
        own = model.mtp_layers * plan.mtp_apart
        others.append((total(plan.before_last, layer_s) + own * head_s, plan.before_last, own))
    for time, counts, with_heads in others:
        slower = (time > slot) & piped
        slot = where(slower, time, slot)
        layers = tuple(where(slower, more, held) for more, held in zip(counts, layers, strict=True))
        heads = where(slower, with_heads, heads)
    return Slots(slot=slot, everything=all_layers(model, layer_s, head_s), layers=layers, heads=heads)


def all_layers(model: ModelSpec, layer_s: ByKind, head_s: FloatArray) -> FloatArray:
    """Seconds of every layer and head of the model, prediction layers included."""
    counts = [float(kind.count + kind.mtp) for kind in layer_kinds(model)]
    return total(counts, layer_s) + (1.0 + model.mtp_layers) * head_s


def pass_times(layers: ByKind, heads: FloatArray, table: LayerTable) -> PassTimes:
    """Forward, input-gradient and weight-gradient seconds of some layers and heads. Shapes (layouts,)."""
    parts, counts = (*table.kinds, table.head), (*layers, heads)
    forward = total(counts, [table.rows(part.forward_s) for part in parts])
    weight = total(counts, [table.rows(part.weight_s) for part in parts])
    busy = total(counts, [table.rows(part.busy_s) for part in parts])
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
    heads, nothing = filled(layouts.shape, 1.0), filled(layouts.shape, 0.0)
    body, first = pass_times(plan.body, nothing, table), pass_times(plan.first, nothing, table)
    last = pass_times(plan.last, heads + model.mtp_layers * (1.0 - plan.mtp_apart), table)
    two_ways = layouts.schedule == int(Schedule.DUALPIPE)
    chosen = Slots(
        slot=where(two_ways, slots.everything / layouts.pp, slots.slot),
        everything=slots.everything,
        layers=tuple(
            where(two_ways, float(kind.count + kind.mtp) / layouts.pp, held)
            for kind, held in zip(layer_kinds(model), slots.layers, strict=True)
        ),
        heads=where(two_ways, (1.0 + model.mtp_layers) / layouts.pp, slots.heads),
    )
    batch = batch_s(
        layouts.schedule,
        body=body,
        first=first,
        last=last,
        pp=layouts.pp,
        vpp=layouts.vpp,
        num_micro_batches=count,
    )
    other = (layouts.schedule > 0) & (layouts.pp > 1)
    return chosen, where(other, maximum(batch - count * chosen.slot, 0.0), bubble)


def pipe_traffic_s(model: ModelSpec, config: StepConfig, cluster: ClusterSpec, layouts: LayoutArrays) -> FloatArray:
    """One activation to the next stage, or its gradient back. 0 without a pipeline. [s]"""
    spread = where(layouts.sequence_parallel > 0, layouts.tp, 1)
    message = layouts.micro_batch * (config.seq_len / layouts.cp) * model.hidden * ACTIVATION_BYTES / spread
    once = point_to_point_s(cluster.fabric, pipeline_distance(layouts), message)
    return where(layouts.pp > 1, once, 0.0)


def jitter_factor(profile: FrameworkProfile, num_accelerators: IntArray, *, precision: str) -> FloatArray:
    """Step time over that of a run small enough not to wait for stragglers. [-]"""
    doublings: FloatArray = np.log2(maximum(num_accelerators / profile.jitter_from, 1.0))
    each = profile.jitter_per_doubling + (profile.jitter_per_doubling_fp8 if precision == "fp8" else 0.0)
    return 1.0 + each * doublings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """What depends neither on dp nor on how parameters are sharded; shapes (layouts,), or of an open grid without these axes.

    slots, bubble : of 1F1B.   state : parameters by stage.
    """

    table: LayerTable
    plan: StagePlan
    slots: Slots
    bubble: FloatArray
    state: StageState


def cells_of(model: ModelSpec, layouts: LayoutArrays, table: LayerTable) -> Cells:
    """Layers cut over stages, the slowest stage, and the parameters of each."""
    busy = table.of_kinds(lambda times: times.busy_s)
    plan = plan_stages(model, layouts, busy_s=busy)
    slots = slots_of(model, plan, busy, table.rows(table.head.busy_s), layouts.pp > 1)
    return Cells(
        table=table,
        plan=plan,
        slots=slots,
        bubble=bubble_s(slots.slot, slots.everything, vpp=layouts.vpp),
        state=stage_state(model, layouts, plan),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What depends on dp, but not on how parameters are sharded; shapes (layouts,) or of an open grid.

    count : micro-batches.   slots, bubble : of the schedule.   work : all slots and the bubble. [s]
    pipe, pipe_exposed, handover, fill : transfers between stages, those that show, turns of chunks, first and last. [s]
    before_data_s : the step without what data parallelism and the optimizer add. [s]
    forward_s, backward_s : of one micro-batch on the slowest stage. [s]   factor : of jitter. [-]
    """

    count: IntArray
    slots: Slots
    bubble: FloatArray
    work: FloatArray
    pipe: FloatArray
    pipe_exposed: FloatArray
    handover: FloatArray
    fill: FloatArray
    before_data_s: FloatArray
    forward_s: FloatArray
    backward_s: FloatArray
    factor: FloatArray


def batch_of(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    cells: Cells,
    *,
    hop_s: FloatArray | None = None,
) -> Batch:
    """The micro-batches of a step through the pipeline.

    hop_s : of one activation to the next stage, where it is not to be that of the layouts. [s]
    """
    count = layouts.num_micro_batches(config.global_batch)
    slots, bubble, head = cells.slots, cells.bubble, cells.table.head
    if some(layouts.schedule):
        slots, bubble = _other_schedules(model, layouts, cells.table, cells.plan, slots, bubble, count)
    hop = pipe_traffic_s(model, config, cluster, layouts) if hop_s is None else hop_s
    computing = count * slots.slot
    pipe = 2.0 * layouts.vpp * hop * count
    handover = profile.chunk_overhead_s * where(layouts.pp > 1, layouts.vpp, 0) * count
    pipe_exposed = maximum(profile.pp_exposed * pipe, pipe - computing)
    fill = 2.0 * (layouts.pp - 1) * hop
    work = computing + bubble
    forward_layers = cells.table.of_kinds(lambda times: times.forward_s)
    forward = minimum(total(slots.layers, forward_layers) + slots.heads * cells.table.rows(head.forward_s), slots.slot)
    return Batch(
        count=count,
        slots=slots,
        bubble=bubble,
        work=work,
        pipe=pipe,
        pipe_exposed=pipe_exposed,
        handover=handover,
        fill=fill,
        before_data_s=work + pipe_exposed + (handover + fill),
        forward_s=forward,
        backward_s=slots.slot - forward,
        factor=jitter_factor(profile, layouts.num_accelerators, precision=config.precision),
    )


def data_parallel_of(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    cells: Cells,
    batch: Batch,
) -> DataParallelTimes:
    """What data parallelism and the optimizer add to a step. [s]"""
    return data_parallel_times(
        model,
        config,
        cluster,
        profile,
        layouts,
        cells.state,
        num_layers=maximum(sum(cells.plan.first), sum(cells.plan.last)),
        num_micro_batches=batch.count,
        forward_s=batch.forward_s,
        backward_s=batch.backward_s,
    )


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
    cells = cells_of(model, layouts, table)
    batch = batch_of(model, config, cluster, profile, layouts, cells)
    data = data_parallel_of(model, config, cluster, profile, layouts, cells, batch)
    quiet = batch.before_data_s + data.exposed_s + data.optimizer_s
    loads = stage_loads(model, config, profile, layouts, cells.plan, batch.count, every=detail)
    memory = memory_bytes(model, config, profile, layouts, cells.state, loads, detail=detail)
    hidden_layers = table.of_kinds(lambda times: times.hidden_s)
    slots, count = batch.slots, batch.count
    hidden_inside = count * (total(slots.layers, hidden_layers) + slots.heads * table.rows(table.head.hidden_s))
    sent = batch.pipe + batch.handover + batch.fill + data.traffic_s + data.optimizer_s
    columns = {
        "time_s": quiet * batch.factor,
        "lower_s": maximum(_ideal_batch_s(model, layouts, cells, count), data.traffic_s),
        "upper_s": (batch.work + hidden_inside + sent) * batch.factor,
        "memory_bytes": memory.total_bytes,
    }
    if detail:
        columns |= _detail(table, slots, count)
        sharded = fully_sharded(layouts)
        columns |= {
            "time.pp": batch.pipe_exposed + batch.handover + batch.fill,
            "time.dp": where(sharded, 0.0, data.exposed_s),
            "time.fsdp": where(sharded, data.exposed_s, 0.0),
            "time.bubble": batch.bubble,
            "time.optimizer": data.optimizer_s,
            "time.jitter": quiet * (batch.factor - 1.0),
            "hidden.pp": batch.pipe - batch.pipe_exposed,
            "hidden.dp": where(sharded, 0.0, data.traffic_s - data.exposed_s),
            "hidden.fsdp": where(sharded, maximum(data.traffic_s - data.exposed_s, 0.0), 0.0),
            "memory.stage": memory.stage + 0.0 * memory.total_bytes,
            "executed_flop": _executed_flop(model, config, layouts, table),
        }
        columns |= memory_columns(memory)
    return columns


def _ideal_batch_s(model: ModelSpec, layouts: LayoutArrays, cells: Cells, count: IntArray) -> FloatArray:
    """All micro-batches with every kernel at peak rate and nothing sent. [s]"""
    table, piped = cells.table, layouts.pp > 1
    layers = table.of_kinds(lambda times: times.ideal_s)
    ideal = slots_of(model, cells.plan, layers, table.rows(table.head.ideal_s), piped)
    batch = count * ideal.slot + bubble_s(ideal.slot, ideal.everything, vpp=layouts.vpp)
    if some(layouts.schedule):
        level = count * (ideal.everything / layouts.pp)
        batch = where(layouts.schedule >= int(Schedule.ZERO_BUBBLE), level, batch)
    return batch


def _executed_flop(model: ModelSpec, config: StepConfig, layouts: LayoutArrays, table: LayerTable) -> FloatArray:
    """FLOP of all kernels of a step over all ranks, every sequence once. [FLOP]"""
    rank = (1.0 + model.mtp_layers) * table.head.executed_flop
    for kind, times in zip(layer_kinds(model), table.kinds, strict=True):
        rank = rank + (kind.count + kind.mtp) * times.executed_flop
    sequences = config.global_batch / layouts.micro_batch
    return table.rows(rank) * layouts.tp * layouts.cp * sequences


def _detail(table: LayerTable, slots: Slots, count: IntArray) -> dict[str, FloatArray]:
    """Seconds by operator and collective on the slowest stage, over all its micro-batches."""
    columns: dict[str, FloatArray] = {}
    parts = [(table.head, slots.heads), *zip(table.kinds, slots.layers, strict=True)]
    for times, layers in parts:
        held = count * layers
        for prefix, values in (("time", times.compute), ("time", times.exposed), ("hidden", times.hidden)):
            for name, value in values.items():
                key = f"{prefix}.{name}"
                columns[key] = columns.get(key, 0.0) + held * table.rows(value)
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
) -> StepArrays:
    """Time, bounds, memory and status of every layout.

    Parameters
    ----------
    layouts : columns of shape (layouts,).
    memory_headroom : share of the accelerator's memory that must stay free. [-]
    detail : also fill `StepArrays.detail`: `time.*` (adds up to the time), `hidden.*`, `memory.*`, `executed_flop`.

    Returns
    -------
    StepArrays : the first broken rule of a layout is its status. Times and memory are NaN under a structural status or
        NOT_SUPPORTED, and given under OUT_OF_MEMORY.
    """
    if len(layouts) == 1:
        code, numbers = evaluate_alone(
            model, config, cluster, profile, layouts.squeezed(), memory_headroom=memory_headroom, detail=detail
        )
        return _as_arrays(np.array([code]), dict(zip(numbers, np.array([*numbers.values()])[:, None], strict=True)))
    config = with_optimizer(config, profile)
    limit = cluster.accelerator.hbm_bytes * (1.0 - memory_headroom)
    status = np.empty(len(layouts), dtype=np.int64)
    blocked = np.empty(len(layouts), dtype=np.bool_)
    for start in range(0, len(layouts), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        rows = layouts if len(layouts) <= CHUNK_ROWS else layouts.take(part)
        status[part] = legality.structural_status(model, config, cluster, rows)
        blocked[part] = legality.unsupported(model, config, cluster, profile, rows)
    runnable = np.flatnonzero((status == 0) & ~blocked)
    results: dict[str, FloatArray] = {name: np.full(len(layouts), np.nan) for name in RESULTS}
    if len(runnable):
        rows = layouts if len(runnable) == len(layouts) else layouts.take(runnable)
        table = layer_table(model, config, cluster, profile, rows)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = np.arange(start, min(start + CHUNK_ROWS, len(rows)))
            few, piece = rows, table
            if len(rows) > CHUNK_ROWS:
                few, piece = rows.take(chunk), table.take(chunk)
            columns = _evaluate_rows(model, config, cluster, profile, few, piece, detail=detail)
            for name, values in columns.items():
                if name not in results:
                    results[name] = np.full(len(layouts), np.nan)
                results[name][runnable[chunk]] = values
        full = np.zeros(len(layouts), dtype=bool)
        full[runnable] = results["memory_bytes"][runnable] > limit
        status[full] = int(LayoutStatus.OUT_OF_MEMORY)
    status[(status == 0) & blocked] = int(LayoutStatus.NOT_SUPPORTED)
    return _as_arrays(status, results)


def _as_arrays(status: IntArray, columns: dict[str, FloatArray]) -> StepArrays:
    detail = {name: values for name, values in columns.items() if name not in RESULTS}
    return StepArrays(status=status, detail=detail, **{name: columns[name] for name in RESULTS})


def evaluate_alone(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layout: LayoutArrays,
    *,
    memory_headroom: float = 0.0,
    detail: bool = False,
) -> tuple[int, dict[str, float]]:
    """`evaluate` of one layout without an axis (`LayoutArrays.alone`): its status and its columns as plain numbers.

    The same formulas give the same digits as for a row among others; NumPy would take most of the time to wrap them.
    """
    config = with_optimizer(config, profile)
    broken = int(legality.structural_status(model, config, cluster, layout))
    if not broken and legality.unsupported(model, config, cluster, profile, layout):
        broken = int(LayoutStatus.NOT_SUPPORTED)
    if broken:
        return broken, dict.fromkeys(RESULTS, np.nan)
    table = layer_table(model, config, cluster, profile, layout)
    columns = _evaluate_rows(model, config, cluster, profile, layout, table, detail=detail)
    numbers = {name: float(value) for name, value in columns.items()}
    lacks_memory = numbers["memory_bytes"] > cluster.accelerator.hbm_bytes * (1.0 - memory_headroom)
    return int(LayoutStatus.OUT_OF_MEMORY) if lacks_memory else 0, numbers
