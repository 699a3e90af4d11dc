"""Summing gradients and handing out weights over data-parallel ranks, and the optimizer's own time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from makespan.network import all_gather_s, all_reduce_s, members_per_tier, reduce_scatter_s
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Sharding
from makespan.specs.training import StepConfig
from makespan.step.arrays import FloatArray, IntArray, LayoutArrays
from makespan.step.kernels import stream_bytes_per_s
from makespan.step.memory import StageState


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataParallelTimes:
    """Whole step, shape (layouts,). `traffic_s` as if nothing hid it; `exposed_s` the part that shows. [s]"""

    traffic_s: FloatArray
    exposed_s: FloatArray
    optimizer_s: FloatArray


def _traffic_s(
    shared: FloatArray,
    size: IntArray,
    stride: IntArray | int,
    *,
    cluster: ClusterSpec,
    config: StepConfig,
    layouts: LayoutArrays,
    passes: IntArray,
) -> FloatArray:
    """Collectives of one group over `shared` parameters: by sharding stage. [s]

    passes : times a step that gradients are reduced under ZeRO-2, and weights gathered twice and gradients reduced
        under ZeRO-3 without a pipeline.
    """
    fabric, optimizer = cluster.fabric, config.optimizer
    group = members_per_tier(fabric, size, stride)
    gather = all_gather_s(fabric, group, optimizer.weight_bytes * shared)
    reduce = reduce_scatter_s(fabric, group, optimizer.gradient_bytes * shared)
    whole = all_reduce_s(fabric, group, optimizer.gradient_bytes * shared)
    sharding = layouts.sharding
    return np.asarray(
        np.select(
            [sharding == int(Sharding.NONE), sharding == int(Sharding.ZERO1), sharding == int(Sharding.ZERO2)],
            [whole, reduce + gather, passes * reduce + gather],
            np.where(layouts.pp > 1, gather + reduce, passes * (2.0 * gather + reduce)),
        )
    )


def data_parallel_times(
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    layouts: LayoutArrays,
    state: StageState,
    *,
    num_micro_batches: IntArray,
    compute_s: FloatArray,
) -> DataParallelTimes:
    """Gradient and weight traffic of the fuller end stage, and the optimizer's update.

    Parameters
    ----------
    compute_s : what the traffic can hide behind: the whole pipelined batch. [s]

    Notes
    -----
    ZeRO-1 and -2 (and plain data parallelism): a share `dp_exposed` always shows, the rest hides while there is compute.
    ZeRO-3 (FSDP): traffic and compute run side by side, the longer one counts, and traffic costs compute the share
    `fsdp_exposed` by contention for memory and multiprocessors. Without a pipeline ZeRO-3 gathers and reduces every
    micro-batch. With one, a stage keeps its weights and gradients whole between micro-batches (see `memory`) and
    gathers and reduces once a step: any other way would multiply the traffic by the micro-batches.
    """
    shared = np.maximum(state.first_shared, state.last_shared)
    experts = np.maximum(state.first_experts, state.last_experts)
    data = layouts.cp * layouts.dp
    expert_data = layouts.tp * data // (layouts.ep * layouts.etp)
    passes = num_micro_batches

    def traffic(parameters: FloatArray, size: IntArray, stride: IntArray) -> FloatArray:
        return _traffic_s(parameters, size, stride, cluster=cluster, config=config, layouts=layouts, passes=passes)

    total = traffic(shared, data, layouts.tp)
    if np.any(experts > 0):
        total = total + traffic(experts, expert_data, layouts.ep * layouts.etp)
    sharded = layouts.sharding == int(Sharding.ZERO3)
    excess = np.maximum(total - compute_s, 0.0)
    exposed = np.where(sharded, excess + profile.fsdp_exposed * np.minimum(total, compute_s), 0.0)
    exposed = np.where(sharded, exposed, np.maximum(profile.dp_exposed * total, excess))

    optimizer = config.optimizer
    per_parameter = (
        optimizer.gradient_bytes + 2.0 * (optimizer.master_bytes + optimizer.moment_bytes) + optimizer.weight_bytes
    )
    cut = layouts.sharding >= int(Sharding.ZERO1)
    owned = shared / np.where(cut, data, 1) + experts / np.where(cut, np.maximum(expert_data, 1), 1)
    update = owned * per_parameter / stream_bytes_per_s(cluster.accelerator)
    return DataParallelTimes(traffic_s=total, exposed_s=exposed, optimizer_s=update)
