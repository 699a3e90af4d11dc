"""One layout's pipeline, stage by stage: which layers a chunk holds, how long its passes take, and the schedule played out.

`pipeline` says the same for a million layouts in closed form; this is for looking at one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step.arrays import FloatArray, LayoutArrays
from makespan.step.evaluate import layer_table, pipe_traffic_s
from makespan.step.timeline import Timeline, simulate
from makespan.workload import body_names, layer_kinds

HEAD = "head"
"""Stands for logits and loss in the list of a chunk's layers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageTimes:
    """Seconds of one micro-batch through every chunk; arrays of shape (pp, vpp), chunk c of rank r being stage c pp + r.

    layers : names of the layers in each stage, first to last (`HEAD` for logits and loss).
    exposed_fraction : communication of the layers that shows, by kind, as a share of forward and input-gradient passes.
    hop_s : one activation to the next stage. [s]
    """

    layers: tuple[tuple[str, ...], ...]
    forward_s: FloatArray
    input_grad_s: FloatArray
    weight_grad_s: FloatArray
    exposed_fraction: Mapping[str, float]
    hop_s: float


def chunk_sizes(num_layers: int, num_chunks: int) -> list[int]:
    """Layers of each chunk: full ones first, what is missing taken from the end, at most one chunk's worth each.

    Examples
    --------
    >>> chunk_sizes(30, 8), chunk_sizes(61, 32)[-3:]
    ([4, 4, 4, 4, 4, 4, 4, 2], [2, 1, 0])
    """
    full = -(-num_layers // num_chunks)
    sizes, spare = [full] * num_chunks, full * num_chunks - num_layers
    for place in reversed(range(num_chunks)):
        given = min(spare, full)
        sizes[place] -= given
        spare -= given
    return sizes


def chunk_layers(model: ModelSpec, layout: Layout) -> tuple[tuple[str, ...], ...]:
    """Names of the layers in each of the pp * vpp stages, as `pipeline.plan_stages` cuts them."""
    num_chunks = layout.pp * layout.vpp
    names, sizes = body_names(model), chunk_sizes(model.num_layers, num_chunks)
    ends = np.cumsum(sizes).tolist()
    stages = [list(names[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
    full = -(-model.num_layers // num_chunks)
    spare = full * num_chunks - model.num_layers
    if model.mtp_layers:
        place = -2 if layout.pp > 2 and spare > min(spare, full) else -1
        for kind in layer_kinds(model):
            stages[place] += [kind.name] * kind.mtp
        stages[place] += [HEAD] * model.mtp_layers
    stages[-1].append(HEAD)
    return tuple(tuple(stage) for stage in stages)


def stage_times(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, layout: Layout
) -> StageTimes:
    """How long each chunk of a layout takes for one micro-batch.

    The layout has to be runnable: nothing is checked here.
    """
    rows = LayoutArrays.of([layout])
    table = layer_table(model, config, cluster, profile, rows)
    parts = {kind.name: times for kind, times in zip(layer_kinds(model), table.kinds, strict=True)}
    parts[HEAD] = table.head
    stages = chunk_layers(model, layout)

    def by_chunk(pick: str) -> FloatArray:
        one = {name: float(getattr(times, pick)[0]) for name, times in parts.items()}
        sums = [sum(one[name] for name in stage) for stage in stages]
        return np.array(sums).reshape(layout.vpp, layout.pp).T

    held = Counter(name for stage in stages for name in stage)
    kinds = {kind for times in parts.values() for kind in times.exposed}
    shown = {
        kind: sum(
            count * float(parts[name].exposed[kind][0]) for name, count in held.items() if kind in parts[name].exposed
        )
        for kind in sorted(kinds)
    }
    forward, weight, busy = by_chunk("forward_s"), by_chunk("weight_s"), by_chunk("busy_s")
    return StageTimes(
        layers=stages,
        forward_s=forward,
        input_grad_s=busy - forward - weight,
        weight_grad_s=weight,
        exposed_fraction={kind: seconds / float((busy - weight).sum()) for kind, seconds in shown.items()},
        hop_s=float(pipe_traffic_s(model, config, cluster, rows)[0]) * profile.pp_exposed,
    )


def pipeline_timeline(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, layout: Layout
) -> Timeline:
    """The layout's schedule played out over one step, before gradients are summed and weights updated.

    Raises
    ------
    ValueError : the schedule cannot run with these sizes.
    """
    times = stage_times(model, config, cluster, profile, layout)
    count = int(LayoutArrays.of([layout]).num_micro_batches(config.global_batch)[0])
    return simulate(
        layout.schedule,
        pp=layout.pp,
        vpp=layout.vpp,
        num_micro_batches=count,
        forward_s=times.forward_s,
        input_grad_s=times.input_grad_s,
        weight_grad_s=times.weight_grad_s,
        hop_s=times.hop_s if layout.pp > 1 else 0.0,
    )
