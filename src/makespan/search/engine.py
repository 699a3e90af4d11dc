"""The search: the best layouts of the whole space, and proof that no other is better.

Branch and bound. A thin search gives a first answer. Families of layouts that cannot beat it are left out (`bounds`); the
others are worked out in the order of their bounds (`blocks`), each layout by the formulas of `step`, until the next bound is
above the last answer wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.search.blocks import Found, Wanted, blocks_of, fastest_by_step, joined, refined, work_out
from makespan.search.bounds import Bare, Factors, Floors, bare_sizes, cut, factors, families, with_policies
from makespan.search.count import count_legal
from makespan.search.floors import floors
from makespan.search.neighbours import Done, Job, neighbourhoods
from makespan.search.pareto import pareto_front
from makespan.search.problem import Families, Problem, Sizes
from makespan.search.space import leanest_space, space_of
from makespan.search.ties import tie_fraction
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout, LayoutStatus
from makespan.specs.model import ModelSpec
from makespan.specs.search import SearchConstraints, SearchResult
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, step_estimate, step_estimates
from makespan.step.arrays import COLUMNS
from makespan.step.legality import has_precision
from makespan.step.memory import with_optimizer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]

DP_AT_A_TIME = 16
"""Values of dp in a piece of a family."""

WORKERS = 2
"""Threads that work out neighbours; NumPy lets go of the interpreter while it computes. The proof has arrays too small for it."""

FIRST_SIZES, MOST_SIZES = 512, 8192
FIRST_THIN_SIZES = 32
FIRST_FAMILIES, MOST_FAMILIES = 4096, 65536
FIRST_PIECES, MOST_PIECES = 1024, 16384
"""Sizes, families, and pieces of them, of the first round and of the later ones: each has the threshold of those before."""

REACHES = (1.25, 4.0)
"""Where few layouts fit, `top` goes up to so many times the best of a first search, and no further. [-]"""

MOST_OTHERS = 256
"""Families of a round that are not wanted, but whose neighbours may be worked out."""

FURTHER, MOST_FURTHER = 1.25, 128
"""Where neighbours of what was looked at are too few: further families up to so many times the threshold, of so many sizes."""

LEAST_LAYOUTS = 1_200_000
"""Layouts worked out where there are so many: when the best is proved, its neighbours follow until so many are known."""

MOST_KEPT = 4096
"""Layouts that a result lists."""

MOST_ON_FRONT = 24
"""Points of the Pareto front that are worked out in full."""

FRONT_REACH = 1.25
"""The front is followed up to this times the best step time. [-]"""

SIZES = ("tp", "cp", "ep", "etp", "pp", "vpp", "schedule", "micro_batch")
"""Two layouts that agree in these are one entry of `top`: the better of the two."""


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
    """The best layouts of a model on a cluster, and why the others are out.

    Parameters
    ----------
    constraints : dimensions that must stay, headroom, idle accelerators, objective.
    top : layouts worked out in full, best first; they differ in more than dp, sharding, recomputation and order. There may be
        fewer: where few fit, none that is more than four times as slow as the first ones found is listed.
    front : whether the Pareto front is worked out.

    Returns
    -------
    SearchResult : `best` is None when nothing fits; then `infeasible` tallies the reasons and `nearest` names the layout
        that lacks least memory.

    Notes
    -----
    Exact: no layout of the space is better than `best`, and none of other sizes better than the last of `top`. Equals are
    ordered by accelerators used, memory, and then by their dimensions, so the answer does not depend on the order in which
    layouts are looked at, nor on the number of processors.
    """
    problem, found = _hunt(model, config, cluster, profile, constraints, top=top, front=front)
    headroom = constraints.memory_headroom

    def worked_out(columns: Columns, places: IntArray) -> tuple[StepEstimate, ...]:
        rows = LayoutArrays(**{name: columns[name][places] for name in COLUMNS})
        if not len(places):
            return ()
        return step_estimates(model, config, cluster, profile, rows, memory_headroom=headroom)

    kept = found.kept
    best = worked_out(kept, _one_of_each(kept)[:top])
    fraction = tie_fraction(profile)
    tally: dict[LayoutStatus, int] = {
        status: int(found.tally[status]) for status in LayoutStatus if status is not LayoutStatus.OK
    }
    num_excluded, nearest = 0, None
    if not best:
        num_excluded = count_legal(problem) - found.num_layouts
        tally[LayoutStatus.OUT_OF_MEMORY] += num_excluded
        nearest = _nearest(problem, constraints) if num_excluded else None
    elif constraints.thorough:
        num_excluded = count_legal(problem) - found.num_layouts
    return SearchResult(
        best=best[0] if best else None,
        top=best,
        pareto=worked_out(found.front, _front(found.front)),
        num_layouts=found.num_layouts,
        num_feasible=found.num_feasible,
        num_excluded=num_excluded,
        infeasible=tally,
        num_ties=int(np.count_nonzero(found.near <= kept["objective"][0] * (1.0 + fraction))) if best else 0,
        tie_fraction=fraction,
        nearest=nearest,
        columns={name: values[:MOST_KEPT] for name, values in kept.items()},
        objective=constraints.objective,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class _Hunt:
    """What has been found so far.

    threshold : objective up to which layouts are wanted: that of the last of `top`.
    """

    top: int
    threshold: float = math.inf
    num_layouts: int = 0
    num_feasible: int = 0
    tally: IntArray = field(default_factory=lambda: np.zeros(len(LayoutStatus) + 1, dtype=np.int64))
    near: FloatArray = field(default_factory=lambda: np.zeros(0))
    kept: Columns = field(default_factory=lambda: joined([]))
    front: Columns = field(default_factory=lambda: joined([]))
    nearest: tuple[float, LayoutArrays] | None = None
    done: list[Done] = field(default_factory=list)

    def fresh(self) -> _Hunt:
        """Nothing found, the same wanted."""
        return _Hunt(top=self.top, threshold=self.threshold)

    def come_nearer(self, nearest: tuple[float, LayoutArrays] | None) -> None:
        """Remember the layout that needs the least memory, for the case that nothing fits."""
        if nearest is not None and (self.nearest is None or nearest[0] < self.nearest[0]):
            self.nearest = nearest

    def take_in(self, hunts: Sequence[_Hunt]) -> None:
        """Other hunts, in their order."""
        self.add(hunts)
        for each in hunts:
            self.come_nearer(each.nearest)
            self.done += each.done

    def add(self, founds: Sequence[Found | _Hunt]) -> None:
        """What some blocks or other hunts found, in their order."""
        for found in founds:
            self.num_layouts += found.num_layouts
            self.num_feasible += found.num_feasible
            self.tally = self.tally + found.tally
        self.near = np.concatenate([self.near, *(found.near for found in founds)])
        self.kept = _best_of(joined([self.kept, *(found.kept for found in founds)]))
        self.front = joined([self.front, *(found.front for found in founds)])
        if len(self.front["time_s"]):
            costs = (self.front[name] for name in ("time_s", "memory_bytes", "num_accelerators"))
            few = fastest_by_step(*costs)
            self.front = {name: values[few] for name, values in self.front.items()}
        each = _one_of_each(self.kept)
        if len(each) >= self.top:
            self.threshold = min(self.threshold, float(self.kept["objective"][each[self.top - 1]]))


def _hunt(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    constraints: SearchConstraints,
    *,
    top: int,
    front: bool,
) -> tuple[Problem, _Hunt]:
    """A thin search for a first threshold, then the space."""
    problem = Problem(
        model=model,
        config=with_optimizer(config, profile),
        cluster=cluster,
        profile=profile,
        space=space_of(model, config, cluster, profile, constraints),
        objective=constraints.objective,
    )
    limit = cluster.accelerator.hbm_bytes * (1.0 - constraints.memory_headroom)
    threshold = math.inf
    if constraints.thorough:
        thin = replace(constraints, thorough=False)
        _, first = _hunt(model, config, cluster, profile, thin, top=top, front=False)
        if not len(first.kept["objective"]):
            first = hunt(replace(problem, space=leanest_space(problem.space)), limit, top=top)
        if not len(first.kept["objective"]):
            return problem, first
        threshold = first.threshold
        if not math.isfinite(threshold):
            return problem, _few(problem, limit, float(first.kept["objective"][0]), top=top, front=front)
    return problem, hunt(problem, limit, top=top, front=front, threshold=threshold)


def _few(problem: Problem, limit_bytes: float, best: float, *, top: int, front: bool) -> _Hunt:
    """Where a first search knows fewer than `top` answers: all up to a multiple of the best of them, the smaller one if it will do."""
    for reach in REACHES:
        found = hunt(problem, limit_bytes, top=top, front=front, threshold=reach * best)
        if len(_one_of_each(found.kept)) >= top:
            break
    return found


def hunt(
    problem: Problem,
    limit_bytes: float,
    *,
    top: int,
    front: bool = False,
    threshold: float = math.inf,
    by_memory: bool = True,
) -> _Hunt:
    """Every layout of a space that may be among the first `top`.

    Parameters
    ----------
    limit_bytes : memory that a layout may take.   threshold : an objective that `top` layouts of the space are known to meet.
    front : also work out neighbours of the best, and follow the Pareto front.
    by_memory : leave families out early that cannot fit; otherwise the one that needs the least memory is found.
    """
    space = problem.space
    found = _Hunt(top=top, threshold=threshold)
    if space.is_empty or not _has_precision(problem):
        found.tally[int(LayoutStatus.NOT_SUPPORTED)] += not space.is_empty
        return found
    known = factors(problem)
    bare, broken = bare_sizes(problem, known)
    for code, count in broken.items():
        found.tally[code] += count
    bare = bare.take(bare.floor <= threshold)
    if not len(bare):
        return found
    least = floors(problem, bare, limit_bytes if by_memory else math.inf)

    def one(part: Bare) -> _Hunt:
        own = found.fresh()
        sizes = with_policies(problem, known, part, own.threshold)
        open_ = families(problem, known, least, sizes, own.threshold)
        _families(problem, sizes, open_, own, limit_bytes, front=front)
        return own

    start, step = 0, FIRST_THIN_SIZES if space.thin else FIRST_SIZES
    while start < len(bare) and bare.floor[start] <= found.threshold:
        found.take_in([one(bare.take(slice(start, start + step)))])
        start, step = start + step, MOST_SIZES
    if front and len(found.kept["objective"]) and not space.thin:
        wanted = _wanted(found, limit_bytes, front=front, reach=1.0 + tie_fraction(problem.profile))
        further = partial(_further, problem, known, least, bare, found.threshold * FURTHER)
        with ThreadPoolExecutor(WORKERS) as pool:
            for group in neighbourhoods(problem, known, found.done, LEAST_LAYOUTS - found.num_layouts, further):
                found.add(list(pool.map(partial(_neighbours, problem, wanted), group)))
    return found


def _has_precision(problem: Problem) -> bool:
    """Whether accelerator and software multiply in the precision of the step."""
    precision = problem.config.precision
    return has_precision(problem.cluster.accelerator, precision) and problem.profile.supports.get(precision, True)


def _families(problem: Problem, sizes: Sizes, open_: Families, hunt: _Hunt, limit_bytes: float, *, front: bool) -> None:
    """Families, best first: those that may still be wanted are cut into pieces and worked out, the most promising first."""
    start, step = 0, FIRST_FAMILIES
    while start < len(open_) and open_.floor[start] <= hunt.threshold:
        stop = min(start + step, int(np.searchsorted(open_.floor, hunt.threshold, side="right")))
        chunk = open_.take(slice(start, stop))
        added, nearest = refined(problem, sizes, chunk, limit_bytes)
        hunt.come_nearer(nearest)
        floor = chunk.bare + added.min(axis=1)
        good = np.flatnonzero(floor <= hunt.threshold)
        if front:
            others = np.argsort(np.where(np.isfinite(floor), floor, np.inf), kind="stable")[len(good) :][:MOST_OTHERS]
            none = np.zeros(added.shape[1], dtype=np.bool_)
            hunt.done.append(Done(sizes=sizes, families=chunk.take(others), floor=floor[others], choices=none))
        chunk, added = chunk.take(good), added[good]
        if not problem.space.thin:
            chunk, rows = cut(problem, sizes, chunk, DP_AT_A_TIME)
            added = added[rows]
        _pieces(problem, sizes, chunk, added, hunt, limit_bytes, front=front)
        start, step = stop, min(2 * step, MOST_FAMILIES)


def _pieces(
    problem: Problem,
    sizes: Sizes,
    chunk: Families,
    added: FloatArray,
    hunt: _Hunt,
    limit_bytes: float,
    *,
    front: bool,
) -> None:
    """Work out the pieces that may still be wanted, the most promising first."""
    floor = chunk.bare + added.min(axis=1)
    order = np.argsort(floor, kind="stable")
    start, step = 0, FIRST_PIECES
    while start < len(order) and floor[order[start]] <= hunt.threshold:
        part = order[start : start + step]
        part = part[floor[part] <= hunt.threshold]
        wanted = _wanted(hunt, limit_bytes, front=front, reach=1.0 + tie_fraction(problem.profile))
        few, more = chunk.take(part), added[part]
        found = []
        for block in blocks_of(problem, sizes, few, widths=2 if problem.space.thin else DP_AT_A_TIME):
            index = block.index[block.family[block.family >= 0]]
            alive = np.asarray((few.bare[index, None] + more[index] <= hunt.threshold).any(axis=0))
            found.append(work_out(problem, sizes, block, alive[None, None, :], wanted))
            hunt.done.append(Done(sizes=sizes, families=few.take(index), floor=floor[part][index], choices=alive))
        hunt.add(found)
        start, step = start + step, min(2 * step, MOST_PIECES)


def _further(problem: Problem, known: Factors, least: Floors, bare: Bare, threshold: float) -> Done:
    """Families beyond the threshold that promise most; none of them has been worked out."""
    sizes = with_policies(problem, known, bare.take(slice(0, MOST_FURTHER)), threshold)
    open_ = families(problem, known, least, sizes, threshold).take(slice(0, MOST_FAMILIES))
    none = np.zeros(len(problem.space.choices), dtype=np.bool_)
    return Done(sizes=sizes, families=open_, floor=open_.floor, choices=none)


def _neighbours(problem: Problem, wanted: Wanted, job: Job) -> Found:
    return work_out(problem, *job, wanted)


def _wanted(hunt: _Hunt, limit_bytes: float, *, front: bool, reach: float) -> Wanted:
    """reach : layouts up to this times the best count as near, if that is more than the threshold."""
    fastest = float(hunt.kept["time_s"].min()) if len(hunt.kept["time_s"]) else math.inf
    best = float(hunt.kept["objective"][0]) if len(hunt.kept["objective"]) else hunt.threshold
    return Wanted(
        limit_bytes=limit_bytes,
        near=max(hunt.threshold, reach * best),
        most_kept=MOST_KEPT,
        front_s=fastest * FRONT_REACH if front else 0.0,
    )


def _nearest(problem: Problem, constraints: SearchConstraints) -> tuple[Layout, float] | None:
    """Where nothing fits, the layout that lacks the least memory, with the bytes it lacks: of a thin space, with what a thorough
    one may send away or split. None where the thin space is empty."""
    lean = leanest_space(problem.space)
    thin = space_of(*problem.specs, replace(constraints, thorough=False))
    if thin.is_empty:
        thin = lean
    few = replace(problem, space=replace(leanest_space(thin), policies=lean.policies, choices=lean.choices))
    limit = problem.cluster.accelerator.hbm_bytes * (1.0 - constraints.memory_headroom)
    found = hunt(few, limit, top=1, by_memory=False).nearest
    if found is None:
        return None
    layout = found[1].row(0)
    memory = step_estimate(*problem.specs, layout, memory_headroom=constraints.memory_headroom).memory
    return layout, memory.total_bytes - memory.limit_bytes


def _best_of(columns: Columns) -> Columns:
    """The best, in order: `MOST_KEPT` of them, and the best of each sizes."""
    keys = [columns[name] for name in reversed(COLUMNS)]
    keys += [columns[name] for name in ("memory_bytes", "num_accelerators", "objective")]
    ranked = np.lexsort(keys)
    ordered = {name: values[ranked] for name, values in columns.items()}
    keep = np.zeros(len(ranked), dtype=np.bool_)
    keep[:MOST_KEPT] = True
    keep[_one_of_each(ordered)[:MOST_KEPT]] = True
    return {name: values[keep] for name, values in ordered.items()}


def _one_of_each(columns: Columns) -> IntArray:
    """Of ordered columns the places of the first of each `SIZES`."""
    if not len(columns["objective"]):
        return np.zeros(0, dtype=np.int64)
    code = np.zeros(len(columns["objective"]), dtype=np.int64)
    for name in SIZES:
        values = columns[name]
        code = code * (int(values.max()) + 1) + values
    _, first = np.unique(code, return_index=True)
    return np.sort(first)


def _front(columns: Columns) -> IntArray:
    """Not dominated in (time, memory, accelerators): of at most `MOST_ON_FRONT`, evenly spaced along the front."""
    if not len(columns["time_s"]):
        return np.zeros(0, dtype=np.int64)
    costs = [columns[name].astype(np.float64) for name in ("time_s", "memory_bytes", "num_accelerators")]
    found = pareto_front(np.stack(costs, axis=1))
    if len(found) <= MOST_ON_FRONT:
        return found
    return found[np.unique(np.linspace(0, len(found) - 1, MOST_ON_FRONT).astype(np.int64))]
