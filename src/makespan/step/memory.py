"""Bytes on an accelerator, by kind and pipeline stage. Arrays of shape (layouts,).

Two totals are told apart. *Allocated* is what tensors take at the peak, as `torch.cuda.max_memory_allocated` counts it.
The *device* total adds what the allocator holds without using it and what lies outside of it (context, communicators):
that is what has to fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from makespan.rows import ByKind, choose, filled, maximum, minimum, some, total, where
from makespan.specs.hardware import FrameworkProfile
from makespan.specs.layout import Offload, Schedule, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step.activations import SAVED_BYTES, layer_activations
from makespan.step.activations import saved_bytes_per_token as saved_bytes_per_token
from makespan.step.arrays import BoolArray, FloatArray, IntArray, LayoutArrays
from makespan.step.pipeline import StagePlan
from makespan.step.schedules import micro_batch_group
from makespan.workload import LayerKind, layer_kinds, layer_parameters
from makespan.workload.parameters import mtp_parameters, parameters_by_part, routed_width

KINDS = ("weights", "gradients", "optimizer", "activations", "logits", "buffers", "fragmentation", "overhead")
"""All kinds add up to the device total; without the last two, to the allocated one."""

UNALLOCATED = ("fragmentation", "overhead")

MASTER_BYTES = 4.0
"""A weight in 32 bits."""

GROUPS = ("first", "middle", "before last", "last")
"""Stages that are told apart; all between the second and the one before the second-last are as the second."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerState:
    """Parameters of one layer that live on one rank, before any sharding over data. Shapes (layouts,).

    shared : summed over cp * dp.   experts : summed over the expert-data group.
    """

    shared: FloatArray
    experts: FloatArray


def layer_state(model: ModelSpec, layouts: LayoutArrays, *, kind: LayerKind) -> LayerState:
    """Parameters of a layer on one rank. Norms, routers and latent projections are replicated over tp; all else is cut."""
    part = layer_parameters(model, kind)
    cut = part.attention + part.mamba + part.dense_ffn + part.side_ffn
    whole = part.norms + part.router + part.latent
    experts = part.experts / (layouts.ep * layouts.etp) if part.experts else filled(layouts.shape, 0.0)
    return LayerState(shared=cut / layouts.tp + whole, experts=experts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageState:
    """Parameters that one rank holds, by stage, before sharding over data; with one stage all are the same.

    largest_layer : parameters of the largest layer, experts included.
    """

    first_shared: FloatArray
    first_experts: FloatArray
    middle_shared: FloatArray
    middle_experts: FloatArray
    before_last_shared: FloatArray
    before_last_experts: FloatArray
    last_shared: FloatArray
    last_experts: FloatArray
    largest_layer: FloatArray

    def of(self, group: str) -> tuple[FloatArray, FloatArray]:
        """Shared and expert parameters of one of `GROUPS`."""
        name = group.replace(" ", "_")
        return getattr(self, f"{name}_shared"), getattr(self, f"{name}_experts")


def stage_state(model: ModelSpec, layouts: LayoutArrays, plan: StagePlan) -> StageState:
    """Parameters by stage: the first holds the embedding, the last the head (a copy of the embedding where tied).

    The stage that trains further prediction layers holds their projections; if it is not the last, copies of embedding
    and head are left out (frameworks place both with the last stage or share them).
    """
    parts = parameters_by_part(model)
    states = [layer_state(model, layouts, kind=kind) for kind in layer_kinds(model)]
    shared = [state.shared for state in states]
    experts = [state.experts for state in states]

    def over(layers: ByKind) -> tuple[FloatArray, FloatArray]:
        return total(layers, shared), total(layers, experts) if model.moe is not None else experts[0]

    first, first_experts = over(plan.first)
    middle, middle_experts = (first, first_experts) if plan.first is plan.body else over(plan.body)
    before, before_experts = (middle, middle_experts) if plan.before_last is plan.body else over(plan.before_last)
    last, last_experts = over(plan.last)
    if model.mtp_layers:
        projection = mtp_parameters(model).projection / layouts.tp
        last = last + projection * (1.0 - plan.mtp_apart)
        before = before + projection * plan.mtp_apart
    embedding = parts.embedding / layouts.tp
    head = (model.vocab * model.hidden) / layouts.tp
    alone = layouts.pp == 1
    everything = last + embedding + (0.0 if model.tied_embeddings else head)
    return StageState(
        first_shared=where(alone, everything, first + embedding),
        first_experts=where(alone, last_experts, first_experts),
        middle_shared=middle,
        middle_experts=middle_experts,
        before_last_shared=before,
        before_last_experts=before_experts,
        last_shared=where(alone, everything, last + head),
        last_experts=last_experts,
        largest_layer=reduce(maximum, map(add, shared, experts)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """Peak bytes of the fullest accelerator. Shapes (layouts,).

    total_bytes : on the device.   allocated_bytes : by tensors.
    stage : where that is (0 first, pp - 1 last).   by_kind : of the fullest stage.   by_group : the same by group of stages.
        All three only on request.
    """

    total_bytes: FloatArray
    allocated_bytes: FloatArray
    stage: IntArray | int = 0
    by_kind: Mapping[str, FloatArray] = field(default_factory=dict)
    by_group: Mapping[str, Mapping[str, FloatArray | float]] = field(default_factory=dict)


def memory_columns(memory: Memory) -> dict[str, FloatArray]:
    """The parts of a detailed `Memory` by column name: `memory.<kind>`, `memory of <group>.<kind>`."""
    columns: dict[str, Any] = {f"memory.{kind}": size for kind, size in memory.by_kind.items()}
    for group, kinds in memory.by_group.items():
        columns |= {f"memory of {group}.{kind}": size for kind, size in kinds.items()}
    return columns


def with_optimizer(config: StepConfig, profile: FrameworkProfile) -> StepConfig:
    """The step with its optimizer's bytes filled in by the framework profile where it leaves them to it.

    A master copy of less than 4 bytes adds the bits that 16-bit weights lack; beside quantised weights it is whole.
    """
    if config.optimizer.name != "profile":
        return config
    whole = config.precision not in ("bf16", "fp16")
    optimizer = replace(
        config.optimizer,
        name="adam",
        gradient_bytes=profile.gradient_bytes,
        master_bytes=MASTER_BYTES if whole else profile.master_bytes,
    )
    return replace(config, optimizer=optimizer)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PerParameter:
    """Bytes per parameter of a rank after sharding over data, for shared parameters or for experts."""

    weights: FloatArray
    gradients: FloatArray
    optimizer: FloatArray


def data_shards(layouts: LayoutArrays) -> tuple[FloatArray, FloatArray]:
    """Ranks that split a shared parameter, and those that split an expert. HSDP splits inside `shard_size` ranks. [-]"""
    data = layouts.cp * layouts.dp
    inside: Any = data
    if some(layouts.shard_size > 0):
        inside = where(layouts.shard_size > 0, minimum(layouts.shard_size, data), data)
    experts = maximum(layouts.tp * inside // (layouts.ep * layouts.etp), 1)
    return inside * 1.0, experts * 1.0


def _per_parameter(
    config: StepConfig, profile: FrameworkProfile, layouts: LayoutArrays, shards: FloatArray
) -> _PerParameter:
    """Weights, gradients and optimizer state of one parameter. [B]

    Under ZeRO-3 weights are gathered layer by layer (see `_buffer_bytes`); under a pipeline they and their gradients stay
    whole from the first micro-batch to the last, beside the shards.
    """
    optimizer = config.optimizer
    stage, zero3 = layouts.sharding, layouts.sharding >= int(Sharding.ZERO3)
    below, piped = stage < int(Sharding.ZERO3), layouts.pp > 1
    weights = where(below | piped, optimizer.weight_bytes, 0.0) + where(zero3, profile.fsdp_weight_bytes / shards, 0.0)
    cut = (stage >= int(Sharding.ZERO2)) & (below | (layouts.pp == 1))
    gradients = optimizer.gradient_bytes * (1.0 / where(cut, shards, 1.0))
    gradients = gradients + where(zero3 & piped, optimizer.gradient_bytes / shards, 0.0)
    state = (optimizer.master_bytes + optimizer.moment_bytes) / where(stage >= int(Sharding.ZERO1), shards, 1.0)
    return _PerParameter(
        weights=weights,
        gradients=gradients,
        optimizer=where(layouts.offload & int(Offload.OPTIMIZER), 0.0, state),
    )


def micro_batches_held(
    layouts: LayoutArrays, num_micro_batches: IntArray, stages_before: IntArray | int, group: IntArray
) -> FloatArray:
    """Micro-batches whose activations a stage holds at its peak, in units of a whole stage. [-]

    Parameters
    ----------
    stages_before : of the pipeline, in front of this one.
    group : `micro_batch_group` of the layouts.

    Notes
    -----
    1F1B: pp less one for every stage before. Interleaved: (vpp - 1) g + 2 pp - 1 chunks less two for every stage before,
    vpp of which are a stage. ZB-H1: pp on every stage. GPipe: all. DualPipe: pp + 1. Never more than there are.

    References
    ----------
    As `makespan.step.schedules.in_flight`, which is the first stage's.
    """
    interleaved = layouts.vpp > 1
    split = layouts.schedule == int(Schedule.ZERO_BUBBLE)
    behind = where(split, 0, stages_before)
    chunks = where(interleaved, (layouts.vpp - 1) * group + 2 * layouts.pp - 1 - 2 * behind, layouts.pp - behind)
    held = chunks / layouts.vpp
    if some(layouts.schedule > 0):
        held = where(layouts.schedule == int(Schedule.GPIPE), num_micro_batches, held)
        held = where(layouts.schedule == int(Schedule.DUALPIPE), layouts.pp + 1, held)
    return minimum(held, num_micro_batches)


def _distinct(*columns: IntArray) -> tuple[IntArray, IntArray]:
    """First row of every combination of small non-negative integers, and for each row the place of its own."""
    code = columns[0]
    for column in columns[1:]:
        code = code * (int(column.max()) + 1) + column
    first = np.full(int(code.max()) + 1, -1, dtype=np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    rows = np.flatnonzero(first >= 0)
    place = np.zeros(len(first), dtype=np.int64)
    place[rows] = np.arange(len(rows))
    return first[rows], place[code]


def _activations(
    model: ModelSpec, config: StepConfig, profile: FrameworkProfile, layouts: LayoutArrays
) -> tuple[ByKind, FloatArray]:
    """Per token of a micro-batch: what one layer of each kind keeps, and the most one needs while it works. [B]

    The same for all layouts with the same tp, etp, recomputation and sequence
    parallelism, so counted once for each combination.
    """
    few, place = layouts, None
    if layouts.shape:
        first, place = _distinct(layouts.tp, layouts.etp, layouts.recompute, layouts.sequence_parallel)
        few = layouts.take(first)
    layers = [
        layer_activations(
            model,
            few,
            kind=kind,
            precision=config.precision,
            load_imbalance=config.load_imbalance,
            pair_fraction=profile.selective_pair_fraction,
            quantised=profile.supports.get("quantised_activations", True),
        )
        for kind in layer_kinds(model)
    ]
    kept = tuple(layer.kept for layer in layers)
    working = reduce(maximum, (layer.working for layer in layers))
    if place is not None:
        kept, working = tuple(size[place] for size in kept), working[place]
    away = (layouts.offload & int(Offload.ACTIVATIONS)) > 0
    if some(away):
        # What goes to the host is still there for the layer that works and for the one whose copies are on their way.
        working = where(away, working + 2.0 * reduce(maximum, kept), working)
        kept = tuple(where(away, 0.0, size) for size in kept)
    return kept, working


def _loss_bytes(model: ModelSpec, profile: FrameworkProfile, layouts: LayoutArrays) -> FloatArray:
    """Logits with their copies and gradients, and the head's input gathered under sequence parallelism, per token. [B]"""
    split = layouts.tp > 1
    logits = where(split, profile.split_logit_bytes or profile.logit_bytes, profile.logit_bytes)
    gathered = where(split & (layouts.sequence_parallel > 0), SAVED_BYTES * model.hidden, 0.0)
    return logits * model.vocab / layouts.tp + gathered


def _buffer_bytes(model: ModelSpec, config: StepConfig, layouts: LayoutArrays, state: StageState) -> FloatArray | float:
    """ZeRO-3: gathered weights of two layers and of embedding and head, and the gradients of one layer before they are
    scattered. [B]"""
    sharded = (layouts.sharding >= int(Sharding.ZERO3)) & (layouts.pp == 1)
    if not some(sharded):
        return 0.0
    optimizer = config.optimizer
    root = model.vocab * model.hidden * (1.0 if model.tied_embeddings else 2.0) / layouts.tp
    gathered = optimizer.weight_bytes * (2.0 * state.largest_layer + root)
    gathered = gathered + optimizer.gradient_bytes * state.largest_layer
    return where(sharded, gathered, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageLoad:
    """What one group of stages holds beside parameters and their state, at its peak; shape (layouts,). [B]

    index : of the stage.   exists : where a layout has such a stage and it is none of those looked at before.
    activations, logits : saved and working ones; at the loss. `both` together.
    """

    name: str
    index: IntArray | int
    exists: BoolArray | bool
    activations: FloatArray
    logits: FloatArray | float
    both: FloatArray


def stage_loads(
    model: ModelSpec,
    config: StepConfig,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    plan: StagePlan,
    num_micro_batches: IntArray,
    *,
    every: bool = False,
    least: bool = False,
) -> tuple[StageLoad, ...]:
    """Activations and logits of the stages that may be the fullest, whatever the sharding of parameters and their state.

    every : all groups of stages, not only those that can be fuller than another.
    least : with groups of pp micro-batches under interleaving, the smallest there are: no layout that differs in dp alone
        and has as many micro-batches or more holds less.
    """
    tokens = layouts.micro_batch * (config.seq_len / layouts.cp)
    kept_per_token, working = _activations(model, config, profile, layouts)
    if model.moe is not None:
        sent = 2.0 * SAVED_BYTES * model.moe.top_k / layouts.tp * config.load_imbalance * routed_width(model)
        working = working + where(layouts.ep * layouts.etp > 1, sent, 0.0)
    kept, working = tuple(size * tokens for size in kept_per_token), working * tokens
    loss = _loss_bytes(model, profile, layouts) * tokens
    interleaved = not least and some(layouts.vpp > 1)
    group = micro_batch_group(layouts.pp, layouts.vpp, num_micro_batches) if interleaved else layouts.pp
    loads = []
    for stage in _stages(model, layouts, plan, every=every):
        held = micro_batches_held(layouts, num_micro_batches, stage.index, group)
        saved = total(stage.layers, kept) * held
        logits: FloatArray | float = 0.0
        if stage.heads is None:
            both = activations = saved + working
        else:
            at_the_loss = loss * stage.heads
            is_peak = at_the_loss > working
            activations, logits = where(is_peak, saved, saved + working), where(is_peak, at_the_loss, 0.0)
            both = saved + maximum(at_the_loss, working)
        loads.append(
            StageLoad(
                name=stage.name,
                index=stage.index,
                exists=stage.exists,
                activations=activations,
                logits=logits,
                both=both,
            )
        )
    return tuple(loads)


def memory_bytes(
    model: ModelSpec,
    config: StepConfig,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    state: StageState,
    loads: tuple[StageLoad, ...],
    *,
    detail: bool = False,
) -> Memory:
    """Peak memory of the fullest stage. [B]

    Parameters
    ----------
    loads : of every group of stages (`stage_loads`); with `detail` of all of them.
    detail : also say which stage that is, and give the kinds, of the fullest stage and of each group of stages.

    Notes
    -----
    A stage peaks either when its last micro-batch's loss is computed (all activations are saved, and the logits are
    there) or in the backward of its first layer (recomputed activations, gradients of activations, dispatched tokens);
    the larger of the two is added to weights, gradients, optimizer state, saved activations and buffers. Groups of
    stages: the first, the second (no stage between it and the one before the last holds more), the one before the last
    (prediction layers) and the last. A DualPipe rank holds a stage from either end, and the two share their state.

    Left out: 32-bit copies that some optimizers make during the update, when activations are gone; tensors of data
    loading and logging; static buffers that are not the framework allocator's.
    """
    shards, expert_shards = data_shards(layouts)
    shared = _per_parameter(config, profile, layouts, shards)
    experts = None if model.moe is None else _per_parameter(config, profile, layouts, expert_shards)
    buffers = _buffer_bytes(model, config, layouts, state)
    peak: FloatArray = filled(layouts.shape, -1.0)
    place: IntArray | int = 0
    groups: dict[str, dict[str, FloatArray | float]] = {}
    for load in loads:
        kinds = _state_bytes(shared, experts, layouts, load.name, state) | {"buffers": buffers}
        allocated = sum(kinds.values()) + load.both
        if detail:
            # Of equals the earlier stage counts; the last one comes first here.
            fuller = (allocated >= peak) if load.name == "first" else (allocated > peak)
            place = where(fuller & load.exists, load.index, place)
            kinds |= {"activations": load.activations, "logits": load.logits}
            kinds["fragmentation"] = profile.fragmentation_fraction * allocated
            kinds["overhead"] = profile.memory_overhead_bytes
            groups[load.name] = {kind: where(load.exists, size, np.nan) for kind, size in kinds.items()}
        peak = maximum(peak, where(load.exists, allocated, -1.0))
    by_kind = {}
    if detail:
        chosen = [groups[name] for name in GROUPS]
        behind = layouts.pp - 1 - place
        which = where(behind == 0, 3, where(place == 0, 0, where(behind == 1, 2, 1)))
        by_kind = {kind: choose(which, [group[kind] for group in chosen]) for kind in KINDS}
    return Memory(
        total_bytes=peak * (1.0 + profile.fragmentation_fraction) + profile.memory_overhead_bytes,
        allocated_bytes=peak,
        stage=place,
        by_kind=by_kind,
        by_group=groups,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stage:
    """One group of stages. layers : by kind and layout.   heads : logits computed there, or None. See `StageLoad`."""

    name: str
    index: IntArray | int
    layers: ByKind
    heads: FloatArray | None
    exists: BoolArray | bool


def _stages(model: ModelSpec, layouts: LayoutArrays, plan: StagePlan, *, every: bool) -> list[_Stage]:
    """The last stage (with a single one it is everything), the first, and those between that can be fuller than both."""
    pp = layouts.pp
    apart = model.mtp_layers * plan.mtp_apart
    last = _Stage(
        name="last",
        index=pp - 1,
        layers=plan.last,
        heads=1.0 + model.mtp_layers - apart,
        exists=pp > 0,
    )
    first = _Stage(name="first", index=0, layers=plan.first, heads=None, exists=pp > 1)
    stages = [last, first]
    # Under DualPipe the first stage's rank holds the last stage too, which may have fewer layers than one between.
    between = every or plan.first is not plan.body or some(layouts.schedule == int(Schedule.DUALPIPE))
    if between:
        stages.append(_Stage(name="middle", index=1, layers=plan.body, heads=None, exists=pp > 3))
    if between or model.mtp_layers:
        heads = apart if model.mtp_layers else None
        stages.append(_Stage(name="before last", index=pp - 2, layers=plan.before_last, heads=heads, exists=pp > 2))
    return stages


def _state_bytes(
    per_shared: _PerParameter, per_expert: _PerParameter | None, layouts: LayoutArrays, name: str, state: StageState
) -> dict[str, FloatArray | float]:
    """Weights, gradients and optimizer state of a rank of one group of stages. [B]"""
    shared, experts = state.of(name)
    optimizer = per_shared.optimizer * shared
    if per_expert is not None:
        optimizer = optimizer + per_expert.optimizer * experts
    if some(layouts.schedule == int(Schedule.DUALPIPE)):
        # A rank holds this stage and its mirror image, and shares the optimizer's state with the rank that holds them too.
        dual = where(layouts.schedule == int(Schedule.DUALPIPE), 1.0, 0.0)
        other_shared, other_experts = state.of(_MIRROR[name])
        mirrored = per_shared.optimizer * other_shared
        if per_expert is not None:
            mirrored = mirrored + per_expert.optimizer * other_experts
            experts = experts + dual * other_experts
        shared = shared + dual * other_shared
        optimizer = optimizer + dual * (mirrored - optimizer) / 2.0
    weights, gradients = per_shared.weights * shared, per_shared.gradients * shared
    if per_expert is not None:
        weights, gradients = weights + per_expert.weights * experts, gradients + per_expert.gradients * experts
    return {"weights": weights, "gradients": gradients, "optimizer": optimizer}


_MIRROR = {"first": "last", "last": "first", "middle": "middle", "before last": "middle"}
"""The stage at the same distance from the other end."""


def least_state_bytes(
    model: ModelSpec, config: StepConfig, profile: FrameworkProfile, layouts: LayoutArrays
) -> FloatArray:
    """Weights, gradients and optimizer state that the first stage holds at least, however layers are cut into chunks. [B]

    The stage has the mean number of layers or more, here of the kinds with the fewest parameters, and the embedding.
    """
    shards, expert_shards = data_shards(layouts)
    shared, experts = least_stage_parameters(model, layouts)
    total_bytes: FloatArray = shared * _sum_of(_per_parameter(config, profile, layouts, shards))
    if experts is not None:
        total_bytes = total_bytes + experts * _sum_of(_per_parameter(config, profile, layouts, expert_shards))
    return total_bytes


def _sum_of(each: _PerParameter) -> FloatArray:
    return each.weights + each.gradients + each.optimizer


def least_stage_parameters(model: ModelSpec, layouts: LayoutArrays) -> tuple[FloatArray, FloatArray | None]:
    """Parameters of the first stage at least: shared ones, and routed experts or None. [-]"""
    kinds = layer_kinds(model)
    states = [layer_state(model, layouts, kind=kind) for kind in kinds]
    layers = model.num_layers / layouts.pp
    shared = layers * reduce(minimum, (state.shared for state in states))
    shared = shared + parameters_by_part(model).embedding / layouts.tp
    routed = [state.experts for kind, state in zip(kinds, states, strict=True) if kind.ffn == "moe"]
    others = sum(kind.count for kind in kinds if kind.ffn != "moe")
    return shared, maximum(layers - others, 0.0) * routed[0] if routed else None


def least_saved_bytes(
    model: ModelSpec, config: StepConfig, profile: FrameworkProfile, layouts: LayoutArrays
) -> FloatArray:
    """Activations of one micro-batch through the whole model, were all layers of the kind that keeps least. [B]

    The first of pp stages holds the mean number of layers or more, for pp micro-batches or for all there are: so much of it, if
    there are pp micro-batches.
    """
    kept, _ = _activations(model, config, profile, layouts)
    tokens = layouts.micro_batch * (config.seq_len / layouts.cp)
    return model.num_layers * tokens * reduce(minimum, kept)
