"""What the last accelerator waited for: in which share of the replicates each item lay on the path to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from makespan.specs.supply import BuildSpec
from makespan.supply.install import Installation, Pods
from makespan.supply.power import SourceDates
from makespan.supply.schedule import BoolArray, Gate, Schedule

FloatArray = NDArray[np.float64]


def activity_key(name: str) -> str:
    return name


def hall_key(name: str, work: str) -> str:
    return f"hall {name}: {work}"


def delivery_key(index: int, num_accelerators: int) -> str:
    return f"delivery {index + 1}: {num_accelerators:,}"


def source_key(name: str) -> str:
    return f"power: {name}"


def criticality(
    build: BuildSpec,
    schedule: Schedule,
    pods: Pods,
    work: Installation,
    hall_gates: Sequence[Gate],
    sources: SourceDates,
    starts_s: FloatArray,
    all_installed_s: FloatArray,
    all_powered_s: FloatArray,
    horizon_s: float,
) -> dict[str, float]:
    """Share of replicates in which an item was on the path to the last accelerator powered, by milestone name. [-]

    Where power came after the last acceptance the path ends in the source that started then, and leads on through its
    activities if they fixed its date. Otherwise it ends in the last hall's burn-in and leads back through the pods
    that kept the crew busy to the last wait, and from there to the delivery or the hall's chain of activities.

    Replicates that do not get there by the horizon count too: the path then ends in what is not there by then. Where
    the lots, the halls or all sources together are too small there is no such item.
    """
    by_power = all_powered_s > all_installed_s
    marks: dict[str, BoolArray] = {
        activity_key(a.name): np.zeros(len(by_power), dtype=bool) for a in schedule.activities
    }
    for index, source in enumerate(build.power):
        starts = sources.from_s[:, index]
        last = np.where(np.isfinite(all_powered_s), starts == all_powered_s, starts >= horizon_s)
        here = by_power & last & (sources.firm_w[:, index] > 0)
        marks[source_key(source.name)] = here
        gate = sources.gates[index]
        _mark_chain(marks, schedule, gate, here & (gate.ready_s == starts))
    _mark_installation(marks, build, schedule, pods, work, hall_gates, starts_s, ~by_power)
    return {name: float(mark.mean()) for name, mark in marks.items()}


def _mark_chain(marks: dict[str, BoolArray], schedule: Schedule, gate: Gate, here: BoolArray) -> None:
    for index, activity in enumerate(schedule.activities):
        marks[activity_key(activity.name)] |= gate.on_chain[:, index] & here


def _mark_installation(
    marks: dict[str, BoolArray],
    build: BuildSpec,
    schedule: Schedule,
    pods: Pods,
    work: Installation,
    hall_gates: Sequence[Gate],
    starts_s: FloatArray,
    here: BoolArray,
) -> None:
    num_pods = len(pods.size)
    for hall in build.halls:
        marks[hall_key(hall.name, "installation")] = np.zeros(len(here), dtype=bool)
        marks[hall_key(hall.name, "commissioning")] = np.zeros(len(here), dtype=bool)
    for index, lot in enumerate(build.deliveries):
        marks[delivery_key(index, lot.num_accelerators)] = np.zeros(len(here), dtype=bool)
    if build.initial_accelerators + int(pods.size.sum()) < build.num_accelerators or num_pods == 0:
        return
    rows = np.arange(len(here))
    pod = num_pods - 1 - np.argmax(work.waited[:, ::-1], axis=1)
    waited_for = work.start_s[rows, pod]
    arrival, lot_index = work.arrival_s[rows, pod], work.lot[rows, pod]
    first_hall, last_hall = pods.hall[pod], pods.hall[-1]
    came = here & np.isfinite(work.finish_s[:, -1])
    marks[hall_key(build.halls[last_hall].name, "commissioning")] |= came
    for index in sorted(set(pods.hall.tolist())):
        marks[hall_key(build.halls[index].name, "installation")] |= came & (first_hall <= index)
        gate = hall_gates[index]
        for_hall = here & (first_hall == index) & (gate.ready_s >= arrival) & (gate.ready_s >= starts_s)
        _mark_chain(marks, schedule, gate, for_hall)
        for lot_number, lot in enumerate(build.deliveries):
            key = delivery_key(lot_number, lot.num_accelerators)
            governs = (lot_index == lot_number) & (arrival == waited_for)
            marks[key] |= here & (first_hall == index) & ~for_hall & governs
