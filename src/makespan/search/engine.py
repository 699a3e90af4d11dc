"""The search: every layout of the space through `step`, in blocks; the best, the front, and a tally of the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from makespan.search.pareto import pareto_front
from makespan.search.space import COLUMNS, product
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout, LayoutStatus
from makespan.specs.model import ModelSpec
from makespan.specs.search import SearchConstraints, SearchResult
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate, step_estimate

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BLOCK = 1 << 18
"""Layouts evaluated at a time: large enough for NumPy, small enough for the cache."""

MOST_ON_FRONT = 24
"""Points of the Pareto front that are worked out in full."""


def search(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    constraints: SearchConstraints,
    *,
    top: int = 5,
    front: bool = True,
) -> SearchResult:
    """The fastest layouts of a model on a cluster, and why the others are out.

    Parameters
    ----------
    constraints : dimensions that must stay, headroom, idle accelerators.
    top : layouts worked out in full, fastest first.
    front : whether the Pareto front is worked out; it takes longer than the search of a thin space.

    Returns
    -------
    SearchResult : `best` is None when nothing fits; then `infeasible` tallies the reasons and `nearest` names the layout
        that lacks least memory.

    Notes
    -----
    Layouts of equal time are ordered by accelerators used, memory, and then by their dimensions, so the answer does not
    depend on the order of the space.
    """
    columns = product(model, config, cluster, constraints)
    space = LayoutArrays.build(**columns)
    count = len(space)
    time_s, memory_bytes, status = np.empty(count), np.empty(count), np.empty(count, dtype=np.int64)
    for start in range(0, count, BLOCK):
        part = slice(start, start + BLOCK)
        answer = evaluate(
            model,
            config,
            cluster,
            profile,
            space.take(part),
            memory_headroom=constraints.memory_headroom,
            fitting_only=True,
        )
        time_s[part], memory_bytes[part], status[part] = answer.time_s, answer.memory_bytes, answer.status
    fits = np.flatnonzero(status == LayoutStatus.OK)
    used = space.num_accelerators
    keys = (*(columns[name][fits] for name in reversed(COLUMNS)), memory_bytes[fits], used[fits], time_s[fits])
    ranked = fits[np.lexsort(keys)]
    tally = np.bincount(status, minlength=len(LayoutStatus))

    def worked_out(index: int) -> StepEstimate:
        chosen = space.row(index)
        return step_estimate(model, config, cluster, profile, chosen, memory_headroom=constraints.memory_headroom)

    best = tuple(worked_out(int(index)) for index in ranked[:top])
    on_front = _front(ranked, time_s, memory_bytes, used) if front else ranked[:0]
    return SearchResult(
        best=best[0] if best else None,
        top=best,
        pareto=tuple(worked_out(int(index)) for index in on_front),
        num_layouts=count,
        num_feasible=len(fits),
        infeasible={s: int(tally[s]) for s in LayoutStatus if s is not LayoutStatus.OK},
        nearest=None if best else _nearest(model, config, profile, space, memory_bytes, status, cluster, constraints),
    )


def _front(ranked: IntArray, time_s: FloatArray, memory_bytes: FloatArray, used: IntArray) -> IntArray:
    """Not dominated in (time, memory, accelerators): of at most `MOST_ON_FRONT`, evenly spaced along the front."""
    if len(ranked) == 0:
        return ranked
    costs = np.stack([time_s[ranked], memory_bytes[ranked], used[ranked].astype(np.float64)], axis=1)
    front = ranked[pareto_front(costs)]
    if len(front) <= MOST_ON_FRONT:
        return front
    return front[np.unique(np.linspace(0, len(front) - 1, MOST_ON_FRONT).astype(np.int64))]


def _nearest(
    model: ModelSpec,
    config: StepConfig,
    profile: FrameworkProfile,
    space: LayoutArrays,
    memory_bytes: FloatArray,
    status: IntArray,
    cluster: ClusterSpec,
    constraints: SearchConstraints,
) -> tuple[Layout, float] | None:
    over = np.flatnonzero(status == LayoutStatus.OUT_OF_MEMORY)
    if len(over) == 0:
        return None
    index = int(over[np.argmin(memory_bytes[over])])
    layout = space.row(index)
    limit = step_estimate(
        model, config, cluster, profile, layout, memory_headroom=constraints.memory_headroom
    ).memory.limit_bytes
    return layout, float(memory_bytes[index] - limit)
