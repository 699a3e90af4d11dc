"""In which order each pipeline rank works: GPipe, 1F1B, interleaved 1F1B, ZB-H1 and DualPipe, written out.

A *work* is one forward (F), input-gradient (B) or weight-gradient (W) pass of one micro-batch through one model chunk. A
*block* is a tuple of works that a rank runs back to back: it starts when all its inputs are there, and hands on its results
at its end. An unsplit backward pass is the block (B, W); DualPipe's overlapped pair is the block (F, B, W).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from makespan.specs.layout import Schedule
from makespan.step.schedules import micro_batch_group, schedule_allowed


class WorkKind(IntEnum):
    """What a pipeline rank does, or sends."""

    FORWARD = 0
    INPUT_GRAD = 1
    WEIGHT_GRAD = 2
    SEND_FORWARD = 3
    """An activation on its way to the next stage."""
    SEND_BACKWARD = 4
    """The gradient of an activation on its way to the stage before."""


F, B, W = int(WorkKind.FORWARD), int(WorkKind.INPUT_GRAD), int(WorkKind.WEIGHT_GRAD)


class Work(NamedTuple):
    """One pass of one micro-batch through one chunk. `kind` is a code of `WorkKind`."""

    kind: int
    micro_batch: int
    chunk: int


Block = tuple[Work, ...]
Order = list[Block]


def orders(schedule: Schedule, *, pp: int, vpp: int, num_micro_batches: int) -> list[Order]:
    """The blocks of each pipeline rank, in order.

    Chunk c of rank r is stage c * pp + r of the model. Under DualPipe chunk 0 is stage r, whose micro-batches (the first
    half) run down the ranks, and chunk 1 is stage pp - 1 - r, whose micro-batches (the second half) run up.

    Raises
    ------
    ValueError : the schedule cannot run with these sizes (see `schedule_allowed`).
    """
    if min(pp, vpp, num_micro_batches) < 1 or not schedule_allowed(int(schedule), pp, vpp, num_micro_batches):
        raise ValueError(f"{schedule.name} cannot run with pp={pp}, vpp={vpp}, {num_micro_batches} micro-batches")
    if schedule == Schedule.GPIPE:
        return [_gpipe(num_micro_batches) for _ in range(pp)]
    if schedule == Schedule.ZERO_BUBBLE:
        return [_zb_h1(rank, pp, num_micro_batches) for rank in range(pp)]
    if schedule == Schedule.DUALPIPE:
        return [_dualpipe(rank, pp, num_micro_batches) for rank in range(pp)]
    return _one_f_one_b(pp, vpp, num_micro_batches)


def _forward(micro_batch: int, chunk: int = 0) -> Block:
    return (Work(F, micro_batch, chunk),)


def _backward(micro_batch: int, chunk: int = 0) -> Block:
    return (Work(B, micro_batch, chunk), Work(W, micro_batch, chunk))


def _gpipe(count: int) -> Order:
    """All forward passes, then all backward passes in the same order (Huang et al., arXiv:1811.06965)."""
    return [_forward(i) for i in range(count)] + [_backward(i) for i in range(count)]


def _one_f_one_b(pp: int, vpp: int, count: int) -> list[Order]:
    """1F1B and its interleaved form, as Megatron-Core orders them.

    The micro-batches go through the chunks in groups of `micro_batch_group`: a group through chunk 0, then through chunk 1,
    and so on; the backward passes in the same order with the chunks reversed. Forward passes before the first backward
    pass: pp - rank - 1 with one chunk, else 2 (pp - rank - 1) + (vpp - 1) group.

    Narayanan et al., arXiv:2104.04473; Megatron-Core, `pipeline_parallel/schedules.py`, `get_pp_rank_microbatches` and
    `get_schedule_table`.
    """
    group = int(micro_batch_group(pp, vpp, count))
    turns = [
        (i, chunk)
        for first in range(0, count, group)
        for chunk in range(vpp)
        for i in range(first, min(first + group, count))
    ]
    forward = [_forward(i, chunk) for i, chunk in turns]
    backward = [_backward(i, vpp - 1 - chunk) for i, chunk in turns]
    total = len(turns)
    result = []
    for rank in range(pp):
        behind = pp - rank - 1
        warm_up = min(behind if vpp == 1 else 2 * behind + (vpp - 1) * group, total)
        order = forward[:warm_up]
        for turn in range(total - warm_up):
            order += (forward[warm_up + turn], backward[turn])
        result.append(order + backward[total - warm_up :])
    return result


def _zb_h1(rank: int, pp: int, count: int) -> Order:
    """ZB-H1: 1F1B in which rank r puts off the weight gradients of r micro-batches until the end.

    Every rank then holds the activations of pp micro-batches: pp - r to come back, r that wait for their weight gradient.
    Qi et al., arXiv:2401.10241, section 2.1.
    """
    warm_up = min(pp - rank - 1, count)
    order = [_forward(i) for i in range(warm_up)]
    for i in range(count):
        if warm_up + i < count:
            order.append(_forward(warm_up + i))
        order.append((Work(B, i, 0),))
        if i >= rank:
            order.append((Work(W, i - rank, 0),))
    return order + [(Work(W, i, 0),) for i in range(max(count - rank, 0), count)]


class _TwoWays:
    """Writes one rank's DualPipe order; `way` 0 is the direction that enters at the nearer end of the pipeline."""

    def __init__(self, rank: int, pp: int, count: int) -> None:
        self.flip = int(rank >= pp // 2)
        self.half = count // 2
        self.forwards = [0, 0]
        self.backwards = [0, 0]
        self.owed: list[Work] = []
        self.order: Order = []

    def _next(self, counter: list[int], way: int) -> tuple[int, int]:
        chunk = way ^ self.flip
        index = counter[way] + chunk * self.half
        counter[way] += 1
        return index, chunk

    def forward(self, way: int) -> None:
        self.order.append(_forward(*self._next(self.forwards, way)))

    def backward(self, way: int, *, split: bool = False) -> None:
        both = _backward(*self._next(self.backwards, way))
        if split:
            self.owed.append(both[1])
        self.order.append(both[:1] if split else both)

    def weight(self) -> None:
        self.order.append((self.owed.pop(0),))

    def pair(self, forward: int, backward: int) -> None:
        """An overlapped forward and backward pass of opposite directions."""
        self.order.append(
            _forward(*self._next(self.forwards, forward)) + _backward(*self._next(self.backwards, backward))
        )


def _dualpipe(rank: int, pp: int, count: int) -> Order:
    """DualPipe's eight phases.

    DeepSeek-AI, arXiv:2412.19437, section 3.2.1 and figure 5; github.com/deepseek-ai/DualPipe, `dualpipe.py`, `step`.
    """
    depth = min(rank, pp - 1 - rank)
    outside = pp // 2 - depth - 1
    rows = _TwoWays(rank, pp, count)
    for _ in range(2 * outside):
        rows.forward(0)
    for _ in range(depth + 1):
        rows.forward(0)
        rows.forward(1)
    for _ in range(outside):
        rows.backward(1, split=True)
        rows.weight()
        rows.forward(1)
    for turn in range(count // 2 - pp + depth + 1):
        if turn == 0 and outside == 0:  # the two middle ranks keep the first pair apart
            rows.forward(0)
            rows.backward(1)
        else:
            rows.pair(0, 1)
        rows.pair(1, 0)
    for _ in range(outside):
        rows.backward(1)
        rows.pair(1, 0)
    for turn in range(2 * (depth + 1)):
        rows.backward(1 - turn % 2, split=turn >= depth + 1)
    for _ in range(outside):
        rows.weight()
        rows.backward(0, split=True)
    while rows.owed:
        rows.weight()
    return rows.order
