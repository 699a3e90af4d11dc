"""Pipeline schedules in closed form: bubble, batch time, transfers, activations in flight.

Everything broadcasts: one row is one layout, `schedule` is an array of `Schedule` codes. `timeline.simulate` plays the same
schedules out pass by pass; the tests hold every formula here against it.

F is a forward pass of one micro-batch, B its gradient of inputs alone, W its gradient of weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from makespan.specs.layout import Schedule
from makespan.step.arrays import BoolArray, FloatArray, IntArray

_GPIPE, _ZERO_BUBBLE, _DUALPIPE = int(Schedule.GPIPE), int(Schedule.ZERO_BUBBLE), int(Schedule.DUALPIPE)


def schedule_allowed(schedule: ArrayLike, pp: ArrayLike, vpp: ArrayLike, num_micro_batches: ArrayLike) -> BoolArray:
    """Whether a schedule can run with these sizes. Arguments broadcast.

    1F1B: always; interleaved (vpp > 1) with a pipeline and at least pp micro-batches.
    GPipe, ZB-H1, DualPipe: with a pipeline and one chunk a stage (DualPipe's second direction is not counted in vpp).
    DualPipe: also an even pp, and an even number of micro-batches of at least 2 pp, as its published program demands.
    """
    code, pp, vpp, count = (np.asarray(value) for value in (schedule, pp, vpp, num_micro_batches))
    plain = (vpp == 1) | ((pp > 1) & (count >= pp))
    others = (pp > 1) & (vpp == 1)
    two_ways = others & (pp % 2 == 0) & (count % 2 == 0) & (count >= 2 * pp)
    return np.asarray(np.select([code == 0, code == _DUALPIPE], [plain, two_ways], others), dtype=np.bool_)


def micro_batch_group(pp: ArrayLike, vpp: ArrayLike, num_micro_batches: ArrayLike) -> IntArray:
    """Micro-batches that run a chunk before the rank turns to its next chunk, under interleaving; pp where vpp is 1. [-]

    The smallest group from pp on that leaves either no micro-batch over or at least pp. Megatron-Core refuses others, as
    the pipeline would wait for itself (`microbatch_group_size_per_vp_stage`).

    Examples
    --------
    >>> micro_batch_group(8, 4, [32, 36, 41]).tolist()
    [8, 9, 11]
    """
    pp, vpp, count = np.broadcast_arrays(*(np.asarray(value, dtype=np.int64) for value in (pp, vpp, num_micro_batches)))
    group = np.array(pp)
    uneven = (vpp > 1) & (count > pp) & (count % pp != 0)
    if uneven.any():
        base = int(count[uneven].max()) + 1
        codes, back = np.unique(pp[uneven] * base + count[uneven], return_inverse=True)
        least, total = codes // base, codes % base
        found = total.copy()
        open_ = np.arange(len(codes))
        size = least.copy()
        while len(open_):
            size[open_] += 1
            rest = total[open_] % size[open_]
            fits = (rest == 0) | (rest >= least[open_])
            found[open_[fits]] = size[open_[fits]]
            open_ = open_[~fits]  # all micro-batches at once leave nothing over, so this ends
        group[uneven] = found[back]
    return group


def bubble_s(
    schedule: ArrayLike,
    *,
    forward_slot_s: ArrayLike,
    backward_slot_s: ArrayLike,
    weight_slot_s: ArrayLike,
    all_forward_s: ArrayLike,
    all_backward_s: ArrayLike,
    all_weight_s: ArrayLike,
    pp: ArrayLike,
    vpp: ArrayLike,
    num_micro_batches: ArrayLike,
) -> FloatArray:
    """Time of a batch beyond the micro-batches' slots on the busiest rank. [s]

    Parameters
    ----------
    forward_slot_s : one micro-batch on the slowest stage, all its chunks. [s]
    backward_slot_s : its backward pass in full, gradients of inputs and of weights. [s]
    weight_slot_s : the part of it that computes gradients of weights. [s]
    all_... : the same summed over all stages. [s]

    Notes
    -----
    With t = F + B + W of the slowest stage, T over all stages, p stages and n micro-batches:

    * 1F1B and GPipe: (T - t) / vpp.
    * ZB-H1: (T - t) without W, less (min(n, p) - 1) min(F, B, W). With equal stages, n >= p and W the shortest that is the
      published (p - 1)(F + B - W).
    * DualPipe, h = p/2 - 1: (h - 1) F + max((h + 1) F, h B) + h max(B - W, 0) of the mean stage. The published
      h (F&B + B_full - 3 W) = h (F + 2 B - W) is the same where F = B >= W; this one also holds elsewhere.

    Exact for equal stages (event simulation). For unequal stages see `batch_s`, which knows where the odd ones stand; a
    DualPipe rank holds two stages, so that its slot is their mean (`rank_slot_s`).
    Transfers between stages are not in it: `transfer_s`.

    References
    ----------
    D. Narayanan et al., arXiv:2104.04473, section 2.2; P. Qi et al., arXiv:2401.10241, table 1;
    DeepSeek-AI, arXiv:2412.19437, table 2.

    Examples
    --------
    >>> stage = dict(forward_slot_s=1.0, backward_slot_s=2.0, weight_slot_s=1.0)
    >>> everything = dict(all_forward_s=8.0, all_backward_s=16.0, all_weight_s=8.0)
    >>> bubble_s([0, 1, 2, 3], **stage, **everything, pp=8, vpp=1, num_micro_batches=32).tolist()
    [21.0, 21.0, 7.0, 6.0]
    """
    code, pp, vpp, count = (np.asarray(value) for value in (schedule, pp, vpp, num_micro_batches))
    forward, weight = np.asarray(forward_slot_s), np.asarray(weight_slot_s)
    back = np.asarray(backward_slot_s) - weight
    all_forward, all_weight = np.asarray(all_forward_s), np.asarray(all_weight_s)
    all_back = np.asarray(all_backward_s) - all_weight
    passage = np.maximum(all_forward + all_back - forward - back, 0.0)
    plain = (passage + np.maximum(all_weight - weight, 0.0)) / vpp
    if not code.any():
        return np.asarray(plain + np.zeros(np.broadcast_shapes(code.shape, count.shape)))
    saved = (np.minimum(count, pp) - 1) * np.minimum(np.minimum(forward, back), weight)
    split = np.maximum(passage - saved, 0.0)
    two_ways = _two_way_bubble(all_forward / pp, all_back / pp, all_weight / pp, pp)
    return np.asarray(np.select([code == _ZERO_BUBBLE, code == _DUALPIPE], [split, two_ways], plain))


def _two_way_bubble(forward: FloatArray, back: FloatArray, weight: FloatArray, pp: ArrayLike) -> FloatArray:
    """DualPipe's bubble for stages of equal times; zero with two stages. [s]"""
    half = np.maximum(np.asarray(pp) / 2.0 - 1.0, 0.0)
    level = (half - 1.0) * forward + np.maximum((half + 1.0) * forward, half * back)
    return np.asarray(np.maximum(level, 0.0) + half * np.maximum(back - weight, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PassTimes:
    """One micro-batch through one model chunk: forward, gradient of inputs, gradient of weights. Arrays broadcast. [s]"""

    forward_s: FloatArray
    input_grad_s: FloatArray
    weight_grad_s: FloatArray

    @property
    def backward_s(self) -> FloatArray:
        """The backward pass in full. [s]"""
        return self.input_grad_s + self.weight_grad_s

    @property
    def total_s(self) -> FloatArray:
        """All three. [s]"""
        return self.forward_s + self.input_grad_s + self.weight_grad_s


def rank_slot_s(
    schedule: ArrayLike, *, body_s: ArrayLike, first_s: ArrayLike, last_s: ArrayLike, pp: ArrayLike, vpp: ArrayLike
) -> FloatArray:
    """One micro-batch's work on the busiest rank. [s]

    Parameters
    ----------
    body_s, first_s, last_s : a chunk in the middle, the very first chunk, the very last one (`PassTimes.total_s`). [s]

    Notes
    -----
    A DualPipe rank works on two stages, r and pp - 1 - r, half of the micro-batches each: a heavy last stage weighs half.
    With one stage and one chunk `last_s` is everything.
    """
    code, body, first, last, pp, vpp = (np.asarray(v) for v in (schedule, body_s, first_s, last_s, pp, vpp))
    ends = (vpp - 1) * body + np.maximum(first, last)
    middle = np.where(pp > 2, vpp * body, 0.0)
    alone = np.where(vpp > 1, (vpp - 2) * body + first + last, last)
    slot = np.where(pp > 1, np.maximum(ends, middle), alone)
    return np.asarray(np.where(code == _DUALPIPE, np.maximum((first + last) / 2.0, np.where(pp > 2, body, 0.0)), slot))


def batch_s(
    schedule: ArrayLike,
    *,
    body: PassTimes,
    first: PassTimes,
    last: PassTimes,
    pp: ArrayLike,
    vpp: ArrayLike,
    num_micro_batches: ArrayLike,
) -> FloatArray:
    """Time of a batch through a pipeline whose chunks are alike but for the first and the last. [s]

    Parameters
    ----------
    body, first, last : one chunk in the middle; chunk 0 of stage 0 (embedding, fewer layers); the last chunk of the last
        stage (head, loss, fewer layers). [s]

    Notes
    -----
    A rank needs its own work, the passage through the ranks before it, and what it waits for those behind it; the batch
    takes the most that the last rank, one in the middle or the first needs. Against the event simulation, with n >= pp, a
    first chunk of 0.5 to 1.25 middle ones and a last one of 0.5 to 2 (the tests assert it; slots of `rank_slot_s`):

    * GPipe: exact. 1F1B: exact, but for a heavier first and a lighter last stage at once (-0.5 to 0 slots).
    * Interleaved: exact where the first chunk is no heavier than a middle one and the last no lighter. With a lighter last
      chunk and groups of more than pp -0.5 to 0 slots; with a heavier first chunk -pp/4 to +1 slots: each group waits for
      it anew. With pp = 2 and a lighter end the ranks wait for each other in every group: up to a seventh too short.
    * ZB-H1: -0.3 to +1 slots; to +pp/6 with a heavier first stage.
    * DualPipe: -pp/3 to +1 slots. A heavy pair of first and last stage decides alone, and most of the bubble vanishes in it.

    Transfers are not in it: `transfer_s`.
    """
    code, pp, vpp, count = (np.asarray(value) for value in (schedule, pp, vpp, num_micro_batches))
    slot = rank_slot_s(code, body_s=body.total_s, first_s=first.total_s, last_s=last.total_s, pp=pp, vpp=vpp)
    plain = _one_f_one_b_s(body, first, last, pp, vpp, count)
    if code.any():
        two_ways = count * slot + _two_way_waits(body, first, last, pp)
        choices = [_gpipe_s(body, first, last, pp, count), _split_s(body, first, last, pp, count), two_ways]
        plain = np.asarray(np.select([code == _GPIPE, code == _ZERO_BUBBLE, code == _DUALPIPE], choices, plain))
    return np.asarray(np.where(pp > 1, plain, count * slot))


def _two_way_waits(body: PassTimes, first: PassTimes, last: PassTimes, pp: IntArray) -> FloatArray:
    """DualPipe's bubble. Where the pair of first and last stage is the heavier one, its ranks make the others wait instead."""

    def typical(middle: FloatArray, one: FloatArray, other: FloatArray) -> FloatArray:
        return np.asarray(np.minimum(middle, ((pp - 2) * middle + one + other) / pp))

    forward = typical(body.forward_s, first.forward_s, last.forward_s)
    back = typical(body.input_grad_s, first.input_grad_s, last.input_grad_s)
    weight = typical(body.weight_grad_s, first.weight_grad_s, last.weight_grad_s)
    heavier = np.maximum((first.total_s + last.total_s) / 2.0 - body.total_s, 0.0)
    stays = np.maximum(pp / 2.0 - 1.0, 0.0) * np.maximum(back - weight, 0.0)
    level = _two_way_bubble(forward, back, weight, pp) - stays
    return np.asarray(np.where(pp > 2, stays + np.maximum(level - 2.0 * (pp - 1) * heavier, 0.0), 0.0))


def _gpipe_s(body: PassTimes, first: PassTimes, last: PassTimes, pp: IntArray, count: IntArray) -> FloatArray:
    """A line of machines and equal jobs, once forward and once backward: the sum plus n - 1 times the slowest."""

    def line(middle: FloatArray, one: FloatArray, other: FloatArray) -> FloatArray:
        slowest = np.maximum(np.maximum(one, other), np.where(pp > 2, middle, 0.0))
        return np.asarray((pp - 2) * middle + one + other + (count - 1) * slowest)

    return line(body.forward_s, first.forward_s, last.forward_s) + line(
        body.backward_s, first.backward_s, last.backward_s
    )


def _one_f_one_b_s(
    body: PassTimes, first: PassTimes, last: PassTimes, pp: IntArray, vpp: IntArray, count: IntArray
) -> FloatArray:
    """1F1B and its interleaved form, by the rank that decides.

    Before rank r: the first chunks of the ranks before it, once forward and once backward. Behind it are k ranks: r waits
    for its first gradient while it has k forward passes to do (2k when interleaved), and for its last one while it has as
    many backward passes to do.
    """
    f, b = body.forward_s, body.backward_s
    t, t_first, t_last = body.total_s, first.total_s, last.total_s
    ahead = np.where(vpp > 1, 2, 1)

    def waits(behind: FloatArray, passes: IntArray, forward: FloatArray, backward: FloatArray) -> FloatArray:
        both = np.maximum(behind - passes * forward, 0.0) + np.maximum(behind - passes * backward, 0.0)
        return np.asarray(np.where(count < pp, np.minimum(both, behind), both))  # few micro-batches: one wait only

    by_last = count * ((vpp - 1) * t + t_last) + (pp - 2) * t + t_first
    by_body = count * vpp * t + (pp - 3) * t + t_first + waits(t_last, ahead, f, b)
    behind = pp - 1
    own_f = np.where(vpp > 1, f, first.forward_s)
    own_b = np.where(vpp > 1, b, first.backward_s)
    by_first = count * ((vpp - 1) * t + t_first) + waits((pp - 2) * t + t_last, ahead * behind, own_f, own_b)
    heavy = np.maximum(t_first - t, 0.0)
    by_group = np.where((vpp > 1) & (heavy > 0.0), count * vpp * t + behind * t + np.minimum(count, pp) * heavy, 0.0)
    slowest = np.maximum(np.maximum(by_last, by_first), by_group)
    return np.asarray(np.where(pp > 2, np.maximum(slowest, by_body), slowest))


def _split_s(body: PassTimes, first: PassTimes, last: PassTimes, pp: IntArray, count: IntArray) -> FloatArray:
    """ZB-H1 by the rank that decides: it waits for the fill, or the drain, or both less the weight gradients put off."""
    late = np.minimum(count, pp)
    f_all = (pp - 2) * body.forward_s + first.forward_s + last.forward_s
    b_all = (pp - 2) * body.input_grad_s + first.input_grad_s + last.input_grad_s

    def decided_by(own: PassTimes, put_off: FloatArray) -> FloatArray:
        fill, drain = f_all - own.forward_s, b_all - own.input_grad_s
        hidden = np.minimum(put_off, np.minimum(fill, drain) * (late - 1) / np.maximum(pp - 1, 1))
        return np.asarray(count * own.total_s + fill + drain - hidden)

    weights = last.weight_grad_s
    # The last rank puts off late micro-batches, and after its last gradient the first rank still has one to do.
    by_last = decided_by(last, late * weights - np.minimum(first.weight_grad_s, weights))
    by_first = decided_by(first, (late - 1) * first.weight_grad_s)
    by_body = decided_by(body, (late - 1) * body.weight_grad_s)
    slowest = np.maximum(by_last, by_first)
    return np.asarray(np.where(pp > 2, np.maximum(slowest, by_body), slowest))


def transfer_s(
    schedule: ArrayLike, hop_s: ArrayLike, *, pp: ArrayLike, vpp: ArrayLike, num_micro_batches: ArrayLike
) -> FloatArray:
    """What transfers between stages add to a batch when a rank never waits to send. [s]

    Parameters
    ----------
    hop_s : one activation, or its gradient, to a neighbour; short against a chunk. [s]

    Notes
    -----
    Counted in hops, m = n - 1:

    * GPipe: 2 (pp - 1), fill and drain.
    * 1F1B: 2 (pp - 1) + 2 (m - ceil(m / pp)). A rank's order leaves no slack, so a micro-batch pays 2 (pp - 1) / pp hops
      in the steady phase too, however short they are.
    * Interleaved: 2 (pp - 1), and pp (vpp - 1) each for the first and the last group if it has just pp micro-batches.
      Nothing per micro-batch: the deeper warm-up gives the slack.
    * ZB-H1: as 1F1B with m at most pp: weight gradients give the slack.
    * DualPipe: 2 n + pp - 7 - 2 floor((n - 4) / pp), within pp hops.

    Exact for equal stages and W the shortest pass, DualPipe apart (event simulation). Links that other traffic shares, and software that stops to send,
    cost more.
    """
    code, pp, vpp, count = (np.asarray(value) for value in (schedule, pp, vpp, num_micro_batches))
    ends = 2 * (pp - 1)
    more = np.where(code == _ZERO_BUBBLE, np.minimum(count - 1, pp), count - 1)
    steady = 2 * (more - (-(-more // pp)))
    hops = np.where(code == _GPIPE, ends, ends + steady)
    group = micro_batch_group(pp, vpp, count)
    rest = (count - 1) % group + 1
    turns = ((np.minimum(group, count) == pp).astype(np.int64) + (rest == pp)) * pp * (vpp - 1)
    hops = np.where((code == 0) & (vpp > 1), ends + turns, hops)
    hops = np.where(code == _DUALPIPE, 2 * count + pp - 7 - 2 * ((count - 4) // pp), hops)
    return np.asarray(np.where(pp > 1, hops, 0) * np.asarray(hop_s, dtype=np.float64))


def in_flight(schedule: ArrayLike, pp: ArrayLike, vpp: ArrayLike, num_micro_batches: ArrayLike) -> FloatArray:
    """Micro-batches whose activations the first rank holds at its peak, in units of a whole stage. [-]

    1F1B: pp. Interleaved: (vpp - 1) g + 2 pp - 1 chunks, vpp of which are a stage, with groups of g (`micro_batch_group`;
    pp vpp + pp - 1 when pp divides the micro-batches). ZB-H1: pp on every rank, those that wait for their weight gradient
    counted in full. GPipe: all. DualPipe: pp + 1. Never more than there are.

    References
    ----------
    V. Korthikanti et al., arXiv:2205.05198, section 4.2.3; P. Qi et al., arXiv:2401.10241, section 2.1;
    DeepSeek-AI, arXiv:2412.19437, table 2.

    Examples
    --------
    >>> in_flight([0, 0, 1, 2, 3], 8, [1, 4, 1, 1, 1], 96).tolist()
    [8.0, 9.75, 96.0, 8.0, 9.0]
    """
    code, pp, vpp, count = (np.asarray(value) for value in (schedule, pp, vpp, num_micro_batches))
    chunks = np.where(vpp > 1, (vpp - 1) * micro_batch_group(pp, vpp, count) + 2 * pp - 1, pp)
    held = np.select([code == _GPIPE, code == _DUALPIPE], [count, pp + 1], chunks / vpp)
    return np.asarray(np.minimum(held, count), dtype=np.float64)
