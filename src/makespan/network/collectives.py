"""Times of collectives. Tiered alpha-beta: every tier has a hop latency and a bandwidth per accelerator.

Sizes are bytes, all arguments broadcast. Contention between groups is not modelled beyond each tier's stated efficiency
and oversubscription; every accelerator brings its own port, so a group with m members in a domain leaves it over m ports.
"""

from __future__ import annotations

from makespan.network.placement import GroupPlacement
from makespan.rows import FloatLike, Rows, maximum, power, some, where
from makespan.specs.hardware import CollectiveEfficiency, FabricSpec


def ring_all_reduce_s(
    message_bytes: FloatLike, num_ranks: FloatLike, *, bandwidth_bytes_per_s: float, latency_s: float
) -> FloatLike:
    """Time of a ring all-reduce that has the links to itself. [s]

    Parameters
    ----------
    message_bytes : held by each rank at the start. [B]
    num_ranks : ranks in the ring, at least 1. [-]
    bandwidth_bytes_per_s : per rank, one direction. [B/s]
    latency_s : one hop, software included. [s]

    Notes
    -----
    2(p-1) steps of n/p bytes. Reduction arithmetic and protocol overhead are left out.

    References
    ----------
    P. Patarasuk, X. Yuan, J. Parallel Distrib. Comput. 69(2), 117-124, 2009.

    Examples
    --------
    >>> round(ring_all_reduce_s(8e9, 8, bandwidth_bytes_per_s=450e9, latency_s=0.0), 4)
    0.0311
    """
    return 2.0 * (num_ranks - 1) * (latency_s + message_bytes / num_ranks / bandwidth_bytes_per_s)


def _ring_s(
    fabric: FabricSpec, group: GroupPlacement, message_bytes: FloatLike, *, kind: str, both: bool = False
) -> FloatLike:
    """One collective that passes parts around rings; `both` for the two halves of an all-reduce. [s]"""
    size = group.size
    slowest: FloatLike = 0.0
    latency: FloatLike = 0.0
    inner: FloatLike = 1.0
    for tier, members in zip(fabric.tiers, group.members, strict=True):
        crosses = members > inner
        if not some(crosses):
            continue
        hops = members / inner - 1
        measured = tier.collectives
        if measured is None:
            passes = 2.0 if both and not tier.in_network_reduction else 1.0
            moved = (passes * message_bytes) * (size - 1) / size
            rate = tier.effective_bytes_per_s
            if both and tier.in_network_reduction:
                hops = crosses * 2.0
            latency = latency + (tier.latency_s * passes) * hops
        else:
            passes = 2.0 if both else 1.0
            moved = (passes * message_bytes) * (1.0 - measured.own_part_saved[kind] / size)
            rate = tier.bytes_per_s / tier.oversubscription * measured.efficiency[kind]
            latency = latency + crosses * (measured.launch_s + _ramp_s(measured, moved / inner))
            latency = latency + (passes * measured.hop_s) * hops
        slowest = maximum(slowest, crosses * moved / (inner * rate))
        inner = members
    return slowest + latency


def _ramp_s(measured: CollectiveEfficiency, moved_bytes: FloatLike) -> FloatLike:
    """What messages of middle size lose before they reach full rate: ramp * (bytes / 1 MB)^exponent. [s]"""
    return measured.ramp_s * power(moved_bytes * 1e-6, measured.ramp_exponent)


def all_gather_s(fabric: FabricSpec, group: GroupPlacement, gathered_bytes: FloatLike) -> FloatLike:
    """Ring all-gather over the tiers a group spans. [s]

    Parameters
    ----------
    gathered_bytes : what every rank holds at the end. [B]

    Notes
    -----
    Rings run on every port at once: the part (n-1)/n of the message passes each rank, and a domain with m members passes
    it over m ports of the next tier. Tiers work at the same time (the slowest sets the pace); hops add up, (k-1) at a
    tier with k domains. A tier with measured `collectives` takes their rate, launch, hop and ramp, and 1 - z/n of the
    message, z the `own_part_saved`, in place of (n-1)/n.
    """
    return _ring_s(fabric, group, gathered_bytes, kind="all_gather")


def reduce_scatter_s(fabric: FabricSpec, group: GroupPlacement, reduced_bytes: FloatLike) -> FloatLike:
    """Ring reduce-scatter; `reduced_bytes` is what every rank holds at the start. The mirror of `all_gather_s`. [s]"""
    return _ring_s(fabric, group, reduced_bytes, kind="reduce_scatter")


def all_reduce_s(fabric: FabricSpec, group: GroupPlacement, message_bytes: FloatLike) -> FloatLike:
    """All-reduce: reduce-scatter then all-gather, or half of that on tiers whose switches add up. [s]

    Notes
    -----
    With in-network reduction a rank sends its data once and receives the sum once, at the same time. A tier with
    measured `collectives` has what its switches save in the measured rate.
    """
    return _ring_s(fabric, group, message_bytes, kind="all_reduce", both=True)


def all_to_all_s(
    fabric: FabricSpec, group: GroupPlacement, sent_bytes: FloatLike, *, copies_per_token: float | None = None
) -> FloatLike:
    """All-to-all: every rank sends an equal part of `sent_bytes` to every rank, itself included. [s]

    Parameters
    ----------
    sent_bytes : all parts of one rank together. [B]
    copies_per_token : None when every destination gets its own data. Otherwise `sent_bytes` holds this many copies of
        each token for random destinations, and a token crosses to another domain of the innermost tier once, however
        many of its destinations are there (as DeepEP does): see `distinct_destinations`. Tiers further out copy
        nothing: what crosses them is as many messages.

    Notes
    -----
    Tiers follow one another: the time is the sum over tiers of what crosses there. One hop of latency per other domain
    would be serial sends; kernels post them together, so one hop a tier is charged.
    """
    total: FloatLike = 0.0 * sent_bytes * group.size
    inner: FloatLike = 1.0
    num_domains = group.size / group.members[0]
    for index, (tier, members) in enumerate(zip(fabric.tiers, group.members, strict=True)):
        crosses = members > inner
        if not some(crosses):
            continue
        share = (members - inner) / group.size
        if copies_per_token is not None and index > 0:
            share = share * distinct_destinations(num_domains, copies_per_token) / copies_per_token
        measured = tier.collectives
        if measured is None:
            total = total + crosses * (sent_bytes * share / tier.effective_bytes_per_s + tier.latency_s)
        else:
            # of its own part a rank saves only `own_part_saved`; that copy is made inside the first domain
            if index == 0:
                share = share + (1.0 - measured.own_part_saved["all_to_all"]) / group.size
            moved = sent_bytes * share
            rate = tier.bytes_per_s / tier.oversubscription * measured.efficiency["all_to_all"]
            fixed = measured.launch_s + measured.hop_s
            total = total + crosses * (moved / rate + fixed + _ramp_s(measured, moved))
        inner = members
    return total


def distinct_destinations(num_domains: FloatLike, copies: float) -> FloatLike:
    """Expected number of different domains among `copies` uniform random ones: R (1 - (1 - 1/R)^k). [-]

    Examples
    --------
    >>> round(float(distinct_destinations(8.0, 8)), 3)
    5.251
    """
    return num_domains * (1.0 - power(1.0 - 1.0 / num_domains, copies))


def point_to_point_s(fabric: FabricSpec, stride: FloatLike | Rows, message_bytes: FloatLike) -> FloatLike:
    """One message to the rank `stride` further on, through the innermost tier that holds both. [s]"""
    last = fabric.tiers[-1]
    bandwidth: FloatLike = last.effective_bytes_per_s
    latency: FloatLike = last.latency_s
    for tier in reversed(fabric.tiers[:-1]):
        inside = stride < tier.size
        bandwidth = where(inside, tier.effective_bytes_per_s, bandwidth)
        latency = where(inside, tier.latency_s, latency)
    return message_bytes / bandwidth + latency
