"""What holds the next accelerators back: the cause of every wait at a building site, as dated events.

The *next* accelerators are those of the first group of pods that is not accepted yet. If the crew never stood idle
within that group, the pace of installation keeps it from following the one before. If the crew did, the group's last
idle wait tells, by date: what it waited for (a delivery, or the activity of the hall's chain that is going on), then
its installation, then its burn-in. When only repairs are left the cause is commissioning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from makespan.supply.install import Installation, Pods
from makespan.supply.schedule import BoolArray, Gate, IntArray, Schedule
from makespan.supply.timeline import CODE, Events

FloatArray = NDArray[np.float64]


def governing_pods(pods: Pods, work: Installation, group_last: IntArray) -> IntArray:
    """Last pod of each group before which the crew stood idle, -1 for none; shape (replicates, groups)."""
    waited = np.where(work.waited, np.arange(len(pods.size)), -1)
    group_first = np.append(0, group_last[:-1] + 1)
    result: IntArray = np.maximum.reduceat(waited, group_first, axis=1)
    return result


def wait_events(
    pods: Pods,
    work: Installation,
    group_last: IntArray,
    accepted_s: FloatArray,
    schedule: Schedule,
    hall_gates: Sequence[Gate],
    starts_s: FloatArray,
) -> list[Events]:
    """Causes of the waits before each group, as events that set them.

    Parameters
    ----------
    group_last : last pod of each group (`handover_groups`).
    accepted_s : first-pass acceptance of each group, shape (replicates, groups). [s]

    Notes
    -----
    The acceptance of group g itself sets the cause for group g + 1; here it is "installation", which the events of
    a group with an idle wait then override. Events that would fall before the previous acceptance are moved to it.
    """
    num_replicates = len(accepted_s)
    base = np.hstack([np.full((num_replicates, 1), -np.inf), accepted_s[:, :-1]])
    governing = governing_pods(pods, work, group_last)
    events = [Events.of(base, cause=CODE["installation"])]
    firsts = pods.first_of_hall
    group_of = np.searchsorted(group_last, np.arange(len(pods.size)))
    for pod in firsts:
        group = group_of[pod]
        here = governing[:, group] == pod
        window = base[:, group], accepted_s[:, group]
        gate = hall_gates[pods.hall[pod]]
        events += _hall_wait(here, window, work.arrival_s[:, pod], starts_s, schedule, gate)
        events += _phases(here[:, None], window, work.start_s[:, [pod]], work.finish_s[:, [pod]])
    events += _delivery_waits(governing, firsts, base, accepted_s, work)
    return events


def _within(valid: BoolArray, window: tuple[FloatArray, FloatArray], from_s: FloatArray) -> FloatArray:
    """Times moved up to the begin of the group's window; `inf` where not valid or not before its end."""
    begin, end = (edge.reshape(len(edge), -1) for edge in window)
    moved = np.maximum(from_s, begin)
    return np.where(valid & (moved < end), moved, np.inf)


def _hall_wait(
    here: BoolArray,
    window: tuple[FloatArray, FloatArray],
    arrival_s: FloatArray,
    starts_s: FloatArray,
    schedule: Schedule,
    hall: Gate,
) -> list[Events]:
    """What the first pod of a hall waits for: the hall's chain of activities, a delivery, or the owner's start."""
    for_hall = here & (hall.ready_s >= arrival_s) & (hall.ready_s >= starts_s)
    for_lot = here & ~for_hall & (arrival_s >= starts_s)
    for_owner = here & ~for_hall & ~for_lot
    always = np.full((len(here), 1), -np.inf)
    events = [
        Events.of(_within(for_lot[:, None], window, always), cause=CODE["delivery"]),
        Events.of(_within(for_owner[:, None], window, always), cause=CODE["contract"]),
    ]
    on_chain = hall.on_chain & for_hall[:, None] & (schedule.end_s > window[0][:, None])
    columns = np.flatnonzero(on_chain.any(axis=0))
    codes = np.array([CODE[schedule.activities[column].cause] for column in columns], dtype=np.int64)
    times = _within(on_chain[:, columns], window, hall.chain_from_s[:, columns])
    return [*events, Events.of(times, cause=codes)]


def _phases(
    here: BoolArray, window: tuple[FloatArray, FloatArray], start_s: FloatArray, finish_s: FloatArray
) -> list[Events]:
    """After the wait: installation, then burn-in."""
    return [
        Events.of(_within(here, window, start_s), cause=CODE["installation"]),
        Events.of(_within(here, window, finish_s), cause=CODE["commissioning"]),
    ]


def _delivery_waits(
    governing: IntArray, firsts: IntArray, base: FloatArray, accepted_s: FloatArray, work: Installation
) -> list[Events]:
    """Waits in the middle of a hall: only a delivery can cause them. Which pods, differs between replicates."""
    inside = (governing >= 0) & ~np.isin(governing, firsts)
    most = int(inside.sum(axis=1).max(initial=0))
    if most == 0:
        return []
    groups = np.argsort(~inside, axis=1, kind="stable")[:, :most]
    here = np.take_along_axis(inside, groups, axis=1)
    pod = np.maximum(np.take_along_axis(governing, groups, axis=1), 0)
    begin = np.take_along_axis(base, groups, axis=1)
    end = np.take_along_axis(accepted_s, groups, axis=1)
    start = np.take_along_axis(work.start_s, pod, axis=1)
    finish = np.take_along_axis(work.finish_s, pod, axis=1)
    always = np.full(begin.shape, -np.inf)
    return [
        Events.of(_within(here, (begin, end), always), cause=CODE["delivery"]),
        *_phases(here, (begin, end), start, finish),
    ]
