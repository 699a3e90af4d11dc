"""Summing gradients and handing out weights over data-parallel ranks, and the optimizer's own time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from makespan.network import all_gather_s, all_reduce_s, reduce_scatter_s
from makespan.rows import FloatLike, filled, maximum, minimum, some, where
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Offload, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.training import OptimizerSpec, StepConfig
from makespan.step.arrays import BoolArray, FloatArray, IntArray, LayoutArrays
from makespan.step.kernels import stream_bytes_per_s
from makespan.step.memory import StageState, least_stage_parameters
from makespan.step.ranks import group_of_stage
from makespan.workload.parameters import parameters_by_part


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataParallelTimes:
    """Whole step, shape (layouts,). `traffic_s` as if nothing hid it; `exposed_s` the part that shows. [s]"""

    traffic_s: FloatArray
    exposed_s: FloatArray
    optimizer_s: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardGroups:
    """Who shares what, shape (layouts,): `shards` ranks split it among themselves, `replicas` of such groups hold it again.

    stride : distance of two neighbours of a group, in ranks of their pipeline stage. [-]
    """

    shards: IntArray
    replicas: IntArray | int
    stride: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """Seconds of one step, shape (layouts,).

    forward_s, backward_s : what can hide behind the forward (backward) passes.   edges_s : what cannot: it starts when
    there is nothing to compute yet, or ends when nothing is left to compute.
    """

    forward_s: FloatArray
    backward_s: FloatArray
    edges_s: FloatArray

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            forward_s=self.forward_s + other.forward_s,
            backward_s=self.backward_s + other.backward_s,
            edges_s=self.edges_s + other.edges_s,
        )

    @property
    def total_s(self) -> FloatArray:
        return self.forward_s + self.backward_s + self.edges_s


def shard_groups(layouts: LayoutArrays) -> tuple[ShardGroups, ShardGroups]:
    """Groups of the parameters summed over cp * dp, and of the routed experts. HSDP cuts both into `shard_size` ranks.

    Examples
    --------
    64 data-parallel ranks in groups of 8; experts over 4 ranks leave groups of 2.

    >>> shared, experts = shard_groups(LayoutArrays.build(dp=64, ep=4, sharding=3, shard_size=8))
    >>> shared.shards.tolist(), shared.replicas.tolist(), experts.shards.tolist(), experts.replicas.tolist()
    ([8], [8], [2], [8])
    """
    data = layouts.cp * layouts.dp
    own = layouts.ep * layouts.etp
    expert_data = maximum(layouts.tp * data // own, 1)
    if not some(layouts.shard_size > 0):
        return (
            ShardGroups(shards=data, replicas=1, stride=layouts.tp),
            ShardGroups(shards=expert_data, replicas=1, stride=own),
        )
    inside = where(layouts.shard_size > 0, minimum(layouts.shard_size, data), data)
    expert_inside = maximum(layouts.tp * inside // own, 1)
    return (
        ShardGroups(shards=inside, replicas=data // inside, stride=layouts.tp),
        ShardGroups(shards=expert_inside, replicas=expert_data // expert_inside, stride=own),
    )


def fully_sharded(layouts: LayoutArrays) -> BoolArray:
    """Layouts whose weights are handed out in the forward pass, layer by layer: ZeRO-3, and ZeRO-2 as FSDP does it."""
    return layouts.sharding >= int(Sharding.ZERO2)


def _whole_traffic(
    parameters: FloatArray, groups: ShardGroups, cluster: ClusterSpec, optimizer: OptimizerSpec, layouts: LayoutArrays
) -> Traffic:
    """Once a step, everything in one message: all-reduce, or under ZeRO-1 a reduce-scatter and an all-gather."""
    fabric = cluster.fabric
    group = group_of_stage(fabric, layouts, groups.shards * groups.replicas, groups.stride)
    cut, uncut = layouts.sharding >= int(Sharding.ZERO1), layouts.sharding < int(Sharding.ZERO1)
    nothing: FloatLike = filled(layouts.shape, 0.0)
    gather = reduce = whole = nothing
    if some(cut):
        gather = all_gather_s(fabric, group, optimizer.weight_bytes * parameters)
        reduce = reduce_scatter_s(fabric, group, optimizer.gradient_bytes * parameters)
    if some(uncut):
        whole = all_reduce_s(fabric, group, optimizer.gradient_bytes * parameters)
    return Traffic(
        forward_s=where(cut, gather, 0.0),
        backward_s=where(cut, reduce, whole),
        edges_s=filled(layouts.shape, 0.0),
    )


def least_traffic_s(model: ModelSpec, config: StepConfig, cluster: ClusterSpec, layouts: LayoutArrays) -> FloatArray:
    """Gradients and weights of the first stage, sent once, at least: plain or ZeRO-1, whichever takes less. [s]

    The stage has the mean number of layers or more, here of the kinds with the fewest parameters, and the embedding.
    """
    shared, experts = least_stage_parameters(model, layouts)
    shared_groups, expert_groups = shard_groups(layouts)
    stages: tuple[Any, Any] = (int(Sharding.NONE), int(Sharding.ZERO1))
    plain, cut = (replace(layouts, sharding=stage) for stage in stages)
    found: FloatArray = filled(layouts.shape, np.inf)
    for rows in (plain, cut):
        once = _whole_traffic(shared, shared_groups, cluster, config.optimizer, rows).total_s
        if experts is not None:
            theirs = _whole_traffic(experts, expert_groups, cluster, config.optimizer, rows).total_s
            once = once + where(experts > 0, theirs, 0.0)
        found = minimum(found, once)
    return found


def _sharded_traffic(
    parameters: FloatArray,
    outside: FloatArray | None,
    groups: ShardGroups,
    cluster: ClusterSpec,
    optimizer: OptimizerSpec,
    layouts: LayoutArrays,
    *,
    num_layers: FloatArray,
    num_micro_batches: IntArray,
) -> Traffic:
    """Layer by layer: a unit of its own for every layer, and one for what is outside of them.

    Parameters
    ----------
    parameters, outside : of the stage before sharding; those of them that belong to no layer (embedding, head), None
        where all do. [-]
    num_layers : of the stage. [-]
    """
    fabric = cluster.fabric
    group = group_of_stage(fabric, layouts, groups.shards, groups.stride)
    in_layers = parameters if outside is None else parameters - outside
    layer = in_layers / maximum(num_layers, 1.0)

    def gather(amount: FloatArray) -> FloatLike:
        return all_gather_s(fabric, group, optimizer.weight_bytes * amount)

    def reduce(amount: FloatArray) -> FloatLike:
        return reduce_scatter_s(fabric, group, optimizer.gradient_bytes * amount)

    rest = maximum(num_layers - 1.0, 0.0)
    one_gather, one_reduce = gather(layer), reduce(layer)
    rest_gather, rest_reduce = rest * one_gather, rest * one_reduce
    edge_gather, edge_reduce = one_gather, one_reduce
    if outside is not None:
        edge_gather, edge_reduce = gather(layer + outside), reduce(layer + outside)

    alone = layouts.pp == 1
    again = alone & (layouts.sharding == int(Sharding.ZERO3))
    passes = where(alone, num_micro_batches, 1)
    reductions = where(alone | (layouts.sharding == int(Sharding.ZERO2)), num_micro_batches, 1)
    # The second gather begins with the head and runs towards the first layer: nothing of it is an edge.
    backward = where(again, passes * (edge_gather + rest_gather), 0.0) + reductions * rest_reduce
    if some(groups.replicas > 1):
        copies = group_of_stage(fabric, layouts, groups.replicas, groups.stride * groups.shards)
        once = all_reduce_s(fabric, copies, optimizer.gradient_bytes * parameters / groups.shards)
        backward = backward + where(groups.replicas > 1, once, 0.0)
    return Traffic(
        forward_s=passes * rest_gather,
        backward_s=backward,
        edges_s=passes * edge_gather + reductions * edge_reduce,
    )


def _select(mask: BoolArray, yes: Traffic, no: Traffic) -> Traffic:
    return Traffic(
        forward_s=where(mask, yes.forward_s, no.forward_s),
        backward_s=where(mask, yes.backward_s, no.backward_s),
        edges_s=where(mask, yes.edges_s, no.edges_s),
    )


def outside_parameters(model: ModelSpec, layouts: LayoutArrays) -> FloatArray:
    """Embedding and head on one rank: both where there is no pipeline, else the one of an end stage. Shape (layouts,). [-]"""
    parts = parameters_by_part(model)
    head = float(model.vocab * model.hidden)
    alone = parts.embedding + (0.0 if model.tied_embeddings else head)
    return where(layouts.pp == 1, alone, max(parts.embedding, head)) / layouts.tp


def data_parallel_times(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    state: StageState,
    *,
    num_layers: FloatArray,
    num_micro_batches: IntArray,
    forward_s: FloatArray,
    backward_s: FloatArray,
) -> DataParallelTimes:
    """Gradient and weight traffic of the fuller end stage, and the optimizer's update.

    Parameters
    ----------
    num_layers : on the fuller end stage: each is gathered and reduced on its own where weights are sharded. [-]
    forward_s, backward_s : of one micro-batch on the slowest stage: what the traffic can hide behind. [s]

    Notes
    -----
    Plain data parallelism and ZeRO-1 talk once a step: gradients behind the backward of the last micro-batch (of the
    last pp ones where chunks are interleaved, since a chunk is done when its last micro-batch is), weights behind the
    forward of the first. A share `dp_exposed` always shows.

    ZeRO-3 (FSDP) gathers a layer before its forward and again before its backward, and reduces its gradients after it,
    for every micro-batch; ZeRO-2 keeps the weights from forward to backward. Traffic and compute run side by side, in
    forward and backward the longer one counts, and traffic costs compute the share `fsdp_exposed` by contention for
    memory and multiprocessors. The first gather (first layer, and embedding and head, which PyTorch gathers with the
    root) and the last reduction have nothing to hide behind, in every micro-batch. With a pipeline a stage keeps its
    weights and gradients whole between micro-batches (see `memory`) and gathers and reduces once a step.

    HSDP: as ZeRO-3 inside groups of `shard_size` ranks; once a step the shards' gradients are summed over the groups.

    Left out: gathering in 8 bits, weights kept after the forward of single layers, buckets of ZeRO-1.
    """
    shared = maximum(state.first_shared, state.last_shared)
    experts = maximum(state.first_experts, state.last_experts)
    optimizer = config.optimizer
    sharded = fully_sharded(layouts)
    shared_groups, expert_groups = shard_groups(layouts)

    def traffic(parameters: FloatArray, outside: FloatArray | None, groups: ShardGroups) -> Traffic:
        if not some(sharded):
            return _whole_traffic(parameters, groups, cluster, optimizer, layouts)
        by_layer = _sharded_traffic(
            parameters,
            outside,
            groups,
            cluster,
            optimizer,
            layouts,
            num_layers=num_layers,
            num_micro_batches=num_micro_batches,
        )
        if not some(layouts.sharding < int(Sharding.ZERO2)):
            return by_layer
        return _select(sharded, by_layer, _whole_traffic(parameters, groups, cluster, optimizer, layouts))

    total = traffic(shared, outside_parameters(model, layouts), shared_groups)
    if some(experts > 0):
        total = _select(experts > 0, total + traffic(experts, None, expert_groups), total)

    window = where(layouts.vpp > 1, minimum(layouts.pp, num_micro_batches), 1)
    alone = layouts.pp == 1
    behind_forward = forward_s * where(sharded & alone, num_micro_batches, window)
    every_backward = sharded & (alone | (layouts.sharding == int(Sharding.ZERO2)))
    behind_backward = backward_s * where(every_backward, num_micro_batches, window)
    return DataParallelTimes(
        traffic_s=total.total_s,
        exposed_s=_exposed_s(total, profile, sharded, behind_forward, behind_backward),
        optimizer_s=update_s(config, cluster, layouts, state),
    )


def _exposed_s(
    total: Traffic, profile: FrameworkProfile, sharded: BoolArray, forward_s: FloatArray, backward_s: FloatArray
) -> FloatArray:
    """What shows of the traffic: edges, what outlasts the passes, and contention; or at least a share under ZeRO-1. [s]"""
    excess = maximum(total.forward_s - forward_s, 0.0) + maximum(total.backward_s - backward_s, 0.0)
    beside = minimum(total.forward_s, forward_s) + minimum(total.backward_s, backward_s)
    shown = excess + total.edges_s + profile.fsdp_exposed * beside
    return where(sharded, shown, maximum(profile.dp_exposed * total.total_s, excess))


def update_s(config: StepConfig, cluster: ClusterSpec, layouts: LayoutArrays, state: StageState) -> FloatArray:
    """The optimizer reads gradients, reads and writes its state, writes weights; state that lives on the host crosses its link.

    Of the fuller end stage. The link carries master weights and moments out and back at once, so one direction counts. [s]
    """
    shared = maximum(state.first_shared, state.last_shared)
    experts = maximum(state.first_experts, state.last_experts)
    shared_groups, expert_groups = shard_groups(layouts)
    optimizer = config.optimizer
    kept = optimizer.master_bytes + optimizer.moment_bytes
    cut = layouts.sharding >= int(Sharding.ZERO1)
    owned = shared / where(cut, shared_groups.shards, 1) + experts / where(cut, expert_groups.shards, 1)
    per_parameter = optimizer.gradient_bytes + 2.0 * kept + optimizer.weight_bytes
    update = owned * per_parameter / stream_bytes_per_s(cluster.accelerator)
    away = (layouts.offload & int(Offload.OPTIMIZER)) > 0
    if some(away):
        crossing = owned * kept / max(cluster.accelerator.host_bytes_per_s, 1e-30)
        update = where(away, maximum(update, crossing), update)
    return update
