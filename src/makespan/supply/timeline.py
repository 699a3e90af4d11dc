"""From dated events to a `CapacityTimeline`: merge, drop what changes nothing, pad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makespan.specs.supply import CAUSES, CapacityTimeline

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CODE = {cause: code for code, cause in enumerate(CAUSES)}
KEEP = -1
"""Code of an event that leaves the cause as it is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Things that happen, in any order; arrays of shape (replicates, events), `inf` for what never does.

    added : accelerators accepted by the event.   cause : what holds the next ones back from then on, or `KEEP`.
    Of causes set at the same moment the one further right counts.
    """

    time_s: FloatArray
    added: FloatArray
    cause: IntArray

    @classmethod
    def of(
        cls, time_s: FloatArray, *, added: FloatArray | IntArray | float = 0.0, cause: IntArray | int = KEEP
    ) -> Events:
        """Events with counts and causes that broadcast to the shape of the times."""
        return cls(
            time_s=time_s,
            added=np.broadcast_to(np.asarray(added, dtype=np.float64), time_s.shape),
            cause=np.broadcast_to(np.asarray(cause, dtype=np.int64), time_s.shape),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Merged:
    """State between breakpoints, shape (replicates, segments): see `CapacityTimeline` for the padding."""

    start_s: FloatArray
    total: FloatArray
    cause: IntArray


def merge(parts: list[Events], horizon_s: float) -> Merged:
    """Sort events by time and add them up. The first segment starts at 0 and holds all that happened before.

    Events at or after the horizon are left out: what is not there by then never is.
    """
    zero = Events.of(np.zeros((len(parts[0].time_s), 1)))
    time = np.hstack([part.time_s for part in [*parts, zero]])
    added = np.hstack([part.added for part in [*parts, zero]])
    cause = np.hstack([part.cause for part in [*parts, zero]])
    time = np.where(time >= horizon_s, np.inf, time)
    used = np.isfinite(time).any(axis=0) | np.isneginf(time).any(axis=0)
    time, added, cause = time[:, used], added[:, used], cause[:, used]

    order = np.argsort(time, axis=1, kind="stable")
    time = np.take_along_axis(time, order, axis=1)
    total = np.cumsum(np.take_along_axis(added, order, axis=1), axis=1)
    cause = np.take_along_axis(cause, order, axis=1)
    last_set = np.maximum.accumulate(np.where(cause == KEEP, 0, np.arange(cause.shape[1])), axis=1)
    cause = np.maximum(np.take_along_axis(cause, last_set, axis=1), 0)

    following = np.hstack([time[:, 1:], np.full((len(time), 1), np.inf)])
    keep = (time >= 0) & np.isfinite(time) & (time < following)
    start, index = _compact(keep, time)
    return Merged(
        start_s=start,
        total=np.take_along_axis(total, index, axis=1),
        cause=np.take_along_axis(cause, index, axis=1),
    )


def _compact(keep: BoolArray, start_s: FloatArray) -> tuple[FloatArray, IntArray]:
    """Starts of the kept segments moved to the left and padded with `inf`; and where each comes from.

    The second array gathers values in step with the starts; padding repeats the last kept one.
    """
    count = keep.sum(axis=1)
    width = int(count.max())
    order = np.argsort(~keep, axis=1, kind="stable")[:, :width]
    column = np.arange(width)[None, :]
    index = np.take_along_axis(order, np.minimum(column, count[:, None] - 1), axis=1)
    start = np.where(column < count[:, None], np.take_along_axis(start_s, index, axis=1), np.inf)
    return start, index


def timeline(
    *,
    pool: str,
    target: int,
    start_s: FloatArray,
    installed: FloatArray,
    powered: FloatArray,
    usable: FloatArray,
    power_limit_w: FloatArray,
    binding: IntArray,
) -> CapacityTimeline:
    """A `CapacityTimeline` of breakpoints at which something changes; arrays as it describes them."""
    same = np.ones(start_s[:, 1:].shape, dtype=bool)
    for values in (installed, powered, usable, power_limit_w, binding):
        same &= values[:, 1:] == values[:, :-1]
    keep = np.isfinite(start_s)
    keep[:, 1:] &= ~same
    start, index = _compact(keep, start_s)
    return CapacityTimeline(
        pool=pool,
        target=target,
        start_s=start,
        installed=np.take_along_axis(installed, index, axis=1),
        powered=np.take_along_axis(powered, index, axis=1),
        usable=np.take_along_axis(usable, index, axis=1),
        power_limit_w=np.take_along_axis(power_limit_w, index, axis=1),
        binding=np.take_along_axis(binding, index, axis=1).astype(np.int64),
    )


def first_time_s(line: CapacityTimeline, values: FloatArray, level: FloatArray | float) -> FloatArray:
    """First start of a segment in which an array of the timeline reaches a level; `inf` for never.

    level : a number, or one a replicate of shape (replicates,).
    """
    reached = values >= np.reshape(np.asarray(level, dtype=np.float64), (-1, 1))
    result: FloatArray = np.min(np.where(reached, line.start_s, np.inf), axis=1)
    return result
