"""Collectives over tiers: values by hand, limits, and the effect of placement."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.network import (
    all_gather_s,
    all_reduce_s,
    all_to_all_s,
    distinct_destinations,
    members_per_tier,
    point_to_point_s,
    reduce_scatter_s,
    ring_all_reduce_s,
)
from makespan.specs.hardware import FabricSpec, FabricTier


def fabric(nvlink: float = 400e9, nic: float = 50e9, latency: float = 0.0, sharp: bool = False) -> FabricSpec:
    """Domains of 8, pods of 64, then everything; no protocol losses."""
    return FabricSpec(
        name="test",
        tiers=(
            FabricTier(name="nvlink", size=8, bytes_per_s=nvlink, latency_s=latency, efficiency=1.0),
            FabricTier(
                name="leaf", size=64, bytes_per_s=nic, latency_s=4 * latency, efficiency=1.0, in_network_reduction=sharp
            ),
            FabricTier(
                name="spine",
                size=math.inf,
                bytes_per_s=nic,
                latency_s=8 * latency,
                efficiency=1.0,
                oversubscription=2.0,
                in_network_reduction=sharp,
            ),
        ),
    )


def test_ring_all_reduce_of_8_gb_on_8_ranks():
    """2 x 7 steps of 1 GB at 450 GB/s."""
    assert ring_all_reduce_s(8e9, 8, bandwidth_bytes_per_s=450e9, latency_s=0.0) == pytest.approx(14 / 450)


def test_latency_counts_hops():
    assert ring_all_reduce_s(0.0, 8, bandwidth_bytes_per_s=1.0, latency_s=1e-6) == pytest.approx(14e-6)
    assert all_gather_s(fabric(latency=1e-6), members_per_tier(fabric(), 64, 1), 0.0) == pytest.approx(7e-6 + 7 * 4e-6)


def test_all_reduce_inside_a_domain_is_the_ring():
    group = members_per_tier(fabric(latency=2e-6), 8, 1)
    expected = ring_all_reduce_s(1e9, 8, bandwidth_bytes_per_s=400e9, latency_s=2e-6)

    assert all_reduce_s(fabric(latency=2e-6), group, 1e9) == pytest.approx(expected)


def test_consecutive_ranks_leave_their_domain_over_every_port():
    """16 neighbours: 15/16 of the message over 8 ports of 50 GB/s, as fast as one port of 400 GB/s."""
    assert all_gather_s(fabric(), members_per_tier(fabric(), 16, 1), 1e9) == pytest.approx(15 / 16 / 400)


def test_strided_ranks_are_alone_in_their_domain():
    """16 ranks eight apart: each has one port; pods of 64 hold 8 of them, and the spine is oversubscribed twice."""
    group = members_per_tier(fabric(), 16, 8)

    assert [float(m) for m in group.members] == [1, 8, 16]
    assert all_gather_s(fabric(), group, 1e9) == pytest.approx(max(15 / 16 / 50, 15 / 16 / (8 * 25)))


def test_a_domain_that_does_not_divide_holds_the_floor():
    nvl72 = FabricSpec(
        name="nvl72",
        tiers=(
            FabricTier(name="nvlink", size=72, bytes_per_s=900e9, latency_s=0.0, efficiency=1.0),
            FabricTier(name="ib", size=math.inf, bytes_per_s=50e9, latency_s=0.0, efficiency=1.0),
        ),
    )

    assert float(members_per_tier(nvl72, 16, 8).members[0]) == 9
    assert float(members_per_tier(nvl72, 64, 1).members[0]) == 64


def test_all_gather_and_reduce_scatter_make_an_all_reduce():
    for size, stride in ((8, 1), (32, 1), (16, 8), (100, 3)):
        group = members_per_tier(fabric(latency=1e-6), size, stride)
        both = all_gather_s(fabric(latency=1e-6), group, 3e8) + reduce_scatter_s(fabric(latency=1e-6), group, 3e8)
        assert all_reduce_s(fabric(latency=1e-6), group, 3e8) == pytest.approx(both)


def test_switches_that_add_halve_the_traffic_of_their_tier():
    group = members_per_tier(fabric(), 16, 8)

    assert all_reduce_s(fabric(), group, 1e9) == pytest.approx(2 * all_reduce_s(fabric(sharp=True), group, 1e9))


def test_all_to_all_by_tier():
    """16 ranks, 1 GB each: 7/16 stay in the domain at 400 GB/s, 8/16 leave at 50 GB/s."""
    group = members_per_tier(fabric(), 16, 1)

    assert all_to_all_s(fabric(), group, 1e9) == pytest.approx(7 / 16 / 400 + 8 / 16 / 50)


def test_tokens_cross_once_to_each_domain():
    """Eight copies over eight domains reach 5.25 different ones: the crossing part shrinks to 0.656."""
    group = members_per_tier(fabric(), 64, 1)
    plain = all_to_all_s(fabric(), group, 1e9)
    once = all_to_all_s(fabric(), group, 1e9, copies_per_token=8.0)
    inside = 7 / 64 / 400

    assert distinct_destinations(8.0, 8) == pytest.approx(8 * (1 - 0.875**8))
    assert once - inside == pytest.approx((plain - inside) * distinct_destinations(8.0, 8) / 8)


def test_copies_are_saved_by_domains_not_by_the_tiers_between_them():
    """Tokens drawn one by one: 128 ranks in domains of 8 and pods of 64, eight destinations each. A token goes once to every
    domain that holds one of them, and domains of the other pod are reached over the spine one by one."""
    rng = np.random.default_rng(5)
    destinations = np.argsort(rng.random((4000, 128)), axis=1)[:, :8] // 8
    leaf = spine = 0
    for domains in destinations:
        others = set(domains.tolist()) - {0}
        leaf += sum(domain < 8 for domain in others)
        spine += sum(domain >= 8 for domain in others)
    token = 1e6 / 8
    expected = (leaf / 50e9 + spine / 25e9) / len(destinations) * token
    group = members_per_tier(fabric(nvlink=math.inf), 128, 1)

    found = all_to_all_s(fabric(nvlink=math.inf), group, 1e6, copies_per_token=8.0)
    assert found == pytest.approx(expected, rel=0.03)


def test_distinct_destinations_by_drawing():
    draws = np.random.default_rng(1).integers(0, 5, size=(200_000, 3))
    found = np.mean([len(set(row)) for row in draws[:20_000].tolist()])

    assert distinct_destinations(5.0, 3) == pytest.approx(found, rel=0.01)


def test_point_to_point_uses_the_innermost_common_tier():
    assert point_to_point_s(fabric(), 1, 1e9) == pytest.approx(1 / 400)
    assert point_to_point_s(fabric(), 8, 1e9) == pytest.approx(1 / 50)
    assert point_to_point_s(fabric(), 64, 1e9) == pytest.approx(1 / 25)


def test_one_rank_needs_no_time():
    alone = members_per_tier(fabric(latency=1e-6), 1, 1)

    for collective in (all_gather_s, reduce_scatter_s, all_reduce_s, all_to_all_s):
        assert collective(fabric(latency=1e-6), alone, 1e9) == 0.0


def test_arrays_give_what_scalars_give():
    sizes, strides = np.array([1, 2, 8, 16, 96, 1000]), np.array([1, 8, 1, 4, 2, 1])
    together = all_gather_s(fabric(latency=1e-6), members_per_tier(fabric(), sizes, strides), 1e8)
    apart = [
        float(all_gather_s(fabric(latency=1e-6), members_per_tier(fabric(), int(n), int(s)), 1e8))
        for n, s in zip(sizes, strides, strict=True)
    ]

    np.testing.assert_allclose(together, apart, rtol=1e-14)


@given(
    size=st.integers(1, 4096),
    stride=st.integers(1, 64),
    message=st.floats(0, 1e12),
    faster=st.floats(1.0, 10.0),
)
def test_more_bandwidth_never_slows_a_collective(size, stride, message, faster):
    group = members_per_tier(fabric(), size, stride)
    for collective in (all_gather_s, all_reduce_s, all_to_all_s):
        slow = collective(fabric(), group, message)
        assert collective(fabric(nvlink=400e9 * faster), group, message) <= slow
        assert collective(fabric(nic=50e9 * faster), group, message) <= slow
