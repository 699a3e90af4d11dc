"""One pipeline's schedule as rows to draw: played out over a batch that is short enough to be seen."""

from __future__ import annotations

import numpy as np

from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout, Schedule
from makespan.specs.model import ModelSpec
from makespan.specs.plan import PipelinePass, PlayedPipeline
from makespan.specs.training import StepConfig
from makespan.step.arrays import LayoutArrays
from makespan.step.orders import WorkKind
from makespan.step.stages import HEAD, stage_times
from makespan.step.timeline import Timeline, simulate

MOST_RANKS = 32
"""Rows that can be told apart in a drawing; of a longer pipeline so many ranks are drawn, evenly spread."""

MOST_SLOTS = 512
"""Passes of one rank that can be told apart; beyond that pp micro-batches are drawn instead of 2 pp."""

SPLIT = (Schedule.ZERO_BUBBLE, Schedule.DUALPIPE)
"""Schedules that put weight gradients off; in the others both gradients of a micro-batch come in one pass."""

_LETTERS = {int(WorkKind.FORWARD): "F", int(WorkKind.INPUT_GRAD): "I", int(WorkKind.WEIGHT_GRAD): "W"}


def num_to_draw(layout: Layout, num_micro_batches: int) -> int:
    """Micro-batches of a batch that fills the pipeline, runs steadily for a while and drains: 2 pp, or fewer.

    Examples
    --------
    >>> num_to_draw(Layout(pp=8), 128), num_to_draw(Layout(pp=8), 5), num_to_draw(Layout(pp=64, vpp=4), 256)
    (16, 5, 64)
    """
    pp = layout.pp
    two_rounds = layout.schedule == Schedule.DUALPIPE or 4 * pp * layout.vpp <= MOST_SLOTS
    return min(num_micro_batches, 2 * pp if two_rounds else pp)


def pipeline_rows(timeline: Timeline) -> tuple[tuple[PipelinePass, ...], ...]:
    """For each rank its passes, by start: (start, end, kind, micro-batch, chunk); times from the start of the passes. [s]

    kind : F forward, B backward with both gradients, I gradient of inputs alone, W gradient of weights alone.
    """
    merge = timeline.schedule not in SPLIT
    rows: list[list[PipelinePass]] = [[] for _ in range(timeline.pp)]
    columns = (timeline.rank, timeline.kind, timeline.micro_batch, timeline.chunk, timeline.start_s, timeline.end_s)
    for rank, kind, micro_batch, chunk, start, end in zip(*(column.tolist() for column in columns), strict=True):
        if kind not in _LETTERS:
            continue
        row = rows[rank]
        if merge and kind == WorkKind.WEIGHT_GRAD and row and row[-1][1:] == (start, "I", micro_batch, chunk):
            row[-1] = (row[-1][0], end, "B", micro_batch, chunk)
        else:
            row.append((start, end, _LETTERS[kind], micro_batch, chunk))
    return tuple(tuple(row) for row in rows)


def played_pipeline(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, profile: FrameworkProfile, layout: Layout
) -> PlayedPipeline | None:
    """The layout's pipeline over a batch of `num_to_draw` micro-batches; None where it has one stage.

    The layout has to be runnable: nothing is checked here. A short batch has the same fill and drain as the step's, so its
    idle share is the larger.
    """
    if layout.pp == 1:
        return None
    count = int(LayoutArrays.of([layout]).num_micro_batches(config.global_batch)[0])
    times = stage_times(model, config, cluster, profile, layout)
    timeline = simulate(
        layout.schedule,
        pp=layout.pp,
        vpp=layout.vpp,
        num_micro_batches=num_to_draw(layout, count),
        forward_s=times.forward_s,
        input_grad_s=times.input_grad_s,
        weight_grad_s=times.weight_grad_s,
        hop_s=times.hop_s,
    )
    ranks = np.unique(np.linspace(0, layout.pp - 1, min(layout.pp, MOST_RANKS)).round().astype(int)).tolist()
    rows, idle = pipeline_rows(timeline), timeline.idle_s.tolist()
    return PlayedPipeline(
        num_micro_batches=count,
        num_played=timeline.num_micro_batches,
        span_s=timeline.makespan_s,
        layers_per_stage=tuple(sum(name != HEAD for name in stage) for stage in times.layers),
        forward_s=tuple(times.forward_s.T.ravel().tolist()),
        input_grad_s=tuple(times.input_grad_s.T.ravel().tolist()),
        weight_grad_s=tuple(times.weight_grad_s.T.ravel().tolist()),
        ranks=tuple(ranks),
        idle_s=tuple(idle[rank] for rank in ranks),
        rows=tuple(rows[rank] for rank in ranks),
    )
