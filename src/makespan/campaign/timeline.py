"""Capacity of every pool and the run's share of it, on one list of dates a replicate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from makespan.campaign.levels import Levels
    from makespan.specs.supply import CapacityTimeline
    from makespan.specs.training import ShareStep
    from makespan.uncertainty import Streams

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """Segments in which no pool and no share changes; ties make segments of no length, which do no harm.

    start_s : shape (R, S), ascending, `inf` where unused.   share : of the usable accelerators, shape (R, S).
    usable, binding : of each pool, shape (R, S, P).   target : shape (P,).
    held : usable * share, shape (R, S, P).   room : of those, for computing (hot spares taken off).
    fit : level that is used in that room, shape (R, S, P), -1 for none.
    startable : the run may start there (`min_accelerators`), shape (R, S, P).
    next_change_s : next date at which any `fit` or `startable` changes, shape (R, S).
    """

    start_s: FloatArray
    share: FloatArray
    usable: FloatArray
    binding: IntArray
    target: FloatArray
    held: FloatArray
    room: FloatArray
    fit: IntArray
    startable: BoolArray
    next_change_s: FloatArray

    def segment(self, rows: IntArray, time_s: FloatArray) -> IntArray:
        """Segment of each row at its time, shape (rows,)."""
        index: IntArray = np.maximum(np.sum(self.start_s[rows] <= time_s[:, None], axis=1) - 1, 0)
        return index


def draw_shares(run_share: Sequence[ShareStep], streams: Streams) -> FloatArray:
    """The run's share of the usable accelerators from each step on, by date; shape (R, steps), all 1 without steps. [-]"""
    steps = sorted(run_share, key=lambda step: step.from_s)
    shares = [streams.draw(step.share, f"run_share.{number}") for number, step in enumerate(steps)]
    return np.stack(shares, axis=1) if shares else np.ones((streams.num_replicates, 1))


def build_windows(
    capacities: Sequence[CapacityTimeline],
    run_share: Sequence[ShareStep],
    min_accelerators: int,
    levels: Levels,
    streams: Streams,
) -> Windows:
    """Merge the pools' timelines and the share's steps. Before its first step the share is that of the first step."""
    num_replicates, num_pools = streams.num_replicates, len(capacities)
    steps = sorted(run_share, key=lambda step: step.from_s)
    share_table = draw_shares(run_share, streams)
    if not np.all((share_table >= 0) & (share_table <= 1)):
        raise ValueError("run_share must lie between 0 and 1 in every replicate")

    starts = [timeline.start_s for timeline in capacities]
    starts.append(np.broadcast_to([max(step.from_s, 0.0) for step in steps], (num_replicates, len(steps))))
    origin = np.concatenate([np.full(part.shape[1], number) for number, part in enumerate(starts)])
    start_s = np.concatenate(starts, axis=1)
    order = np.argsort(start_s, axis=1, kind="stable")
    start_s = np.take_along_axis(start_s, order, axis=1)
    origin_of = origin[order]

    def current(number: int, values: FloatArray | IntArray) -> NDArray[np.generic]:
        index = np.cumsum(origin_of == number, axis=1) - 1
        return np.take_along_axis(values, np.maximum(index, 0), axis=1)

    share = np.asarray(current(num_pools, share_table), np.float64)
    usable = np.stack([current(p, timeline.usable) for p, timeline in enumerate(capacities)], axis=2).astype(np.float64)
    binding = np.stack([current(p, timeline.binding) for p, timeline in enumerate(capacities)], axis=2).astype(np.int64)
    held = usable * share[:, :, None]
    room = held * (1.0 - levels.spare_fraction)
    fit = np.stack([levels.fitting(p, room[:, :, p]) for p in range(num_pools)], axis=2)
    startable = (held * (1.0 + 1e-9) >= min_accelerators) & (fit >= 0)

    changes = np.zeros(start_s.shape, dtype=bool)
    changes[:, 1:] = np.any((fit[:, 1:] != fit[:, :-1]) | (startable[:, 1:] != startable[:, :-1]), axis=2)
    coming = np.where(changes, start_s, np.inf)
    next_change = np.full_like(start_s, np.inf)
    next_change[:, :-1] = np.minimum.accumulate(coming[:, :0:-1], axis=1)[:, ::-1]
    return Windows(
        start_s=start_s,
        share=share,
        usable=usable,
        binding=binding,
        target=np.array([timeline.target for timeline in capacities], dtype=np.float64),
        held=held,
        room=room,
        fit=fit,
        startable=startable,
        next_change_s=next_change,
    )
