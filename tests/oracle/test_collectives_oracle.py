"""Collectives against an event simulation that moves every part over every link.

Exact inside one tier for the ring and for the posted all-to-all. Recursive doubling (a tree) moves the same bytes in fewer
steps: the ring formula is above it by the hops saved. Two tiers: between the tiers at the same time and one after the other.
"""

from __future__ import annotations

import heapq
import math

import pytest

from makespan.network import all_gather_s, all_reduce_s, all_to_all_s, members_per_tier, reduce_scatter_s
from makespan.specs.hardware import CollectiveEfficiency, FabricSpec, FabricTier

LATENCY_S, RATE = 3e-6, 4e11
SIZES = [(n, s) for n in (2, 3, 4, 7, 8) for s in (0.0, 1e4, 3e7, 5e9)]


def one_tier(**options: object) -> FabricSpec:
    tier = FabricTier(name="link", size=math.inf, bytes_per_s=RATE, latency_s=LATENCY_S, efficiency=1.0, **options)
    return FabricSpec(name="one", tiers=(tier,))


def ring_s(
    num_ranks: int, part_bytes: float, num_steps: int, rate: float = RATE, latency_s: float = LATENCY_S
) -> float:
    """Parts travel around a ring: rank r passes a part on as soon as it has it and its link is free. [s]

    Every rank starts with one part; after `num_steps` hops a part stops.
    """
    link_free = [0.0] * num_ranks
    events = [(0.0, rank, rank, 0) for rank in range(num_ranks)]  # time, at rank, part, hops made
    heapq.heapify(events)
    end = 0.0
    while events:
        now, rank, part, hops = heapq.heappop(events)
        end = max(end, now)
        if hops == num_steps:
            continue
        start = max(now, link_free[rank])
        done = start + latency_s + part_bytes / rate
        link_free[rank] = done
        heapq.heappush(events, (done, (rank + 1) % num_ranks, part, hops + 1))
    return end


def doubling_s(num_ranks: int, total_bytes: float) -> float:
    """All-gather by recursive doubling: in step i a rank sends what it has, 2^i parts, to the rank 2^i away. [s]"""
    ready = [0.0] * num_ranks
    held = total_bytes / num_ranks
    distance = 1
    while distance < num_ranks:
        ready = [max(ready[r], ready[r ^ distance]) + LATENCY_S + held / RATE for r in range(num_ranks)]
        held, distance = 2 * held, 2 * distance
    return max(ready)


def posted_all_to_all_s(num_ranks: int, sent_bytes: float) -> float:
    """All sends are posted at once; a rank's port passes them one after another; one latency on the way. [s]"""
    arrivals = []
    for _ in range(num_ranks):
        port = 0.0
        for _ in range(num_ranks - 1):
            port += sent_bytes / num_ranks / RATE
            arrivals.append(port + LATENCY_S)
    return max(arrivals)


@pytest.mark.parametrize(("num_ranks", "message"), SIZES)
def test_all_gather_and_reduce_scatter_are_the_simulated_ring(num_ranks, message):
    fabric = one_tier()
    group = members_per_tier(fabric, num_ranks, 1)
    expected = ring_s(num_ranks, message / num_ranks, num_ranks - 1)

    assert all_gather_s(fabric, group, message) == pytest.approx(expected, rel=1e-12)
    assert reduce_scatter_s(fabric, group, message) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("num_ranks", "message"), SIZES)
def test_all_reduce_is_the_simulated_ring_twice_around(num_ranks, message):
    fabric = one_tier()
    expected = ring_s(num_ranks, message / num_ranks, 2 * (num_ranks - 1))

    assert all_reduce_s(fabric, members_per_tier(fabric, num_ranks, 1), message) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("num_ranks", "message"), SIZES)
def test_all_to_all_is_the_simulated_exchange(num_ranks, message):
    fabric = one_tier()
    expected = posted_all_to_all_s(num_ranks, message)

    assert all_to_all_s(fabric, members_per_tier(fabric, num_ranks, 1), message) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("num_ranks", [2, 4, 8, 16])
@pytest.mark.parametrize("message", [1e3, 1e7, 5e9])
def test_a_tree_saves_hops_only(num_ranks, message):
    fabric = one_tier()
    ring = float(all_gather_s(fabric, members_per_tier(fabric, num_ranks, 1), message))
    saved = (num_ranks - 1 - math.log2(num_ranks)) * LATENCY_S

    assert ring == pytest.approx(doubling_s(num_ranks, message) + saved, rel=1e-9)


@pytest.mark.parametrize(("members", "domains"), [(4, 2), (4, 4), (2, 8), (8, 3)])
@pytest.mark.parametrize("message", [1e6, 1e9])
def test_two_tiers_lie_between_together_and_one_after_the_other(members, domains, message):
    """Same-placed members gather across domains over their own ports, then every domain gathers inside."""
    inner = FabricTier(name="in", size=members, bytes_per_s=RATE, latency_s=LATENCY_S, efficiency=1.0)
    outer = FabricTier(name="out", size=math.inf, bytes_per_s=RATE / 8, latency_s=4 * LATENCY_S, efficiency=1.0)
    fabric = FabricSpec(name="two", tiers=(inner, outer))
    size = members * domains
    across = ring_s(domains, message / size, domains - 1, RATE / 8, 4 * LATENCY_S)
    inside = ring_s(members, message / members, members - 1)
    time = float(all_gather_s(fabric, members_per_tier(fabric, size, 1), message))

    assert max(across, inside) <= time <= (across + inside) * size / (size - 1)


def measured(**changes: float) -> CollectiveEfficiency:
    kinds = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all")
    return CollectiveEfficiency(
        launch_s=changes.get("launch_s", 0.0),
        hop_s=changes.get("hop_s", LATENCY_S),
        ramp_s=changes.get("ramp_s", 0.0),
        ramp_exponent=0.5,
        efficiency=dict.fromkeys(kinds, changes.get("efficiency", 1.0)),
        own_part_saved=dict.fromkeys(kinds, changes.get("own_part_saved", 1.0)),
    )


@pytest.mark.parametrize(("num_ranks", "message"), SIZES)
def test_measured_coefficients_of_an_ideal_library_give_the_same_times(num_ranks, message):
    plain, fitted = one_tier(), one_tier(collectives=measured())
    group = members_per_tier(plain, num_ranks, 1)

    for collective in (all_gather_s, reduce_scatter_s, all_reduce_s, all_to_all_s):
        assert collective(fitted, group, message) == pytest.approx(collective(plain, group, message), rel=1e-12)


def test_measured_terms_by_hand():
    """8 ranks, 100 MB at 0.8 of 400 GB/s, half of the own part saved: 5 + 7 * 2 + 4 * 93.75^0.5 us and 93.75 MB."""
    fitted = one_tier(collectives=measured(launch_s=5e-6, hop_s=2e-6, ramp_s=4e-6, efficiency=0.8, own_part_saved=0.5))
    group = members_per_tier(fitted, 8, 1)
    expected = 5e-6 + 14e-6 + 4e-6 * 93.75**0.5 + 93.75e6 / 3.2e11
    exchange = 5e-6 + 2e-6 + 4e-6 * 93.75**0.5 + 93.75e6 / 3.2e11

    assert all_gather_s(fitted, group, 100e6) == pytest.approx(expected)
    assert all_to_all_s(fitted, group, 100e6) == pytest.approx(exchange)
    assert all_gather_s(fitted, members_per_tier(fitted, 1, 1), 100e6) == 0.0


def test_more_bandwidth_and_smaller_messages_never_slow_a_measured_collective():
    for rate in (1e10, 1e11, 1e12):
        fabrics = [
            FabricSpec(
                name="x",
                tiers=(
                    FabricTier(
                        name="x",
                        size=math.inf,
                        bytes_per_s=r,
                        latency_s=0.0,
                        efficiency=1.0,
                        collectives=measured(launch_s=5e-6, ramp_s=6e-6, own_part_saved=0.6),
                    ),
                ),
            )
            for r in (rate, 3 * rate)
        ]
        for size in (2, 8, 72):
            group = members_per_tier(fabrics[0], size, 1)
            for collective in (all_gather_s, all_reduce_s, all_to_all_s):
                times = [float(collective(fabrics[0], group, message)) for message in (0.0, 1e5, 1e7, 1e9)]
                assert times == sorted(times)
                assert float(collective(fabrics[1], group, 1e7)) < times[2]
