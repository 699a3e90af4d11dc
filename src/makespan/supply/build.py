"""A site of one's own: activities, halls, deliveries, installation, burn-in and power become capacity by date."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makespan.specs.supply import BuildSpec, SupplyResult
from makespan.supply.binding import wait_events
from makespan.supply.criticality import activity_key, criticality, delivery_key, hall_key, source_key
from makespan.supply.install import (
    Installation,
    Pods,
    arrivals,
    first_pass,
    handover_groups,
    install,
    pods_of,
)
from makespan.supply.power import SourceDates, runnable_accelerators, site_pue, site_start_s, source_dates
from makespan.supply.schedule import Gate, IntArray, Schedule, earliest_schedule, gate
from makespan.supply.timeline import CODE, Events, Merged, first_time_s, merge, timeline
from makespan.uncertainty import Streams

FloatArray = NDArray[np.float64]

LARGEST_NUMBER_OF_HANDOVERS = 100
"""Pods are handed over in groups where a site has more of them, which keeps a timeline to some 300 segments."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Site:
    """Everything sampled for a site, before it becomes a timeline."""

    starts_s: FloatArray
    schedule: Schedule
    hall_gates: tuple[Gate, ...]
    lots_s: FloatArray
    pods: Pods
    work: Installation
    burn_in_s: FloatArray
    first_pass_yield: FloatArray
    repair_s: FloatArray
    sources: SourceDates
    pue: FloatArray


def build_supply(build: BuildSpec, streams: Streams, *, horizon_s: float) -> SupplyResult:
    """Accelerators by date at a site of one's own, with the three dates and what the last one waited for.

    Raises
    ------
    ScheduleError : the activity network is broken.   ValueError : an installation rate that is not positive.

    Notes
    -----
    installed : accepted after burn-in.  powered = min(installed, what firm power carries at provisioned peak).
    usable = min(powered, largest cluster).

    Burn-in does not wait for power: the power that is there can be passed round while pods are tested.
    """
    site = _sample(build, streams)
    merged = _merge(build, site, horizon_s)
    firm_w = site.sources.firm_power_w(merged.start_s)
    carried = runnable_accelerators(firm_w, build.node, site.pue[:, None])
    powered = np.minimum(merged.total, carried)
    largest = np.inf if build.largest_cluster is None else float(build.largest_cluster)
    usable = np.minimum(powered, largest)
    target = build.num_accelerators
    binding = np.select(
        [usable >= target, powered >= largest, powered < merged.total],
        [CODE["none"], CODE["cluster_size"], CODE["power"]],
        default=merged.cause,
    )
    line = timeline(
        pool=build.name,
        target=target,
        start_s=merged.start_s,
        installed=merged.total,
        powered=powered,
        usable=usable,
        power_limit_w=firm_w,
        binding=binding,
    )
    all_installed_s = first_time_s(line, line.installed, target)
    all_powered_s = first_time_s(line, line.powered, target)
    return SupplyResult(
        timeline=line,
        first_usable_s=first_time_s(line, line.usable, min(build.pod_size, target, largest)),
        all_installed_s=all_installed_s,
        all_powered_s=all_powered_s,
        milestones=_milestones(build, site),
        criticality=criticality(
            build,
            site.schedule,
            site.pods,
            site.work,
            site.hall_gates,
            site.sources,
            site.starts_s,
            all_installed_s,
            all_powered_s,
            horizon_s,
        ),
        pue=site.pue,
    )


def _sample(build: BuildSpec, streams: Streams) -> _Site:
    purpose = f"supply/{build.name}"
    starts_s = site_start_s(build, streams)
    schedule = earliest_schedule(build, streams, starts_s)
    hall_gates = tuple(gate(schedule, hall.after) for hall in build.halls)
    lots_s = np.empty((streams.num_replicates, len(build.deliveries)))
    for index, lot in enumerate(build.deliveries):
        lots_s[:, index] = streams.draw(lot.at_s, f"{purpose}/delivery/{index + 1}")
    pods = pods_of(build)
    arrival_s, lot_index = arrivals(build.deliveries, lots_s, pods.needed)
    rate_per_s = streams.draw(build.install_per_s, f"{purpose}/site/install rate")
    return _Site(
        starts_s=starts_s,
        schedule=schedule,
        hall_gates=hall_gates,
        lots_s=lots_s,
        pods=pods,
        work=install(pods, hall_gates, starts_s, arrival_s, lot_index, rate_per_s),
        burn_in_s=streams.draw(build.burn_in_s, f"{purpose}/site/burn-in"),
        first_pass_yield=streams.draw(build.first_pass_yield, f"{purpose}/site/first-pass yield"),
        repair_s=streams.draw(build.repair_s, f"{purpose}/site/repair"),
        sources=source_dates(build, streams, schedule),
        pue=site_pue(build, streams),
    )


def _merge(build: BuildSpec, site: _Site, horizon_s: float) -> Merged:
    """Acceptances, repairs, power changes and causes of waiting, in the order of their dates."""
    edges = [
        Events.of(np.full((len(site.pue), 1), -np.inf), added=build.initial_accelerators, cause=CODE["construction"]),
        Events.of(site.sources.from_s),
        Events.of(site.sources.until_s),
    ]
    if len(site.pods.size) == 0:
        return merge(edges, horizon_s)
    group_last = handover_groups(site.pods, LARGEST_NUMBER_OF_HANDOVERS)
    accepted_s = site.work.finish_s[:, group_last] + site.burn_in_s[:, None]
    repaired_s = accepted_s + site.repair_s[:, None]
    passed = first_pass(site.pods, site.first_pass_yield)
    failed = site.pods.size[None, :] - passed
    waits = wait_events(site.pods, site.work, group_last, accepted_s, site.schedule, site.hall_gates, site.starts_s)
    last = accepted_s[:, -1:], np.where(failed[:, -1:] > 0, repaired_s[:, -1:], accepted_s[:, -1:])
    return merge(
        [
            *edges,
            *waits,
            Events.of(accepted_s, added=_by_group(passed, group_last)),
            Events.of(repaired_s, added=_by_group(failed, group_last)),
            Events.of(last[0], cause=CODE["commissioning"]),
            # After the last repair only a lack of halls can keep the site below its number.
            Events.of(last[1], cause=CODE["construction"]),
        ],
        horizon_s,
    )


def _by_group(counts: IntArray, group_last: IntArray) -> IntArray:
    first = np.append(0, group_last[:-1] + 1)
    result: IntArray = np.add.reduceat(counts, first, axis=1)
    return result


def _milestones(build: BuildSpec, site: _Site) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Begin and end of activities, halls, deliveries and power sources, in that order; end `inf` for no end."""
    milestones: dict[str, tuple[FloatArray, FloatArray]] = {}
    for index, activity in enumerate(site.schedule.activities):
        milestones[activity_key(activity.name)] = site.schedule.start_s[:, index], site.schedule.end_s[:, index]
    repair_s = np.where(first_pass(site.pods, site.first_pass_yield) < site.pods.size, site.repair_s[:, None], 0.0)
    for index, hall in enumerate(build.halls):
        mine = np.flatnonzero(site.pods.hall == index)
        if len(mine) == 0:
            continue
        first_installed, last_installed = site.work.finish_s[:, mine[0]], site.work.finish_s[:, mine[-1]]
        milestones[hall_key(hall.name, "installation")] = site.work.start_s[:, mine[0]], last_installed
        accepted = site.work.finish_s[:, mine] + site.burn_in_s[:, None] + repair_s[:, mine]
        milestones[hall_key(hall.name, "commissioning")] = first_installed, accepted.max(axis=1)
    for index, lot in enumerate(build.deliveries):
        date = site.lots_s[:, index]
        milestones[delivery_key(index, lot.num_accelerators)] = date, date
    for index, source in enumerate(build.power):
        milestones[source_key(source.name)] = site.sources.from_s[:, index], site.sources.until_s[:, index]
    return milestones
