"""A block of faults for many replicates at once, and the same in expectation where there are too many to draw.

The readable reference, one event at a time, is `tests/oracle/test_campaign_reference.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from makespan.campaign.draws import whole_lanes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from makespan.campaign.draws import EventDraws

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(slots=True, kw_only=True, eq=False)
class Rows:
    """What a block needs to know of each replicate; shape (rows,).

    room_s : time until capacity may change or the horizon is reached.   need_s : training left in the stage.
    pending_* : what is left of a recovery under way.   up_s : time up since the last restart, not booked yet.
    """

    room_s: FloatArray
    need_s: FloatArray
    hazard_per_s: FloatArray
    interval_s: FloatArray
    blocking_s: FloatArray
    safe_s: FloatArray
    detection_s: FloatArray
    restart_s: FloatArray
    wait_probability: FloatArray
    wait_s: FloatArray
    pending_detection_s: FloatArray
    pending_wait_s: FloatArray
    pending_restart_s: FloatArray
    up_s: FloatArray


@dataclass(slots=True, kw_only=True, eq=False)
class Booked:
    """What a block did; shape (rows,).

    elapsed_s : wall time.   kept_s : training that counts; includes time up booked from earlier blocks.
    columns : of the draws that were read.   The other lines are those of the ledger.
    `pending_*` and `up_s` as in `Rows`; `up_s` is not in any line yet.
    """

    elapsed_s: FloatArray
    kept_s: FloatArray
    lost_s: FloatArray
    checkpoint_s: FloatArray
    detection_s: FloatArray
    wait_s: FloatArray
    restart_s: FloatArray
    faults: FloatArray
    columns: IntArray
    finished: BoolArray
    pending_detection_s: FloatArray
    pending_wait_s: FloatArray
    pending_restart_s: FloatArray
    up_s: FloatArray


def trained_s(up_s: FloatArray, interval_s: FloatArray, blocking_s: FloatArray) -> FloatArray:
    """Training in a time up that began with a restart; the rest of it was spent in saves. [s]"""
    period = interval_s + blocking_s
    whole = np.floor(up_s / period)
    return np.minimum(whole * interval_s + np.minimum(np.maximum(up_s - whole * period, 0.0), interval_s), up_s)


def run_block(rows: Rows, draws: EventDraws) -> Booked:
    """Advance every row to the end of its draws, of its room or of its work, whichever comes first.

    Column i of the arrays is the cycle that ends with fault i: detection and wait (nothing can fail), restart (a fault
    cuts it short), time up. Column 0 goes on from what the last block left pending.
    """
    detection = _recovery(rows.pending_detection_s, draws.recovery, rows.detection_s)
    wait = _waits(rows, draws)
    gap = draws.gap / rows.hazard_per_s[:, None]
    cycle = detection + gap if wait is None else detection + gap + wait
    ends = np.cumsum(cycle, axis=1)
    whole = np.minimum(np.sum(ends <= rows.room_s[:, None], axis=1), draws.count)
    width = min(gap.shape[1], whole_lanes(int(whole.max()) + 1))

    restart = _recovery(rows.pending_restart_s, draws.recovery[:, :width], rows.restart_s)
    gap, detection, ends = gap[:, :width], detection[:, :width], ends[:, :width]
    up = np.maximum(gap - restart, 0.0)
    up[:, 0] += rows.up_s
    interval, blocking = rows.interval_s[:, None], rows.blocking_s[:, None]
    trained = trained_s(up, interval, blocking)
    late = (rows.safe_s - rows.blocking_s)[:, None]
    kept = np.floor(np.maximum(up - late, 0.0) / (interval + blocking)) * interval
    kept = np.minimum(kept, trained)

    finish, need_up, need_left = _finish(rows, up, trained, kept)
    finish = np.where(finish < draws.count, finish, np.iinfo(np.int64).max)
    stop = np.minimum(whole, finish)
    mask = (np.arange(width)[None, :] < stop[:, None]).astype(np.float64)
    kept_s, trained_sum, up_sum = (np.einsum("ij,ij->i", x, mask) for x in (kept, trained, up))
    booked = Booked(
        elapsed_s=np.zeros_like(rows.room_s),
        kept_s=kept_s,
        lost_s=trained_sum - kept_s,
        checkpoint_s=up_sum - trained_sum,
        detection_s=np.einsum("ij,ij->i", detection, mask),
        wait_s=np.zeros_like(rows.room_s) if wait is None else np.einsum("ij,ij->i", wait[:, :width], mask),
        restart_s=np.einsum("ij,ij->i", np.minimum(gap, restart), mask),
        faults=stop.astype(np.float64),
        columns=np.minimum(stop + 1, draws.count),
        finished=np.zeros(len(stop), dtype=bool),
        pending_detection_s=np.zeros_like(rows.room_s),
        pending_wait_s=np.zeros_like(rows.room_s),
        pending_restart_s=np.zeros_like(rows.room_s),
        up_s=np.zeros_like(rows.room_s),
    )
    used_up = np.flatnonzero(stop == draws.count)
    if len(used_up):
        _end_of_draws(booked, used_up, ends, rows, draws)
    part = np.flatnonzero(stop < draws.count)
    if len(part):
        column = stop[part]
        wait_at = np.zeros(len(part)) if wait is None else wait[part, column]
        before = np.where(column > 0, ends[part, np.maximum(column - 1, 0)], 0.0)
        _partial_cycle(
            booked,
            part,
            rows,
            before,
            parts=(detection[part, column], wait_at, restart[part, column]),
            carried=np.where(column == 0, rows.up_s[part], 0.0),
            finishing=finish[part] <= whole[part],
            need_up=need_up[part],
            need_left=need_left[part],
        )
    return booked


def _recovery(pending: FloatArray, factor: FloatArray, mean: FloatArray) -> FloatArray:
    """Recovery at the head of each cycle: what is pending, then that of the fault before."""
    result = np.empty_like(factor)
    result[:, 0] = pending
    np.multiply(factor[:, :-1], mean[:, None], out=result[:, 1:])
    return result


def _drawn_wait(luck: FloatArray, probability: FloatArray, mean: FloatArray) -> FloatArray:
    """Exponential wait where luck is below the probability, else none. luck / probability is uniform again there."""
    hit = luck < probability
    safe = np.where(hit, np.maximum(luck, 1e-300) / np.maximum(probability, 1e-300), 1.0)
    return np.where(hit, -np.log(safe) * mean, 0.0)


def _waits(rows: Rows, draws: EventDraws) -> FloatArray | None:
    if not draws.luck.shape[1]:
        return None
    result = np.zeros_like(draws.gap)
    luck, probability = draws.luck[:, :-1], rows.wait_probability[:, None]
    row, column = np.nonzero(luck < probability)
    result[row, column + 1] = _drawn_wait(luck[row, column], rows.wait_probability[row], rows.wait_s[row])
    result[:, 0] = rows.pending_wait_s
    return result


def _finish(
    rows: Rows, up: FloatArray, trained: FloatArray, kept: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Cycle in which the work is done (a number beyond the block if none), and the time up and training it then takes."""
    count = len(up)
    finish = np.full(count, np.iinfo(np.int64).max)
    need_up, need_left = np.zeros(count), np.zeros(count)
    total = kept.sum(axis=1)
    near = np.flatnonzero(total + trained.max(axis=1) >= rows.need_s * (1.0 - 1e-12))
    if not len(near):
        return finish, need_up, need_left
    some = kept[near]
    left = np.maximum(rows.need_s[near, None] - (np.cumsum(some, axis=1) - some), 0.0)
    interval = rows.interval_s[near, None]
    saves = np.maximum(np.ceil(left / interval) - 1.0, 0.0)
    need = left + saves * rows.blocking_s[near, None]
    done = up[near] >= need
    any_done = done.any(axis=1)
    column = np.argmax(done, axis=1)
    index = np.arange(len(near))
    finish[near[any_done]] = column[any_done]
    need_up[near], need_left[near] = need[index, column], left[index, column]
    return finish, need_up, need_left


def _end_of_draws(booked: Booked, at: IntArray, ends: FloatArray, rows: Rows, draws: EventDraws) -> None:
    """The draws are used up: the recovery of the last fault is pending."""
    last = draws.count[at] - 1
    factor = draws.recovery[at, last]
    booked.elapsed_s[at] = ends[at, last]
    booked.pending_detection_s[at] = factor * rows.detection_s[at]
    booked.pending_restart_s[at] = factor * rows.restart_s[at]
    if draws.luck.shape[1]:
        booked.pending_wait_s[at] = _drawn_wait(draws.luck[at, last], rows.wait_probability[at], rows.wait_s[at])


def _partial_cycle(
    booked: Booked,
    at: IntArray,
    rows: Rows,
    before_s: FloatArray,
    *,
    parts: tuple[FloatArray, FloatArray, FloatArray],
    carried: FloatArray,
    finishing: BoolArray,
    need_up: FloatArray,
    need_left: FloatArray,
) -> None:
    """Book the cycle that no fault ended: the work was done in it, or the room was used up.

    parts : its detection, wait and restart.   carried : time up from earlier blocks that it goes on with.
    """
    detection, wait, restart = parts
    to_finish = before_s + detection + wait + restart + (need_up - carried)
    finishing = finishing & (to_finish <= rows.room_s[at])
    end = np.where(finishing, to_finish, rows.room_s[at])
    left = np.maximum(end - before_s, 0.0)
    for name, length in (("detection_s", detection), ("wait_s", wait), ("restart_s", restart)):
        spent = np.where(finishing, length, np.minimum(left, length))
        left = left - spent
        getattr(booked, name)[at] += spent
        getattr(booked, f"pending_{name}")[at] = length - spent
    booked.elapsed_s[at] = end
    booked.finished[at] = finishing
    booked.up_s[at] = np.where(finishing, 0.0, carried + np.maximum(left, 0.0))
    booked.kept_s[at] += np.where(finishing, need_left, 0.0)
    booked.checkpoint_s[at] += np.where(finishing, need_up - need_left, 0.0)


def run_expected(rows: Rows, shares: FloatArray, cycle_s: FloatArray) -> Booked:
    """Advance every row through its room, or to the end of its work, with every line at its expected rate.

    shares : of kept, lost, checkpoint, detection, wait, restart in a cycle; shape (6, rows). Time up that was not booked
    is booked as a planned stop; a recovery under way is forgotten.
    """
    trained = trained_s(rows.up_s, rows.interval_s, rows.blocking_s)
    need = np.maximum(rows.need_s - trained, 0.0)
    with np.errstate(divide="ignore"):
        to_finish = np.where(shares[0] > 0, need / np.maximum(shares[0], 1e-300), np.inf)
    elapsed = np.minimum(rows.room_s, to_finish)
    zero = np.zeros_like(elapsed)
    return Booked(
        elapsed_s=elapsed,
        kept_s=trained + shares[0] * elapsed,
        lost_s=shares[1] * elapsed,
        checkpoint_s=rows.up_s - trained + shares[2] * elapsed,
        detection_s=shares[3] * elapsed,
        wait_s=shares[4] * elapsed,
        restart_s=shares[5] * elapsed,
        faults=elapsed / cycle_s,
        columns=np.zeros(len(elapsed), np.int64),
        finished=to_finish <= rows.room_s,
        pending_detection_s=zero,
        pending_wait_s=zero.copy(),
        pending_restart_s=zero.copy(),
        up_s=zero.copy(),
    )
