"""Event simulation of a pipeline: who works on which micro-batch when, who waits, and what is held in memory.

The closed forms of `schedules` give a batch's time for a million layouts; this plays one layout's schedule out, pass by
pass. It is what the closed forms are tested against, and what traces and drawings show.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from makespan.specs.layout import Schedule
from makespan.step.arrays import FloatArray, IntArray
from makespan.step.orders import Order, WorkKind, orders

_F, _B, _W = int(WorkKind.FORWARD), int(WorkKind.INPUT_GRAD), int(WorkKind.WEIGHT_GRAD)
_ABSENT = -1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline:
    """What one pipeline does during the passes of a batch. Event columns have shape (events,).

    schedule, pp, vpp, num_micro_batches : what was played.
    rank : pipeline rank that works, or sends.
    kind : codes of `WorkKind`; an unsplit backward pass is an input-gradient event and a weight-gradient event.
    micro_batch, chunk : whose pass; chunk c of rank r is stage c pp + r, under DualPipe 0 counts stages down and 1 up.
    to_rank : receiver of a transfer, -1 for work.
    start_s, end_s : from the start of the batch. [s]
    in_flight : micro-batches whose activations each rank holds at its peak, in units of a whole stage, from the start of
        a forward pass to the end of its weight gradient. Shape (pp,).

    Events stand by rank in the order of work, transfers after.
    """

    schedule: Schedule
    pp: int
    vpp: int
    num_micro_batches: int
    rank: IntArray
    kind: IntArray
    micro_batch: IntArray
    chunk: IntArray
    to_rank: IntArray
    start_s: FloatArray
    end_s: FloatArray
    in_flight: FloatArray

    def __len__(self) -> int:
        return len(self.rank)

    @property
    def makespan_s(self) -> float:
        """From the first forward pass to the last gradient. [s]"""
        return float(self.end_s.max(initial=0.0))

    @property
    def busy_s(self) -> FloatArray:
        """Work of each rank. Shape (pp,). [s]"""
        work = self.kind <= _W
        spent = self.end_s[work] - self.start_s[work]
        return np.asarray(np.bincount(self.rank[work], weights=spent, minlength=self.pp), dtype=np.float64)

    @property
    def idle_s(self) -> FloatArray:
        """The pipeline bubble of each rank, waiting for transfers included. Shape (pp,). [s]"""
        return np.asarray(self.makespan_s - self.busy_s)


def simulate(
    schedule: Schedule,
    *,
    pp: int,
    vpp: int = 1,
    num_micro_batches: int,
    forward_s: ArrayLike,
    input_grad_s: ArrayLike,
    weight_grad_s: ArrayLike,
    hop_s: float = 0.0,
) -> Timeline:
    """Play a schedule out.

    Parameters
    ----------
    forward_s, input_grad_s, weight_grad_s : one micro-batch through each chunk, broadcast to (pp, vpp): row r, column c is
        stage c * pp + r of the model. [s]
    hop_s : one activation, or its gradient, to a neighbour. Transfers run beside the work; those from one rank to one
        other queue up. [s]

    Notes
    -----
    Every rank keeps its order strictly, as the frameworks do, and starts a block when the rank is free and the inputs are
    there. A sender never waits for the receiver. Kernels do not slow down while transfers run.

    Raises
    ------
    ValueError : the schedule cannot run with these sizes, or a time is negative or not finite.

    Examples
    --------
    >>> line = simulate(Schedule.ONE_F_ONE_B, pp=4, num_micro_batches=8, forward_s=1, input_grad_s=1, weight_grad_s=1)
    >>> line.makespan_s, line.idle_s.tolist(), line.in_flight.tolist()
    (33.0, [9.0, 9.0, 9.0, 9.0], [4.0, 3.0, 2.0, 1.0])
    """
    plan = orders(schedule, pp=pp, vpp=vpp, num_micro_batches=num_micro_batches)
    seconds = []
    for given in (forward_s, input_grad_s, weight_grad_s):
        table = np.broadcast_to(np.asarray(given, dtype=np.float64), (pp, vpp))
        if not np.isfinite(table).all() or (table < 0.0).any():
            raise ValueError("times of a pipeline must be finite and not negative")
        seconds.append(table.T.ravel().tolist())  # by stage: chunk * pp + rank
    if not (np.isfinite(hop_s) and hop_s >= 0.0):
        raise ValueError("times of a pipeline must be finite and not negative")
    player = _Player(plan, schedule, pp, vpp, num_micro_batches, seconds, float(hop_s))
    player.play()
    return player.timeline()


class _Player:
    """State of a simulation: when each input arrives, when each rank is free."""

    def __init__(
        self,
        plan: list[Order],
        schedule: Schedule,
        pp: int,
        vpp: int,
        count: int,
        seconds: list[list[float]],
        hop_s: float,
    ) -> None:
        self.plan, self.schedule, self.pp, self.vpp, self.count = plan, schedule, pp, vpp, count
        self.seconds, self.hop_s = seconds, hop_s
        self.num_stages = pp * vpp
        two_ways = schedule == Schedule.DUALPIPE
        chunks = 2 if two_ways else vpp
        up = [pp - 1 - rank for rank in range(pp)]
        self.stage_of = [
            [up[rank] if two_ways and chunk else chunk * pp + rank for chunk in range(chunks)] for rank in range(pp)
        ]
        # Rank that runs a stage, by chunk (only DualPipe runs a stage in two places).
        self.rank_of = [[up[s] if two_ways and c else s % pp for s in range(self.num_stages)] for c in range(2)]
        self.two_ways = two_ways
        # [forward or backward][stage][micro-batch]: when the input is there.
        self.arrival = [[[_ABSENT] * count for _ in range(self.num_stages)] for _ in range(2)]
        self.arrival[_F][0] = [0.0] * count
        self.free = [0.0] * pp
        self.position = [0] * pp
        self.link_free: dict[tuple[int, int], float] = {}
        self.events: list[list[tuple[int, int, int, int, int, float, float]]] = [[] for _ in range(pp)]
        self.transfers: list[tuple[int, int, int, int, int, float, float]] = []

    def play(self) -> None:
        waiting = deque(range(self.pp))
        queued = [True] * self.pp
        while waiting:
            rank = waiting.popleft()
            queued[rank] = False
            for other in self._run(rank):
                if not queued[other]:
                    queued[other] = True
                    waiting.append(other)
        assert all(self.position[r] == len(self.plan[r]) for r in range(self.pp)), "the schedule deadlocks"

    def _run(self, rank: int) -> list[int]:
        """Work until an input is missing. Ranks that got something, each once or more."""
        order, position, clock = self.plan[rank], self.position[rank], self.free[rank]
        stages, arrival, seconds, events = self.stage_of[rank], self.arrival, self.seconds, self.events[rank]
        woken: list[int] = []
        while position < len(order):
            block = order[position]
            start = clock
            for kind, micro_batch, chunk in block:
                if kind != _W:
                    there = arrival[kind][stages[chunk]][micro_batch]
                    if there < 0.0:
                        self.position[rank], self.free[rank] = position, clock
                        return woken
                    start = max(start, there)
            clock = start
            for kind, micro_batch, chunk in block:
                begin, clock = clock, clock + seconds[kind][stages[chunk]]
                events.append((rank, kind, micro_batch, chunk, -1, begin, clock))
            for kind, micro_batch, chunk in block:
                if kind != _W:
                    self._hand_on(rank, kind, micro_batch, chunk, clock, woken)
            position += 1
        self.position[rank], self.free[rank] = position, clock
        return woken

    def _hand_on(self, rank: int, kind: int, micro_batch: int, chunk: int, at_s: float, woken: list[int]) -> None:
        stage = self.stage_of[rank][chunk]
        if kind == _F and stage == self.num_stages - 1:
            self.arrival[_B][stage][micro_batch] = at_s
            return
        if kind == _B and stage == 0:
            return
        target = stage + 1 if kind == _F else stage - 1
        receiver = self.rank_of[chunk if self.two_ways else 0][target]
        if self.hop_s > 0.0 and receiver != rank:
            begin = max(at_s, self.link_free.get((rank, receiver), 0.0))
            at_s = begin + self.hop_s
            self.link_free[rank, receiver] = at_s
            what = WorkKind.SEND_FORWARD if kind == _F else WorkKind.SEND_BACKWARD
            self.transfers.append((rank, int(what), micro_batch, chunk, receiver, begin, at_s))
        self.arrival[kind][target][micro_batch] = at_s
        woken.append(receiver)

    def timeline(self) -> Timeline:
        rows = [row for events in self.events for row in events] + sorted(self.transfers)
        columns = list(zip(*rows, strict=True))
        rank, kind, micro_batch, chunk, to_rank = (np.array(column, dtype=np.int64) for column in columns[:5])
        peaks = [_peak(events) for events in self.events]
        return Timeline(
            schedule=self.schedule,
            pp=self.pp,
            vpp=self.vpp,
            num_micro_batches=self.count,
            rank=rank,
            kind=kind,
            micro_batch=micro_batch,
            chunk=chunk,
            to_rank=to_rank,
            start_s=np.array(columns[5], dtype=np.float64),
            end_s=np.array(columns[6], dtype=np.float64),
            in_flight=np.array(peaks, dtype=np.float64) / self.vpp,
        )


def _peak(events: list[tuple[int, int, int, int, int, float, float]]) -> int:
    """Most passes whose forward has begun and whose weight gradient has not ended, over one rank's work."""
    kind = np.array([event[1] for event in events], dtype=np.int64)
    return int(np.cumsum(np.where(kind == _F, 1, np.where(kind == _W, -1, 0))).max(initial=0))
