"""Firm power by date, and how many accelerators it carries.

Three figures per node must not be mixed up. *Nameplate* is what the power supplies could draw: to reserve it wastes
capacity. *Mean draw* while training is what the meter counts: energy and its bill rest on it. *Provisioned peak* is
the worst load that lasts long enough to trip a breaker or a turbine: a synchronous job takes every node there in the
same second, so there is no averaging over nodes, and the number of accelerators a site may run follows from this one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makespan.specs.hardware import NodeSpec
from makespan.specs.supply import BuildSpec, PowerSource
from makespan.supply.schedule import Gate, Schedule, earliest_schedule, gate
from makespan.uncertainty import Streams

FloatArray = NDArray[np.float64]

_ROUNDING = 1e-6
"""Of one accelerator: keeps power that was sized for exactly n from carrying n - 1 after a division."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceDates:
    """When each power source is there and what may be relied on meanwhile.

    from_s, until_s : shape (replicates, sources); `inf` for never, and for no end. [s]
    firm_w : firm capacity at the facility meter while it is there, same shape; 0 for sources that are not firm. [W]
    gates : of each source, for the activities it comes after.
    """

    from_s: FloatArray
    until_s: FloatArray
    firm_w: FloatArray
    gates: tuple[Gate, ...]

    def firm_power_w(self, times_s: FloatArray) -> FloatArray:
        """Sum over the sources that are there at times of shape (replicates, T). Same shape. [W]"""
        total = np.zeros(times_s.shape)
        for index in range(self.from_s.shape[1]):
            there = (times_s >= self.from_s[:, index, None]) & (times_s < self.until_s[:, index, None])
            total += np.where(there, self.firm_w[:, index, None], 0.0)
        return total


def firm_capacity_w(source: PowerSource, capacity_w: FloatArray) -> FloatArray:
    """What may be relied on from one source. [W]

    capacity, for a grid connection;
    min(units - spare units, units * availability) * capacity of a unit, for a group of units;
    0, for a source that bridges seconds or hours only.

    Spare units step in for the ones that are down, so they and the availability are not both taken off.

    Examples
    --------
    >>> from makespan.uncertainty import Fixed
    >>> turbines = PowerSource(name="gas", kind="turbine", capacity_w=Fixed(value=2.5e6), from_s=Fixed(value=0.0),
    ...                        num_units=14, num_redundant=1, availability=0.97)
    >>> firm_capacity_w(turbines, np.array([2.5e6])) / 1e6
    array([32.5])
    """
    if not source.firm:
        return np.zeros_like(capacity_w)
    if source.kind == "grid":
        return capacity_w
    units = min(source.num_units - source.num_redundant, source.num_units * source.availability)
    return capacity_w * max(units, 0.0)


def source_dates(build: BuildSpec, streams: Streams, schedule: Schedule) -> SourceDates:
    """Dates and firm capacity of every source of a site. Drawn as `supply/<site>/power/<source>/...`."""
    shape = (streams.num_replicates, len(build.power))
    start, until, firm = np.empty(shape), np.full(shape, np.inf), np.empty(shape)
    gates: list[Gate] = []
    for index, source in enumerate(build.power):
        purpose = f"supply/{build.name}/power/{source.name}"
        own_gate = gate(schedule, source.after)
        gates.append(own_gate)
        start[:, index] = np.maximum(streams.draw(source.from_s, f"{purpose}/from"), own_gate.ready_s)
        if source.until_s is not None:
            until[:, index] = streams.draw(source.until_s, f"{purpose}/until")
        firm[:, index] = firm_capacity_w(source, streams.draw(source.capacity_w, f"{purpose}/capacity"))
    return SourceDates(from_s=start, until_s=until, firm_w=firm, gates=tuple(gates))


def firm_power_w(build: BuildSpec, streams: Streams, times_s: FloatArray) -> FloatArray:
    """Firm power of a site at the facility meter.

    Parameters
    ----------
    times_s : shape (T,), the same in every replicate. [s]

    Returns
    -------
    Shape (replicates, T). [W]
    """
    times = np.asarray(times_s, dtype=np.float64)
    schedule = earliest_schedule(build, streams, site_start_s(build, streams))
    everywhere = np.broadcast_to(times, (streams.num_replicates, len(times)))
    return source_dates(build, streams, schedule).firm_power_w(everywhere)


def site_start_s(build: BuildSpec, streams: Streams) -> FloatArray:
    """When the owner may begin, shape (replicates,). [s]"""
    return streams.draw(build.starts_s, f"supply/{build.name}/site/starts")


def site_pue(build: BuildSpec, streams: Streams) -> FloatArray:
    """Facility over IT power, shape (replicates,). [-]"""
    return streams.draw(build.pue, f"supply/{build.name}/site/pue")


def runnable_accelerators(firm_w: FloatArray, node: NodeSpec, pue: FloatArray) -> FloatArray:
    """Accelerators that firm power at the facility meter carries, by provisioned peak. [-]

    floor(firm / (PUE * provisioned peak per accelerator, network and storage included)). Arguments broadcast.

    Left out: that a lower power cap lets more accelerators run slower, and loads of the building itself beyond PUE.

    Examples
    --------
    >>> node = NodeSpec(name="n", accelerator="h100-sxm", accelerators_per_node=8, nameplate_w=14e3,
    ...                 provisioned_peak_w=10.2e3, mean_training_w=8.4e3, idle_w=2e3, network_storage_w=0.8e3)
    >>> runnable_accelerators(np.array([43e6]), node, np.array([1.25]))
    array([25018.])
    """
    carried = firm_w / (pue * node.provisioned_peak_per_accelerator_w)
    result: FloatArray = np.floor(carried + _ROUNDING)
    return result
