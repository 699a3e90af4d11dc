"""A cluster with one property changed, and nothing else. Each function returns a new `ClusterSpec`.

What a formula reads of the machine is kept in two places: the accelerator, and the tiers of the fabric as an accelerator sees
them. Collectives read the tiers alone; legality takes the smaller of the two domain sizes. A change is made in both.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from makespan.specs.hardware import AcceleratorSpec, ClusterSpec, FabricTier


def _with_accelerator(cluster: ClusterSpec, **changes: Any) -> ClusterSpec:
    accelerator: AcceleratorSpec = dataclasses.replace(cluster.accelerator, **changes)
    return dataclasses.replace(cluster, accelerator=accelerator)


def _with_tiers(cluster: ClusterSpec, tiers: tuple[FabricTier, ...]) -> ClusterSpec:
    return dataclasses.replace(cluster, fabric=dataclasses.replace(cluster.fabric, tiers=tiers))


def scale_up_domain(cluster: ClusterSpec) -> float:
    """Accelerators that one scale-up domain really joins: the smaller of what chip and fabric say. [-]"""
    return min(cluster.accelerator.scale_up_domain_size, cluster.fabric.tiers[0].size)


def scaled_hbm_capacity(cluster: ClusterSpec, factor: float) -> ClusterSpec:
    """Memory of every accelerator times a factor, its bandwidth as it was."""
    return _with_accelerator(cluster, hbm_bytes=cluster.accelerator.hbm_bytes * factor)


def scaled_hbm_bandwidth(cluster: ClusterSpec, factor: float) -> ClusterSpec:
    """Memory bandwidth times a factor; the shares of it that kernels reach stay."""
    return _with_accelerator(cluster, hbm_bytes_per_s=cluster.accelerator.hbm_bytes_per_s * factor)


def scaled_arithmetic(cluster: ClusterSpec, factor: float) -> ClusterSpec:
    """Peak rates of every arithmetic times a factor; utilisations and the start of a kernel stay."""
    peaks = {name: peak * factor for name, peak in cluster.accelerator.peak_flop_per_s.items()}
    return _with_accelerator(cluster, peak_flop_per_s=peaks)


def scaled_scale_up_bandwidth(cluster: ClusterSpec, factor: float) -> ClusterSpec:
    """Bandwidth into the scale-up domain (NVLink) times a factor; launch, hops and the slow rise to full rate stay."""
    inner, *outer = cluster.fabric.tiers
    faster = dataclasses.replace(inner, bytes_per_s=inner.bytes_per_s * factor)
    changed = _with_accelerator(cluster, scale_up_bytes_per_s=cluster.accelerator.scale_up_bytes_per_s * factor)
    return _with_tiers(changed, (faster, *outer))


def scaled_scale_out_bandwidth(cluster: ClusterSpec, factor: float) -> ClusterSpec:
    """NIC and every tier beyond the scale-up domain times a factor; oversubscription stays the ratio it was."""
    inner, *outer = cluster.fabric.tiers
    faster = tuple(dataclasses.replace(tier, bytes_per_s=tier.bytes_per_s * factor) for tier in outer)
    changed = _with_accelerator(cluster, scale_out_bytes_per_s=cluster.accelerator.scale_out_bytes_per_s * factor)
    return _with_tiers(changed, (inner, *faster))


def most_oversubscribed(cluster: ClusterSpec) -> FabricTier | None:
    """The tier with the largest oversubscription, the outermost of equals; None where every tier is non-blocking."""
    worst = max(reversed(cluster.fabric.tiers), key=lambda tier: tier.oversubscription)
    return worst if worst.oversubscription > 1.0 else None


def scaled_oversubscription(cluster: ClusterSpec) -> ClusterSpec:
    """The most oversubscribed tier made non-blocking; the same cluster where there is none."""
    worst = most_oversubscribed(cluster)
    if worst is None:
        return cluster
    free = dataclasses.replace(worst, oversubscription=1.0)
    return _with_tiers(cluster, tuple(free if tier is worst else tier for tier in cluster.fabric.tiers))


def scaled_domain(cluster: ClusterSpec, size: int) -> ClusterSpec:
    """Scale-up domains of `size` accelerators, with the bandwidth and latency per accelerator of the old ones.

    Notes
    -----
    Tiers further out hold whole domains: their size is rounded up to a multiple of `size`, so that none reaches less far
    than it did. Measured `collectives` of the old, narrower domain are taken for the wider one; it needs more switches,
    which are not charged. Nodes stay as they are: a domain wider than a node spans several.
    """
    inner, *outer = cluster.fabric.tiers
    wide = dataclasses.replace(inner, size=float(size))
    whole = tuple(
        tier if math.isinf(tier.size) else dataclasses.replace(tier, size=math.ceil(tier.size / size) * float(size))
        for tier in outer
    )
    return _with_tiers(_with_accelerator(cluster, scale_up_domain_size=size), (wide, *whole))


def scaled_latency(cluster: ClusterSpec, factor: float) -> ClusterSpec:
    """Latencies of every tier times a factor: `latency_s`, and launch and hop of measured collectives.

    The slow rise of middle-sized messages to full rate (`ramp_s`) stays: it grows with the message. So do the latencies of
    hosts and kernels, which are not the network's.
    """

    def quicker(tier: FabricTier) -> FabricTier:
        measured = tier.collectives
        if measured is not None:
            launch, hop = measured.launch_s * factor, measured.hop_s * factor
            measured = dataclasses.replace(measured, launch_s=launch, hop_s=hop)
        return dataclasses.replace(tier, latency_s=tier.latency_s * factor, collectives=measured)

    return _with_tiers(cluster, tuple(quicker(tier) for tier in cluster.fabric.tiers))
