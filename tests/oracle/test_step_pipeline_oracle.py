"""Closed forms of the pipeline schedules against the event simulation; the simulation against a second one and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from makespan.specs.layout import Schedule
from makespan.step.orders import WorkKind
from makespan.step.schedules import (
    PassTimes,
    batch_s,
    bubble_s,
    in_flight,
    micro_batch_group,
    rank_slot_s,
    schedule_allowed,
    transfer_s,
)
from makespan.step.timeline import Timeline, simulate

PLAIN = Schedule.ONE_F_ONE_B
SPLIT = (Schedule.ZERO_BUBBLE, Schedule.DUALPIPE)
SECONDS = st.floats(0.1, 3.0)


@st.composite
def sizes(draw, schedules=tuple(Schedule)):
    """A schedule with sizes it can run with."""
    schedule = draw(st.sampled_from(schedules))
    pp = draw(st.integers(1, 12))
    vpp = draw(st.integers(1, 4)) if schedule == PLAIN else 1
    count = draw(st.integers(1, 40))
    if schedule == Schedule.DUALPIPE:
        pp, count = 2 * ((pp + 1) // 2), 2 * (pp + 1) + 2 * count
    assume(schedule_allowed(int(schedule), pp, vpp, count))
    return schedule, pp, vpp, count


def played(schedule, pp, vpp, count, forward, back, weight, hop=0.0) -> Timeline:
    return simulate(
        schedule,
        pp=pp,
        vpp=vpp,
        num_micro_batches=count,
        forward_s=forward,
        input_grad_s=back,
        weight_grad_s=weight,
        hop_s=hop,
    )


def second_simulation(forward: list[float], backward: list[float], count: int) -> float:
    """1F1B written a second time, backward passes in one piece: each stage keeps its order, transfers are free. [s]"""
    stages = len(forward)
    orders = []
    for stage in range(stages):
        warm_up = min(stages - stage - 1, count)
        order = [("f", i) for i in range(warm_up)]
        for i in range(count - warm_up):
            order += [("f", warm_up + i), ("b", i)]
        orders.append(order + [("b", i) for i in range(count - warm_up, count)])
    done: dict[tuple[str, int, int], float] = {}
    clock, position = [0.0] * stages, [0] * stages
    while any(position[s] < len(orders[s]) for s in range(stages)):
        for s in range(stages):
            while position[s] < len(orders[s]):
                kind, i = orders[s][position[s]]
                before = ("f", s - 1, i) if kind == "f" else ("b", s + 1, i)
                needed = (kind == "f" and s > 0) or (kind == "b" and s < stages - 1)
                if needed and before not in done:
                    break
                start = max(clock[s], done[before] if needed else 0.0)
                clock[s] = start + (forward[s] if kind == "f" else backward[s])
                done[kind, s, i] = clock[s]
                position[s] += 1
    return max(clock)


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS), min_size=1, max_size=8), st.integers(1, 20))
def test_two_simulations_agree_whatever_the_stages_take(stages, count):
    table = np.array(stages)
    line = played(PLAIN, len(stages), 1, count, *(table[:, [k]] for k in range(3)))

    expected = second_simulation(list(table[:, 0]), list(table[:, 1] + table[:, 2]), count)
    assert line.makespan_s == pytest.approx(expected)


@settings(deadline=None)
@given(sizes(), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.05, 0.7]))
def test_a_timeline_is_a_legal_run_of_the_whole_batch(case, seed, hop):
    """Every pass once, in order of its data, one at a time on a rank; the transfers on a link one at a time too."""
    schedule, pp, vpp, count = case
    times = np.random.default_rng(seed).uniform(0.1, 2.0, (3, pp, vpp))
    line = played(schedule, pp, vpp, count, *times, hop)

    events = list(zip(line.rank, line.kind, line.micro_batch, line.chunk, line.to_rank, strict=True))
    span = dict(zip(events, zip(line.start_s, line.end_s, strict=True), strict=True))
    assert len(span) == len(events)
    two_ways = schedule == Schedule.DUALPIPE
    work: dict[tuple[int, int, int], tuple[float, float]] = {}
    for (rank, kind, micro_batch, chunk, to_rank), seconds in span.items():
        if kind <= WorkKind.WEIGHT_GRAD:
            assert to_rank == -1
            stage = (pp - 1 - rank if chunk else rank) if two_ways else chunk * pp + rank
            work[kind, stage, micro_batch] = seconds
            assert seconds[1] - seconds[0] == pytest.approx(times[kind, stage % pp, 0 if two_ways else chunk])
    stages = pp * vpp
    assert set(work) == set(itertools.product(range(3), range(stages), range(count)))
    tiny = 1e-9
    for i, stage in itertools.product(range(count), range(stages)):
        wait = hop if pp > 1 else 0.0
        if stage:
            assert work[0, stage, i][0] >= work[0, stage - 1, i][1] + wait - tiny
            assert work[1, stage - 1, i][0] >= work[1, stage, i][1] + wait - tiny
        assert work[1, stage, i][0] >= work[0, stage, i][1] - tiny
        assert work[2, stage, i][0] >= work[1, stage, i][1] - tiny
    for track in {(rank, to_rank) for rank, _, _, _, to_rank in events}:
        mine = sorted(seconds for key, seconds in span.items() if (key[0], key[4]) == track)
        assert all(b[0] >= a[1] - tiny for a, b in itertools.pairwise(mine))
    assert line.makespan_s >= line.busy_s.max() - tiny
    assert line.busy_s.sum() + line.idle_s.sum() == pytest.approx(pp * line.makespan_s)
    assert line.busy_s.sum() == pytest.approx(count * times.sum() if not two_ways else count * times[:, :, 0].sum())


@settings(max_examples=300, deadline=None)
@given(sizes(), SECONDS, SECONDS, SECONDS)
def test_equal_stages_exactly(case, forward, back, weight):
    schedule, pp, vpp, count = case
    line = played(schedule, pp, vpp, count, forward / vpp, back / vpp, weight / vpp)

    bubble = bubble_s(
        int(schedule),
        forward_slot_s=forward,
        backward_slot_s=back + weight,
        weight_slot_s=weight,
        all_forward_s=pp * forward,
        all_backward_s=pp * (back + weight),
        all_weight_s=pp * weight,
        pp=pp,
        vpp=vpp,
        num_micro_batches=count,
    )
    assert count * (forward + back + weight) + bubble == pytest.approx(line.makespan_s)


@settings(max_examples=200, deadline=None)
@given(sizes())
def test_activations_in_flight_exactly(case):
    schedule, pp, vpp, count = case
    line = played(schedule, pp, vpp, count, 1.0, 1.0, 1.0)

    assert in_flight(int(schedule), pp, vpp, count) == line.in_flight.max() == line.in_flight[0]


@settings(max_examples=200, deadline=None)
@given(sizes(), st.floats(0.8, 1.2), st.floats(0.6, 0.8))
def test_short_transfers(case, back, weight):
    """Exact with equal stages and a weight gradient that is the shortest pass; DualPipe within pp hops."""
    schedule, pp, vpp, count = case
    hop = 1e-4
    still = played(schedule, pp, vpp, count, 1.0, back, weight).makespan_s
    line = played(schedule, pp, vpp, count, 1.0, back, weight, hop)

    added = transfer_s(int(schedule), hop, pp=pp, vpp=vpp, num_micro_batches=count)
    slack = pp * hop if schedule == Schedule.DUALPIPE else 1e-9
    assert added == pytest.approx(line.makespan_s - still, abs=slack)


def closed_and_simulated(case, first, last, back, weight):
    """Batch time in closed form and simulated, and the slot of the busiest rank. [s]"""
    schedule, pp, vpp, count = case
    share = np.ones((pp, vpp))
    share[0, 0] *= first
    share[-1, -1] *= last
    simulated = played(schedule, pp, vpp, count, share, back * share, weight * share).makespan_s

    def passes(factor: float) -> PassTimes:
        return PassTimes(
            forward_s=np.array(factor), input_grad_s=np.array(back * factor), weight_grad_s=np.array(weight * factor)
        )

    parts = {"body": passes(1.0), "first": passes(first), "last": passes(last)}
    closed = batch_s(int(schedule), **parts, pp=pp, vpp=vpp, num_micro_batches=count)
    totals = {f"{name}_s": part.total_s for name, part in parts.items()}
    return float(closed), simulated, float(rank_slot_s(int(schedule), **totals, pp=pp, vpp=vpp))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(sizes(), st.floats(0.5, 1.25), st.floats(0.5, 2.0), st.floats(0.8, 1.5), st.floats(0.5, 1.0))
def test_unequal_ends_within_the_stated_bounds(case, first, last, back, weight):
    """The bounds that the docstring of `batch_s` states."""
    schedule, pp, vpp, count = case
    assume(count >= pp > 1)
    closed, simulated, slot = closed_and_simulated(case, first, last, back, weight)

    low, high = 0.0, 0.0
    if schedule == PLAIN and vpp > 1 and pp == 2 and min(first, last) < 1.0:
        low, high = -simulated / slot / 7, 1.0
    elif schedule == PLAIN and vpp > 1 and first > 1.0:
        low, high = -pp / 4, 1.0
    elif schedule == PLAIN and last < 1.0 and ((vpp == 1 and first > 1.0) or (vpp > 1 and count % pp)):
        low = -0.5
    elif schedule == Schedule.ZERO_BUBBLE:
        low, high = -0.3, max(1.0, pp / 6 if first > 1.0 else 0.0)
    elif schedule == Schedule.DUALPIPE:
        low, high = -pp / 3, 1.0
    assert low - 1e-9 <= (closed - simulated) / slot <= high + 1e-9


@pytest.mark.parametrize("vpp", [1, 2, 4])
@pytest.mark.parametrize("count", [8, 16, 64])
def test_a_head_on_the_last_chunk_is_paid_in_every_slot_but_not_in_fill_and_drain(vpp, count):
    """n slots of the last rank, and 7 chunks of the others."""
    closed, simulated, _ = closed_and_simulated((PLAIN, 8, vpp, count), 1.0, 1.4, 1.0, 1.0)

    assert simulated == pytest.approx(count * 3.0 * (vpp + 0.4) + 7 * 3.0)
    assert closed == pytest.approx(simulated)


def test_a_heavy_stage_is_shared_by_two_directions():
    """Under DualPipe first and last stage live on the same two ranks, so a last stage of 2 weighs 1.5."""
    parts = {"body_s": 3.0, "first_s": 3.0, "last_s": 6.0}

    assert rank_slot_s(int(Schedule.DUALPIPE), **parts, pp=8, vpp=1) == 4.5
    assert rank_slot_s(int(PLAIN), **parts, pp=8, vpp=1) == 6.0
    line = played(Schedule.DUALPIPE, 8, 1, 64, *(np.array([[1.0]] * 7 + [[2.0]]) for _ in range(3)))
    assert line.busy_s.tolist() == [64 * 4.5] + [64 * 3.0] * 6 + [64 * 4.5]


def test_published_bubbles():
    """Qi et al., arXiv:2401.10241, table 1: (p - 1)(F + B - W). DeepSeek-AI, arXiv:2412.19437, table 2, with its example
    of 8 ranks and 20 micro-batches: (p/2 - 1)(F&B + B - 3 W), their B the whole backward pass; equal where F = B."""
    zb = played(Schedule.ZERO_BUBBLE, 4, 1, 8, 1.0, 1.2, 0.9)
    dual = played(Schedule.DUALPIPE, 8, 1, 20, 1.0, 1.0, 0.8)

    assert zb.makespan_s - 8 * 3.1 == pytest.approx(3 * (1.0 + 1.2 - 0.9))
    assert dual.makespan_s - 20 * 2.8 == pytest.approx(3 * (2.8 + 1.8 - 3 * 0.8))
    assert zb.in_flight.tolist() == [4.0] * 4
    assert dual.in_flight.tolist() == [9.0] * 8


def test_order_of_zb_h1_by_hand():
    """Two stages, three micro-batches, F = B = W = 1: stage 0 waits one slot for B0, stage 1 starts one slot late."""
    line = played(Schedule.ZERO_BUBBLE, 2, 1, 3, 1.0, 1.0, 1.0)
    rows = [
        ["FBW"[kind] + str(i) for r, kind, i in zip(line.rank, line.kind, line.micro_batch, strict=True) if r == rank]
        for rank in range(2)
    ]

    assert rows[0] == ["F0", "F1", "B0", "W0", "F2", "B1", "W1", "B2", "W2"]
    assert rows[1] == ["F0", "B0", "F1", "B1", "W0", "F2", "B2", "W1", "W2"]
    assert line.makespan_s == 10.0


def test_groups_leave_nothing_over_or_a_full_pipeline():
    """Brute force over the rule of Megatron-Core; 36 micro-batches on 8 stages go in groups of 9."""
    assert micro_batch_group(8, 4, 36) == 9
    for pp, count in itertools.product(range(2, 12), range(2, 60)):
        group = int(micro_batch_group(pp, 2, count))
        legal = [g for g in range(pp, count + 1) if count % g == 0 or count % g >= pp]
        assert group == (legal[0] if legal else pp)
    rows = micro_batch_group(np.array([4, 8, 4, 8]), np.array([2, 4, 1, 4]), np.array([9, 41, 9, 64]))
    assert rows.tolist() == [5, 11, 4, 8]


def test_arrays_give_what_scalars_give():
    rng = np.random.default_rng(7)
    code, pp, vpp = rng.integers(0, 4, 400), rng.integers(1, 17, 400), rng.integers(1, 5, 400)
    count = rng.integers(1, 80, 400)
    keep = schedule_allowed(code, pp, vpp, count)
    code, pp, vpp, count = (column[keep] for column in (code, pp, vpp, count))
    assert set(code) == {0, 1, 2, 3}
    body, first, last = (
        PassTimes(forward_s=a, input_grad_s=b, weight_grad_s=c) for a, b, c in rng.uniform(0.5, 2.0, (3, 3, len(code)))
    )
    columns = {
        "batch": batch_s(code, body=body, first=first, last=last, pp=pp, vpp=vpp, num_micro_batches=count),
        "flight": in_flight(code, pp, vpp, count),
        "transfer": transfer_s(code, 0.01, pp=pp, vpp=vpp, num_micro_batches=count),
    }

    for i in range(len(code)):
        one = [
            PassTimes(forward_s=p.forward_s[i], input_grad_s=p.input_grad_s[i], weight_grad_s=p.weight_grad_s[i])
            for p in (body, first, last)
        ]
        row = (int(code[i]), int(pp[i]), int(vpp[i]), int(count[i]))
        layout = {"pp": row[1], "vpp": row[2], "num_micro_batches": row[3]}
        assert columns["batch"][i] == batch_s(row[0], body=one[0], first=one[1], last=one[2], **layout)
        assert columns["flight"][i] == in_flight(*row)
        assert columns["transfer"][i] == transfer_s(row[0], 0.01, **layout)


@pytest.mark.parametrize(
    ("schedule", "pp", "vpp", "count"),
    [
        (Schedule.ONE_F_ONE_B, 8, 4, 7),
        (Schedule.ONE_F_ONE_B, 1, 2, 8),
        (Schedule.GPIPE, 1, 1, 8),
        (Schedule.ZERO_BUBBLE, 8, 2, 16),
        (Schedule.DUALPIPE, 7, 1, 28),
        (Schedule.DUALPIPE, 8, 1, 14),
        (Schedule.DUALPIPE, 8, 1, 17),
    ],
)
def test_what_cannot_run_is_refused(schedule, pp, vpp, count):
    assert not schedule_allowed(int(schedule), pp, vpp, count)
    with pytest.raises(ValueError, match=schedule.name):
        played(schedule, pp, vpp, count, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_impossible_times_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        played(PLAIN, 2, 1, 4, bad, 1.0, 1.0)
    with pytest.raises(ValueError, match="finite"):
        played(PLAIN, 2, 1, 4, 1.0, 1.0, 1.0, bad)
