"""The activity network of a site: what must end before what, and when each piece of work starts and ends.

Earliest dates only (the forward pass of the critical-path method), with sampled durations. Crews are not levelled
between activities: two that may run side by side do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makespan.specs.supply import ActivitySpec, BuildSpec
from makespan.uncertainty import Fixed, Streams

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NOBODY = -1
"""Stands where no activity governs: the owner's start or a date of its own does."""


class ScheduleError(ValueError):
    """The activity network cannot be scheduled: a loop, a name used twice, or a name nobody has."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """Earliest dates of every activity.

    activities : in an order in which each comes after its predecessors.
    start_s, end_s : shape (replicates, activities); `inf` for never. [s]
    driver : index of the predecessor whose end (plus lag) fixed the start, `NOBODY` where a date did; same shape.
    """

    activities: tuple[ActivitySpec, ...]
    start_s: FloatArray
    end_s: FloatArray
    driver: IntArray

    def columns(self, names: Sequence[str]) -> list[int]:
        """Places of named activities in the arrays."""
        place = {activity.name: index for index, activity in enumerate(self.activities)}
        return [place[name] for name in names]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gate:
    """When the last of several activities ends, and the chain of work that fixed that moment.

    ready_s : shape (replicates,); `-inf` where nothing is waited for. [s]
    on_chain : is an activity on the chain, shape (replicates, activities).
    chain_from_s : from when on a wait for the gate is a wait for this activity (the end of the one before it in the
        chain, `-inf` for the first); shape (replicates, activities), meaningful on the chain only. [s]
    """

    ready_s: FloatArray
    on_chain: BoolArray
    chain_from_s: FloatArray


def schedule_problems(build: BuildSpec) -> tuple[str, ...]:
    """What is wrong with the activity network, in words; empty when it can be scheduled."""
    problems: list[str] = []
    names = [activity.name for activity in build.activities]
    for what, used in (
        ("activity", names),
        ("hall", [hall.name for hall in build.halls]),
        ("power source", [source.name for source in build.power]),
    ):
        twice = sorted({name for name in used if used.count(name) > 1})
        problems += [f"{build.name}: {what} '{name}' is named twice" for name in twice]
    known = set(names)
    waiting = [(f"activity '{activity.name}'", activity.after) for activity in build.activities]
    waiting += [(f"hall '{hall.name}'", hall.after) for hall in build.halls]
    waiting += [(f"power source '{source.name}'", source.after) for source in build.power]
    for who, after in waiting:
        problems += [
            f"{build.name}: {who} comes after '{name}', which is no activity" for name in after if name not in known
        ]
    if not problems:
        _, stuck = _topological(build.activities)
        if stuck:
            problems.append(f"{build.name}: activities wait for each other in a loop: {' -> '.join(stuck)}")
    return tuple(problems)


def _topological(activities: Sequence[ActivitySpec]) -> tuple[list[ActivitySpec], list[str]]:
    """Activities so that each follows its predecessors, in file order where free; and one loop, if there is one."""
    placed: dict[str, ActivitySpec] = {}
    left = list(activities)
    while left:
        free = [activity for activity in left if all(name in placed for name in activity.after)]
        if not free:
            return list(placed.values()), _loop(left)
        placed.update((activity.name, activity) for activity in free)
        left = [activity for activity in left if activity.name not in placed]
    return list(placed.values()), []


def _loop(left: Sequence[ActivitySpec]) -> list[str]:
    """Follow predecessors among activities that all wait for one another until a name comes back."""
    by_name = {activity.name: activity for activity in left}
    trail = [left[0].name]
    while True:
        trail.append(next(name for name in by_name[trail[-1]].after if name in by_name))
        if trail[-1] in trail[:-1]:
            return trail[trail.index(trail[-1]) :][::-1]


def is_history(activity: ActivitySpec) -> bool:
    """Done before the planner's day: no duration left, and a fixed date before `as_of`.

    Such an activity keeps its date, whatever its predecessors or the owner's start would say.
    """
    done, left = activity.not_before_s, activity.duration_s
    return isinstance(done, Fixed) and done.value < 0 and isinstance(left, Fixed) and left.value == 0


def earliest_schedule(build: BuildSpec, streams: Streams, starts_s: FloatArray) -> Schedule:
    """Earliest start and end of every activity in every replicate.

    start = max(owner's start, not before, end of each predecessor + lag);  end = start + duration.

    Parameters
    ----------
    starts_s : when the owner may begin, shape (replicates,). [s]

    Raises
    ------
    ScheduleError : a loop, or an unknown or doubled name (see `schedule_problems`).

    Notes
    -----
    Durations are drawn as `supply/<site>/<activity>`, so that options which share a site share its luck. Activities
    with draws of their own are independent; give two distributions one name to make them slip together.
    """
    if problems := schedule_problems(build):
        raise ScheduleError("; ".join(problems))
    activities, _ = _topological(build.activities)
    shape = (streams.num_replicates, len(activities))
    start, end = np.empty(shape), np.empty(shape)
    driver = np.full(shape, NOBODY, dtype=np.int64)
    place = {activity.name: index for index, activity in enumerate(activities)}
    for index, activity in enumerate(activities):
        purpose = f"supply/{build.name}/{activity.name}"
        if is_history(activity) and activity.not_before_s is not None:
            start[:, index] = end[:, index] = activity.not_before_s.central
            continue
        begin, governs = starts_s.astype(np.float64), np.full(shape[0], NOBODY, dtype=np.int64)
        for name in activity.after:
            ready = end[:, place[name]] + activity.lag_s
            governs = np.where(ready > begin, place[name], governs)
            begin = np.maximum(begin, ready)
        if activity.not_before_s is not None:
            own_date = streams.draw(activity.not_before_s, f"{purpose}/not before")
            governs = np.where(own_date > begin, NOBODY, governs)
            begin = np.maximum(begin, own_date)
        start[:, index], driver[:, index] = begin, governs
        end[:, index] = begin + streams.draw(activity.duration_s, purpose)
    return Schedule(activities=tuple(activities), start_s=start, end_s=end, driver=driver)


def gate(schedule: Schedule, after: Sequence[str]) -> Gate:
    """When all activities named in `after` have ended, and the chain behind the last of them.

    Of activities that end together the one that comes first in the schedule is the chain's last link.
    """
    shape = schedule.end_s.shape
    on_chain = np.zeros(shape, dtype=bool)
    chain_from = np.full(shape, -np.inf)
    if not after:
        return Gate(ready_s=np.full(shape[0], -np.inf), on_chain=on_chain, chain_from_s=chain_from)
    columns = sorted(schedule.columns(after))
    ends = schedule.end_s[:, columns]
    last = np.asarray(columns)[np.argmax(ends, axis=1)]
    on_chain[np.arange(shape[0]), last] = True
    for index in range(shape[1] - 1, -1, -1):
        before = schedule.driver[:, index]
        rows = np.flatnonzero(on_chain[:, index] & (before != NOBODY))
        on_chain[rows, before[rows]] = True
        chain_from[rows, index] = schedule.end_s[rows, before[rows]]
    return Gate(ready_s=ends.max(axis=1), on_chain=on_chain, chain_from_s=chain_from)
