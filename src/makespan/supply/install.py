"""Racks into halls: deliveries, the crews' pace, burn-in and acceptance, pod by pod.

One crew of the whole site works through the pods in the order of the halls. A pod is begun when the crew is free, the
hall is ready and all its accelerators have arrived; it is installed after its size over the installation rate, and
accepted after burn-in, but for the share that fails and follows after repair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makespan.specs.supply import BuildSpec, DeliveryLot
from makespan.supply.schedule import BoolArray, Gate, IntArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pods:
    """The pods of a site in the order they are installed; arrays of shape (pods,).

    size : accelerators in each; the last of a hall may be smaller.   hall : index of its hall.
    needed : accelerators that must have been delivered when it is begun, itself included.
    """

    size: IntArray
    hall: IntArray
    needed: IntArray

    @property
    def first_of_hall(self) -> IntArray:
        """Index of the first pod of each hall that has any, ascending."""
        return np.flatnonzero(np.diff(self.hall, prepend=-1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Installation:
    """Dates of every pod, shape (replicates, pods). [s]

    arrival_s : all its accelerators are at the door.   lot : index of the delivery that completed them, -1 for none.
    start_s, finish_s : the crew begins, and has racked and cabled it.
    waited : the crew stood idle before it (true for the first); otherwise the pod before it kept the crew.
    """

    arrival_s: FloatArray
    lot: IntArray
    start_s: FloatArray
    finish_s: FloatArray
    waited: BoolArray


def pods_of(build: BuildSpec) -> Pods:
    """Cut the halls into pods of `pod_size`, never beyond `num_accelerators`; `initial_accelerators` stand already.

    Examples
    --------
    Halls of 1,000 and 500, pods of 400: 400 + 400 + 200, then 400 + 100.
    """
    size, hall = [], []
    standing, room = build.initial_accelerators, build.num_accelerators
    for index, spec in enumerate(build.halls):
        here = min(spec.num_accelerators, room)
        room -= here
        taken = min(standing, here)
        standing -= taken
        left = here - taken
        while left > 0:
            size.append(min(build.pod_size, left))
            hall.append(index)
            left -= size[-1]
    sizes = np.asarray(size, dtype=np.int64)
    return Pods(size=sizes, hall=np.asarray(hall, dtype=np.int64), needed=np.cumsum(sizes))


def arrivals(lots: Sequence[DeliveryLot], at_s: FloatArray, needed: IntArray) -> tuple[FloatArray, IntArray]:
    """When the n-th accelerator has arrived, and with which lot. Lots may overtake each other.

    Parameters
    ----------
    at_s : date of each lot, shape (replicates, lots). [s]
    needed : cumulative numbers, ascending, shape (pods,).

    Returns
    -------
    Dates [s] and lot indices, shape (replicates, pods): `-inf` and -1 where a site lists no lots (everything is at
    hand), `inf` and -1 where the lots together are too few.
    """
    shape = (len(at_s), len(needed))
    if not lots:
        return np.full(shape, -np.inf), np.full(shape, -1, dtype=np.int64)
    order = np.argsort(at_s, axis=1, kind="stable")
    counts = np.asarray([lot.num_accelerators for lot in lots], dtype=np.int64)
    arrived = np.cumsum(counts[order], axis=1)
    index = np.zeros(shape, dtype=np.int64)
    for lot in range(len(lots)):
        index += arrived[:, lot, None] < needed[None, :]
    never = np.full((len(at_s), 1), np.inf)
    date = np.take_along_axis(np.hstack([np.take_along_axis(at_s, order, axis=1), never]), index, axis=1)
    nobody = np.full((len(at_s), 1), -1, dtype=np.int64)
    which = np.take_along_axis(np.hstack([order, nobody]), index, axis=1)
    return date, which


def install(
    pods: Pods,
    hall_gates: Sequence[Gate],
    starts_s: FloatArray,
    arrival_s: FloatArray,
    lot: IntArray,
    rate_per_s: FloatArray,
) -> Installation:
    """The crew's way through the pods.

    start[k] = max(finish[k-1], ready[k]);  finish[k] = start[k] + size[k] / rate.

    With S[k] the work up to and including pod k this is finish[k] = S[k] + max over i <= k of (ready[i] - S[i-1]),
    which a running maximum gives for all pods and replicates at once.

    Parameters
    ----------
    hall_gates : of each hall, for the activities it comes after.
    starts_s, rate_per_s : shape (replicates,). [s], [1/s]
    arrival_s, lot : see `arrivals`.

    Raises
    ------
    ValueError : an installation rate that is not positive.
    """
    if np.any(rate_per_s <= 0):
        raise ValueError("the installation rate must be above 0")
    ready = np.maximum(arrival_s, starts_s[:, None])
    for index, hall in enumerate(hall_gates):
        here = pods.hall == index
        ready[:, here] = np.maximum(ready[:, here], hall.ready_s[:, None])
    own_work = pods.size[None, :] / rate_per_s[:, None]
    work = np.cumsum(own_work, axis=1)
    before = np.hstack([np.zeros((len(work), 1)), work[:, :-1]])
    slack = ready - before
    latest = np.maximum.accumulate(slack, axis=1)
    waited = np.ones(slack.shape, dtype=bool)
    waited[:, 1:] = slack[:, 1:] > latest[:, :-1]
    return Installation(
        arrival_s=arrival_s,
        lot=lot,
        start_s=np.where(waited, ready, latest + before),
        finish_s=latest + work,
        waited=waited,
    )


def handover_groups(pods: Pods, largest_number: int) -> IntArray:
    """Index of the last pod of each group that is handed over together, shape (groups,).

    One pod each where there are at most `largest_number`; otherwise as many as that needs, never across halls. A group
    counts from the date of its last pod, so coarser groups are late by the installation of a few pods, never early.
    """
    num_pods = len(pods.size)
    if num_pods == 0:
        return np.zeros(0, dtype=np.int64)
    per_group = -(-num_pods // largest_number)
    first = pods.first_of_hall
    within = np.arange(num_pods) - first[np.searchsorted(first, np.arange(num_pods), side="right") - 1]
    last_of_hall = np.append(np.diff(pods.hall) != 0, True)
    return np.flatnonzero(((within + 1) % per_group == 0) | last_of_hall)


def first_pass(pods: Pods, yield_fraction: FloatArray) -> IntArray:
    """Accelerators of each pod that pass at the first try, whole ones; shape (replicates, pods)."""
    passed = np.floor(pods.size[None, :] * np.clip(yield_fraction, 0.0, 1.0)[:, None] + 1e-9)
    return passed.astype(np.int64)
