"""Families of layouts put into blocks, and a block worked out: every layout gets a time, a memory and a status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from makespan.rows import some
from makespan.search.bounds import ROUNDING
from makespan.search.objectives import objective_values
from makespan.search.problem import POLICY, Families, Problem, Sizes, blocked, grid_columns, is_dominated, size_columns
from makespan.specs.layout import LayoutStatus, RankOrder, Schedule, Sharding
from makespan.specs.search import Objective
from makespan.step import LayoutArrays
from makespan.step.arrays import COLUMNS
from makespan.step.evaluate import LayerTable, jitter_factor
from makespan.step.features import OF_SHARDING
from makespan.step.grid import Grid, GridAnswer

_Kind = TypeVar("_Kind", bound=np.generic)
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

VARIANTS = 8
"""Families in a row of a block: alike but for micro-batch, recomputation and offloading."""

LAYOUTS_AT_A_TIME = 1 << 15
"""Layouts of a block under one choice of sharding: their arrays stay in a core's cache."""

MEMORY_STEP = 1.01
"""The front tells memories and numbers of accelerators apart that differ by this factor. [-]"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Rows of families: arrays of shape (rows, variants). A row shares mesh, experts, pipeline, order and a piece of dp.

    family : row of `families`; -1 fills rows up.   index : where each of `families` was before they were grouped.
    """

    families: Families
    family: IntArray
    index: IntArray


def refined(
    problem: Problem, sizes: Sizes, families: Families, limit_bytes: float
) -> tuple[FloatArray, tuple[float, LayoutArrays] | None]:
    """What each family adds to its bare bound at least under each choice of sharding, in the objective; shape (families, choices).

    Infinite where no dp of the family fits, or where the software cannot run it. Transfers, data parallelism, the optimizer
    and the bubble of other schedules than 1F1B (`Grid.floor_under`).

    Returns also, where nothing of a block fits, the layout that needs the least memory, with the bytes it needs at least.
    """
    added = np.full((len(families), len(problem.space.choices)), np.inf)
    nearest: tuple[float, LayoutArrays] | None = None
    for block in blocks_of(problem, sizes, families):
        there = block.family >= 0
        index = block.index[block.family[there]]
        values, layouts, needs = _refined(problem, sizes, block, limit_bytes)
        added[index] = values[there]
        if not np.isfinite(added[index]).any() and np.isfinite(needs).any():
            nearest = _nearer(nearest, problem, layouts, needs)
    return added, nearest


def _nearer(
    known: tuple[float, LayoutArrays] | None, problem: Problem, layouts: LayoutArrays, needs: FloatArray
) -> tuple[float, LayoutArrays] | None:
    """The layout of a block that needs the least memory, if that is less than the one known."""
    row, variant, place = np.unravel_index(int(np.argmin(needs)), needs.shape)
    least = float(needs[row, variant, place])
    if known is not None and known[0] <= least:
        return known
    chosen = problem.space.choices[int(place)].applied(layouts)
    shape, at = needs.shape[:2], (np.array([row]), np.array([variant]))
    return least, LayoutArrays(**{name: np.broadcast_to(getattr(chosen, name), shape)[at] for name in COLUMNS})


def _refined(
    problem: Problem, sizes: Sizes, block: Block, limit_bytes: float
) -> tuple[FloatArray, LayoutArrays, FloatArray]:
    """`refined` of a block, its layouts, and the memory they need at least; shapes (rows, variants, choices)."""
    columns, each = _shared_columns(problem, sizes, block)
    columns = {name: values[:, :, 0] if np.ndim(values) == 3 else values for name, values in columns.items()}
    unit, most, fewest = each.unit, each.most, each.least * each.unit
    if (most == most[:, :1]).all() and (fewest == fewest[:, :1]).all():
        unit, most, fewest = unit[:, :1], most[:, :1], fewest[:, :1]
    layouts = grid_columns(**columns, dp=most * unit)
    grid = Grid(*problem.specs, layouts, table=_table(sizes, layouts, each), fewest=fewest)
    known = np.ceil(problem.config.global_batch / (layouts.micro_batch * layouts.dp)) * each.slot_s + each.bubble_s
    used = layouts.tp * layouts.cp * layouts.pp * fewest
    factor = jitter_factor(problem.profile, used, precision=problem.config.precision)
    added = np.full((*block.family.shape, len(problem.space.choices)), np.inf)
    least = np.full(added.shape, np.inf)
    dominated: dict[bool, Any] = {}
    for place, choice in enumerate(problem.space.choices):
        under = choice.applied(layouts)
        zero3 = choice.sharding is Sharding.ZERO3
        if zero3 not in dominated:
            dominated[zero3] = is_dominated(problem, under)
        runs = (blocked(problem, under, keys=OF_SHARDING) == 0) & (dominated[zero3] == 0)
        if not some(runs):
            continue
        quiet, needs = grid.floor_under(choice)
        beyond = np.maximum(quiet - known, 0.0)
        if some(layouts.order == int(RankOrder.TP_DP_CP_PP)):
            beyond = 0.0 * beyond  # the layers' own times depend on dp
        more = objective_values(
            problem.objective,
            problem.cluster,
            time_s=beyond * (factor * ROUNDING),
            num_accelerators=used,
            working_s=0.0,
        )
        least[:, :, place] = np.where(runs, needs, np.inf)
        added[:, :, place] = np.where(runs & (needs * ROUNDING <= limit_bytes), more, np.inf)
    return added, layouts, least


def _columns(problem: Problem, sizes: Sizes, families: Families) -> dict[str, Any]:
    pipes = problem.space.pipes
    columns = size_columns(problem.space, sizes.take(families.size))
    for name in ("pp", "vpp", "schedule"):
        columns[name] = np.array([int(getattr(pipe, name)) for pipe in pipes], dtype=np.int64)[families.pipe]
    return columns | {"order": families.order}


def blocks_of(
    problem: Problem,
    sizes: Sizes,
    families: Families,
    *,
    widths: IntArray | int = 1,
    apart: IntArray | int = 0,
    variants: int = VARIANTS,
) -> list[Block]:
    """Families in rows of `VARIANTS`, rows in blocks; what differs in schedule class, order or in having stages apart.

    widths : values of dp of each family that are worked out; families of like widths come together.
    apart : families that differ in it do not come together.
    variants : families in a row. The families are grouped by what they share; within a group they keep their order.
    """
    if not len(families):
        return []
    space = problem.space
    schedule = np.array([int(pipe.schedule) for pipe in space.pipes])[families.pipe]
    alone = np.array([pipe.pp == 1 for pipe in space.pipes])[families.pipe]
    doublings = np.ceil(np.log2(widths)).astype(np.int64)
    kind = (((apart * 2 + (schedule > 0)) * 4 + families.order) * 2 + alone) * 32 + doublings
    keys = (families.least, families.order, families.pipe, sizes.expert[families.size], sizes.mesh[families.size])
    by_group = np.lexsort((np.arange(len(families)), *keys, kind))
    together = families.take(by_group)
    columns = np.stack([key[by_group] for key in (*keys, kind)])
    starts = np.flatnonzero(np.append(True, (columns[:, 1:] != columns[:, :-1]).any(axis=0)))
    lengths = np.diff(np.append(starts, len(together)))
    place = np.arange(len(together)) - np.repeat(starts, lengths)
    rows_before = np.cumsum(-(-lengths // variants)) - -(-lengths // variants)
    row = np.repeat(rows_before, lengths) + place // variants
    family = np.full((int(row[-1]) + 1, variants), -1, dtype=np.int64)
    family[row, place % variants] = np.arange(len(together))
    kind_of_row = columns[-1][family[:, 0]]
    blocks = []
    for start in np.flatnonzero(np.append(True, np.diff(kind_of_row) != 0)).tolist():
        stop = start + int(np.searchsorted(kind_of_row[start:] != kind_of_row[start], True))
        stop = len(kind_of_row) if stop >= len(kind_of_row) else stop
        at_a_time = max(LAYOUTS_AT_A_TIME // (variants << int(kind_of_row[start] % 32)), 1)
        for first in range(start, stop, at_a_time):
            rows = family[first : min(first + at_a_time, stop)]
            blocks.append(Block(families=together, family=rows, index=by_group))
    return blocks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a block gave.

    num_layouts, num_feasible : legal; of those, runnable and fitting.   tally : by code of `LayoutStatus`.
    near : objective of every feasible layout that is nearly as good as the best known.
    kept : the best of those, as columns (fields of `Layout`, time_s, memory_bytes, objective).
    front : for each step of memory and accelerators the fastest, as such columns.
    """

    num_layouts: int
    num_feasible: int
    tally: IntArray
    near: FloatArray
    kept: dict[str, NDArray[Any]]
    front: dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is kept of a block.

    limit_bytes : memory that a layout may take.   near : objective up to which layouts count as near.
    most_kept : of them.   front_s : step time up to which the front is followed; 0 for no front.
    """

    limit_bytes: float
    near: float
    most_kept: int
    front_s: float


def work_out(problem: Problem, sizes: Sizes, block: Block, todo: NDArray[np.bool_], wanted: Wanted) -> Found:
    """Every layout of a block through the formulas of `step`.

    todo : choices of sharding under which a family is to be worked out; where all are, its shape may be (1, 1, choices).
        Shape (rows, variants, choices).
    """
    columns, each, exists = _grid_of(problem, sizes, block)
    grid = Grid(*problem.specs, columns, table=_table(sizes, columns, each))
    shape = (*block.family.shape, exists.shape[2])
    layouts = exists & grid.breaks_no_rule()
    not_all_legal = np.count_nonzero(layouts) * exists.size < np.count_nonzero(exists) * layouts.size
    tally = np.zeros(len(LayoutStatus) + 1, dtype=np.int64)
    num_layouts = num_feasible = 0
    near: list[FloatArray] = []
    kept: list[dict[str, NDArray[Any]]] = []
    front: list[dict[str, NDArray[Any]]] = []
    dominated: dict[bool, Any] = {}
    for place, choice in enumerate(problem.space.choices):
        wanted_here = todo[:, :, place, None]
        if not wanted_here.any():
            continue
        uneven, lacks = grid.breaks_under(choice)
        legal = layouts if wanted_here.all() else layouts & wanted_here
        if not_all_legal:
            tally += _broken(grid.status_under(choice), exists & wanted_here, shape, len(tally))
        if some(uneven) or some(lacks):
            if not not_all_legal:
                _count_broken(tally, legal, uneven, lacks, shape)
            legal = legal & np.logical_not(uneven | lacks)
            if not legal.any():
                continue
        answer = grid.under(choice)
        zero3 = choice.sharding is Sharding.ZERO3
        if zero3 not in dominated:
            dominated[zero3] = is_dominated(problem, answer.layouts)
        if some(dominated[zero3]):
            legal = legal & np.logical_not(dominated[zero3])
        legal = np.broadcast_to(legal, shape)
        runs = legal & (answer.memory_bytes <= wanted.limit_bytes)
        counted, feasible = int(np.count_nonzero(legal)), int(np.count_nonzero(runs))
        num_layouts, num_feasible = num_layouts + counted, num_feasible + feasible
        tally[int(LayoutStatus.OUT_OF_MEMORY)] += counted - feasible
        if not feasible:
            continue
        objective = _objective(problem, grid, answer)
        good = np.flatnonzero(runs & (objective <= wanted.near))
        if len(good):
            values = np.broadcast_to(objective, shape).ravel()[good]
            near.append(values)
            if len(good) > wanted.most_kept:
                good = good[np.argpartition(values, wanted.most_kept)[: wanted.most_kept]]
            kept.append(_rows(answer, objective, shape, good))
        if wanted.front_s:
            front.append(_rows(answer, objective, shape, _for_front(answer, runs, shape, wanted.front_s)))
    return Found(
        num_layouts=num_layouts,
        num_feasible=num_feasible,
        tally=tally,
        near=np.concatenate(near) if near else np.zeros(0),
        kept=joined(kept),
        front=joined(front),
    )


def _shared_columns(problem: Problem, sizes: Sizes, block: Block) -> tuple[dict[str, Any], Families]:
    """Columns of a block on the axes (row, variant, dp) without dp, and the family of each variant."""
    families, family = block.families, block.family
    shared = _columns(problem, sizes, families.take(family[:, 0]))
    columns: dict[str, Any] = {
        name: shared[name][:, None, None] for name in ("tp", "cp", "cp_kind", "ep", "etp", "pp", "vpp", "schedule")
    }
    for name in ("schedule", "order"):
        values = shared[name]
        columns[name] = int(values[0]) if (values == values[0]).all() else values[:, None, None]
    each = families.take(np.where(family >= 0, family, family[:, :1]))
    variant = sizes.take(each.size)
    for name in ("micro_batch", *POLICY):
        columns[name] = _narrow(getattr(variant, name))[:, :, None]
    if not some(columns["offload"]):
        columns["offload"] = 0
    return columns, each


def _narrow(values: NDArray[_Kind]) -> NDArray[_Kind]:
    """Values of (rows, variants), with one variant where all of a row agree: what follows from them has fewer axes."""
    return values[:, :1] if (values == values[:, :1]).all() else values


def _count_broken(tally: IntArray, legal: NDArray[np.bool_], uneven: Any, lacks: Any, shape: tuple[int, ...]) -> None:
    """Add layouts that break no other rule than those that sharding and dp decide."""
    first = np.broadcast_to(legal & uneven, shape)
    then = np.broadcast_to(legal & np.logical_not(uneven) & lacks, shape)
    tally[int(LayoutStatus.SHARDS_DO_NOT_DIVIDE)] += int(np.count_nonzero(first))
    tally[int(LayoutStatus.NOT_SUPPORTED)] += int(np.count_nonzero(then))


def _broken(status: IntArray, there: NDArray[np.bool_], shape: tuple[int, ...], length: int) -> IntArray:
    """How many layouts break which rule, by code; OK left out."""
    codes = np.broadcast_to(status, shape)[np.broadcast_to(there, shape)]
    counts = np.bincount(codes, minlength=length)
    counts[0] = 0
    return counts


def _table(sizes: Sizes, layouts: LayoutArrays, each: Families) -> LayerTable | None:
    """Layer times of a block, known from its sizes; in another order of ranks and under DualPipe they are worked out anew."""
    if some(layouts.order) or some(layouts.schedule == int(Schedule.DUALPIPE)):
        return None
    index = each.size if np.ndim(layouts.dp) < 3 else each.size[:, :, None]
    return sizes.table.take(index)


def _grid_of(problem: Problem, sizes: Sizes, block: Block) -> tuple[LayoutArrays, Families, NDArray[np.bool_]]:
    """Columns of a block on the axes (row, variant, dp), the family of each variant, and where there is a layout."""
    columns, each = _shared_columns(problem, sizes, block)
    there, unit = _narrow(block.family >= 0)[:, :, None], each.unit[:, :1, None]
    least, most = (_narrow(values)[:, :, None] for values in (each.least, each.most))
    if problem.space.thin:
        lean = leanest(problem, least, most, unit, columns["micro_batch"])
        lean, most = np.broadcast_arrays(lean, most)
        exists = there & np.concatenate([most > 0, lean < most], axis=2)
        dp = np.concatenate([most, lean], axis=2) * unit
    else:
        first, last = least.min(axis=1, keepdims=True), most.max(axis=1, keepdims=True)
        number = first + np.arange(int((last - first).max()) + 1)[None, None, :]
        exists = there & (number >= least) & (number <= most)
        dp = number * unit
    return grid_columns(**columns, dp=dp), each, exists


def leanest(problem: Problem, least: IntArray, most: IntArray, unit: IntArray, micro_batch: IntArray) -> IntArray:
    """The smallest dp, in units, that needs no more micro-batches than the largest: as fast, with accelerators to spare."""
    batches = -(-problem.config.global_batch // micro_batch)
    rounds = -(-batches // np.maximum(most * unit, 1))
    replicas = -(-batches // rounds)
    lean = -(-replicas // unit)
    found: IntArray = np.minimum(np.maximum(lean, least), most)
    return found


def _objective(problem: Problem, grid: Grid, answer: GridAnswer) -> FloatArray:
    working = grid.working_s + answer.optimizer_s if problem.objective is Objective.ENERGY else None
    values: FloatArray = objective_values(
        problem.objective,
        problem.cluster,
        time_s=answer.time_s,
        num_accelerators=answer.layouts.num_accelerators,
        working_s=working,
    )
    return values


def _rows(
    answer: GridAnswer, objective: FloatArray, shape: tuple[int, ...], index: IntArray
) -> dict[str, NDArray[Any]]:
    """Some layouts of a block as flat columns."""
    at = np.unravel_index(index, shape)

    def pick(values: Any) -> NDArray[Any]:
        return np.broadcast_to(values, shape)[at]

    columns = {name: pick(getattr(answer.layouts, name)) for name in COLUMNS}
    return columns | {
        "time_s": pick(answer.time_s),
        "memory_bytes": pick(answer.memory_bytes),
        "num_accelerators": pick(answer.layouts.num_accelerators),
        "objective": pick(objective),
    }


def joined(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Columns one after the other; no rows where there are no parts."""
    if not parts:
        names = dict.fromkeys((*COLUMNS, "num_accelerators"), np.int64)
        floats = dict.fromkeys(("time_s", "memory_bytes", "objective"), np.float64)
        return {name: np.zeros(0, dtype=kind) for name, kind in (names | floats).items()}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _for_front(answer: GridAnswer, runs: NDArray[np.bool_], shape: tuple[int, ...], front_s: float) -> IntArray:
    """Flat places of what may be on the front: of each family the fastest dp and the one with the least accelerator time."""
    time = np.where(runs, answer.time_s, np.inf)
    spent = time * answer.layouts.num_accelerators
    row, variant = np.indices(shape[:2])
    number = np.concatenate([np.argmin(values, axis=2).ravel() for values in (time, spent)])
    flat = (np.tile((row * shape[1] + variant).ravel(), 2)) * shape[2] + number
    flat = np.unique(flat[runs.ravel()[flat] & (time.ravel()[flat] <= front_s)])
    if not len(flat):
        return flat
    at = np.unravel_index(flat, shape)
    memory: Any = np.broadcast_to(answer.memory_bytes, shape)[at]
    used: Any = np.broadcast_to(answer.layouts.num_accelerators, shape)[at]
    return flat[fastest_by_step(time[at], memory, used)]


def fastest_by_step(time_s: FloatArray, memory_bytes: FloatArray, used: IntArray) -> IntArray:
    """Places of the fastest for each step (`MEMORY_STEP`) of memory and accelerators; of equals the first."""
    steps = np.log(MEMORY_STEP)
    memory = np.floor(np.log(memory_bytes) / steps).astype(np.int64)
    size = np.floor(np.log(used) / steps).astype(np.int64)
    code = (memory - memory.min()) * (int(size.max() - size.min()) + 1) + size - size.min()
    order = np.lexsort((time_s, code))
    places: IntArray = order[np.append(True, np.diff(code[order]) != 0)]
    return places
