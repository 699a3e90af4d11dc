"""Somebody else's accelerators: a dated ramp with uncertain dates and counts becomes capacity by date."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from makespan.specs.supply import RentSpec, SupplyResult
from makespan.supply.timeline import CODE, Events, first_time_s, merge, timeline
from makespan.uncertainty import Discrete, Streams

FloatArray = NDArray[np.float64]

_ROUNDING = 1e-6
"""Of one accelerator: a share such as 0.97 of a whole number is not pushed past it by rounding."""


def rent_supply(offer: RentSpec, streams: Streams, *, horizon_s: float) -> SupplyResult:
    """Accelerators by date from an offer.

    installed = powered = the largest step of the ramp whose date has come (a late small step never takes away);
    usable = min(largest cluster, ceil(installed * healthy share)): a pool too small to spare one loses none.

    Notes
    -----
    The target is the largest step's central count. Below it the cause is `contract`, where a job gets only part of
    what stands there because of the cluster's size it is `cluster_size`. Accelerators under the provider's repair are
    no wait for anything: with the whole ramp there the cause is `none`.

    Odds of delivery are drawn once for the whole offer: it comes as stated or not at all. Power is the provider's:
    its limit is `inf`. `all_installed_s` and `all_powered_s` are when the replicate's own last step has come.
    """
    purpose = f"supply/{offer.name}"
    shape = (streams.num_replicates, len(offer.ramp))
    dates, counts = np.empty(shape), np.empty(shape)
    for index, step in enumerate(offer.ramp):
        dates[:, index] = streams.draw(step.from_s, f"{purpose}/ramp/{index + 1}/date")
        count = streams.draw(step.num_accelerators, f"{purpose}/ramp/{index + 1}/count")
        counts[:, index] = np.maximum(np.floor(count + _ROUNDING), 0.0)
    odds = Discrete(values=(1.0, 0.0), weights=(offer.delivery_probability, 1.0 - offer.delivery_probability))
    if offer.delivery_probability < 1.0:
        delivered = streams.draw(odds, f"{purpose}/delivered") > 0
        dates = np.where(delivered[:, None], dates, np.inf)
    healthy = streams.draw(offer.available_fraction, f"{purpose}/site/available fraction")
    target = max((int(step.num_accelerators.central) for step in offer.ramp), default=0)

    merged = merge([_ramp_events(dates, counts)], horizon_s)
    installed = merged.total
    largest = np.inf if offer.largest_cluster is None else float(offer.largest_cluster)
    working = np.ceil(installed * np.clip(healthy, 0.0, 1.0)[:, None] - _ROUNDING)
    usable = np.minimum(working, largest)
    binding = np.select(
        [usable >= target, (installed >= largest) & (largest < target), installed >= target],
        [CODE["none"], CODE["cluster_size"], CODE["none"]],
        default=CODE["contract"],
    )
    line = timeline(
        pool=offer.name,
        target=target,
        start_s=merged.start_s,
        installed=installed,
        powered=installed,
        usable=usable,
        power_limit_w=np.full(installed.shape, np.inf),
        binding=binding,
    )
    complete_s = first_time_s(line, line.installed, np.maximum(counts.max(axis=1, initial=0.0), 1.0))
    milestones, share = {}, {}
    for index, step in enumerate(offer.ramp):
        key = f"ramp {index + 1}: {int(step.num_accelerators.central):,}"
        milestones[key] = dates[:, index], dates[:, index]
        last = np.where(np.isfinite(complete_s), dates[:, index] == complete_s, dates[:, index] >= horizon_s)
        share[key] = float(np.mean(last))
    return SupplyResult(
        timeline=line,
        first_usable_s=first_time_s(line, line.usable, 1.0),
        all_installed_s=complete_s,
        all_powered_s=complete_s,
        milestones=milestones,
        criticality=share,
        pue=streams.draw(offer.pue, f"{purpose}/site/pue"),
    )


def _ramp_events(dates_s: FloatArray, counts: FloatArray) -> Events:
    """Cumulative counts, whose dates may have changed places, as additions."""
    order = np.argsort(dates_s, axis=1, kind="stable")
    held = np.maximum.accumulate(np.take_along_axis(counts, order, axis=1), axis=1)
    return Events.of(np.take_along_axis(dates_s, order, axis=1), added=np.diff(held, axis=1, prepend=0.0))
