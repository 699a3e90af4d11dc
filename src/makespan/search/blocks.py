"""Families of layouts put into blocks, and a block worked out: every layout gets a time, a memory and a status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.rows import some
from makespan.search.bounds import ROUNDING, Families, Problem, Sizes, blocked, grid_columns, is_dominated, size_columns
from makespan.search.objectives import objective_values
from makespan.specs.layout import LayoutStatus, Sharding
from makespan.specs.search import Objective
from makespan.step import LayoutArrays
from makespan.step.arrays import COLUMNS
from makespan.step.evaluate import LayerTable, jitter_factor
from makespan.step.features import OF_SHARDING
from makespan.step.grid import Grid, GridAnswer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

VARIANTS = 8
"""Families in a row of a block: alike but for micro-batch, recomputation and offloading."""

ROWS_AT_A_TIME = 1 << 15
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


def refined(problem: Problem, sizes: Sizes, families: Families, limit_bytes: float) -> FloatArray:
    """What each family adds to its bare bound at least under each choice of sharding, in the objective; shape (families, choices).

    Infinite where no dp of the family fits, or where the software cannot run it. Transfers, data parallelism, the optimizer
    and the bubble of other schedules than 1F1B (`Grid.floor_under`).
    """
    added = np.full((len(families), len(problem.space.choices)), np.inf)
    for block in blocks_of(problem, sizes, families, width=1):
        there = block.family >= 0
        index = block.index[block.family[there]]
        added[index] = _refined(problem, sizes, block, limit_bytes)[there]
    return added


def _refined(problem: Problem, sizes: Sizes, block: Block, limit_bytes: float) -> FloatArray:
    """`refined` of a block; shape (rows, variants, choices)."""
    columns, each = _shared_columns(problem, sizes, block)
    columns = {name: values[:, :, 0] if np.ndim(values) == 3 else values for name, values in columns.items()}
    unit, most, least = (getattr(each, name) for name in ("unit", "most", "least"))
    if (most == most[:, :1]).all() and (least == least[:, :1]).all():
        unit, most, least = unit[:, :1], most[:, :1], least[:, :1]
    fewest = least * unit
    layouts = grid_columns(**columns, dp=most * unit)
    grid = Grid(*problem.specs, layouts, table=_table(sizes, layouts, each), fewest=fewest)
    known = np.ceil(problem.config.global_batch / (layouts.micro_batch * layouts.dp)) * each.slot_s + each.bubble_s
    used = layouts.tp * layouts.cp * layouts.pp * fewest
    factor = jitter_factor(problem.profile, used, precision=problem.config.precision)
    added = np.full((*block.family.shape, len(problem.space.choices)), np.inf)
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
        more = objective_values(
            problem.objective,
            problem.cluster,
            time_s=np.maximum(quiet - known, 0.0) * (factor * ROUNDING),
            num_accelerators=used,
            working_s=0.0,
        )
        fits = needs * ROUNDING <= limit_bytes
        added[:, :, place] = np.where(fits & runs, more, np.inf)
    return added


def _columns(problem: Problem, sizes: Sizes, families: Families) -> dict[str, Any]:
    pipes = problem.space.pipes
    columns = size_columns(problem.space, sizes.take(families.size))
    for name in ("pp", "vpp", "schedule"):
        columns[name] = np.array([int(getattr(pipe, name)) for pipe in pipes], dtype=np.int64)[families.pipe]
    return columns | {"order": families.order}


def blocks_of(problem: Problem, sizes: Sizes, families: Families, *, width: int) -> list[Block]:
    """Families in rows of `VARIANTS`, rows in blocks; what differs in schedule class, order, offloading or in having stages apart.

    width : values of dp that are worked out together. The families are grouped by what they share; within a group they keep
    their order.
    """
    if not len(families):
        return []
    space = problem.space
    schedule = np.array([int(pipe.schedule) for pipe in space.pipes])[families.pipe]
    offload = sizes.offload[families.size]
    alone = np.array([pipe.pp == 1 for pipe in space.pipes])[families.pipe]
    kind = (((schedule > 0) * 4 + families.order) * 4 + offload) * 2 + alone
    keys = (families.least, families.order, families.pipe, sizes.expert[families.size], sizes.mesh[families.size])
    by_group = np.lexsort((np.arange(len(families)), *keys, kind))
    together = families.take(by_group)
    columns = np.stack([key[by_group] for key in (*keys, kind)])
    starts = np.flatnonzero(np.append(True, (columns[:, 1:] != columns[:, :-1]).any(axis=0)))
    lengths = np.diff(np.append(starts, len(together)))
    place = np.arange(len(together)) - np.repeat(starts, lengths)
    rows_before = np.cumsum(-(-lengths // VARIANTS)) - -(-lengths // VARIANTS)
    row = np.repeat(rows_before, lengths) + place // VARIANTS
    family = np.full((int(row[-1]) + 1, VARIANTS), -1, dtype=np.int64)
    family[row, place % VARIANTS] = np.arange(len(together))
    kind_of_row = columns[-1][family[:, 0]]
    at_a_time = max(ROWS_AT_A_TIME // (VARIANTS * width), 1)
    blocks = []
    for start in np.flatnonzero(np.append(True, np.diff(kind_of_row) != 0)).tolist():
        stop = start + int(np.searchsorted(kind_of_row[start:] != kind_of_row[start], True))
        stop = len(kind_of_row) if stop >= len(kind_of_row) else stop
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


def work_out(problem: Problem, sizes: Sizes, block: Block, alive: NDArray[np.bool_], wanted: Wanted) -> Found:
    """Every layout of a block through the formulas of `step`.

    alive : choices of sharding under which some layout of the block may be wanted. Shape (choices,).
    """
    columns, each, exists = _grid_of(problem, sizes, block)
    grid = Grid(*problem.specs, columns, table=_table(sizes, columns, each))
    shape = exists.shape
    structural = np.where(exists, grid.structural(), -1)
    tally = np.zeros(len(LayoutStatus) + 1, dtype=np.int64)
    num_layouts = num_feasible = 0
    near: list[FloatArray] = []
    kept: list[dict[str, NDArray[Any]]] = []
    front: list[dict[str, NDArray[Any]]] = []
    dominated: dict[bool, Any] = {}
    for choice, is_alive in zip(problem.space.choices, alive.tolist(), strict=True):
        if not is_alive:
            continue
        answer = grid.under(choice, structural)
        legal = answer.status == 0
        zero3 = choice.sharding is Sharding.ZERO3
        if zero3 not in dominated:
            dominated[zero3] = is_dominated(problem, answer.layouts)
        if some(dominated[zero3]):
            legal = legal & np.logical_not(dominated[zero3])
        runs = legal & (answer.memory_bytes <= wanted.limit_bytes)
        counted, feasible = int(np.count_nonzero(legal)), int(np.count_nonzero(runs))
        num_layouts, num_feasible = num_layouts + counted, num_feasible + feasible
        tally[int(LayoutStatus.OUT_OF_MEMORY)] += counted - feasible
        if counted < legal.size:
            tally += np.bincount(np.maximum(answer.status, 0).ravel(), minlength=len(tally)) * (
                np.arange(len(tally)) > 0
            )
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
            fast = np.flatnonzero(runs & (answer.time_s <= wanted.front_s))
            front.append(_rows(answer, objective, shape, _fastest_by_step(answer, shape, fast)))
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
    for name in ("schedule", "order", "offload"):
        values = shared[name]
        columns[name] = int(values[0]) if (values == values[0]).all() else values[:, None, None]
    each = families.take(np.where(family >= 0, family, family[:, :1]))
    variant = sizes.take(each.size)
    for name in ("micro_batch", "recompute", "ep_overlap", "cuda_graphs"):
        columns[name] = getattr(variant, name)[:, :, None]
    return columns, each


def _table(sizes: Sizes, layouts: LayoutArrays, each: Families) -> LayerTable | None:
    """Layer times of a block, known from its sizes; in another order of ranks they have to be worked out anew."""
    if some(layouts.order):
        return None
    index = each.size if np.ndim(layouts.dp) < 3 else each.size[:, :, None]
    return sizes.table.take(index)


def _grid_of(problem: Problem, sizes: Sizes, block: Block) -> tuple[LayoutArrays, Families, NDArray[np.bool_]]:
    """Columns of a block on the axes (row, variant, dp), the family of each variant, and where there is a layout."""
    columns, each = _shared_columns(problem, sizes, block)
    there, unit = block.family[:, :, None] >= 0, each.unit[:, :1, None]
    if problem.space.thin:
        least, most = each.least[:, :, None], each.most[:, :, None]
        leanest = _leanest(problem, least, most, unit, columns["micro_batch"])
        exists = there & np.concatenate([most > 0, leanest < most], axis=2)
        dp = np.concatenate([most, leanest], axis=2) * unit
    else:
        least, most = each.least.min(axis=1), each.most.max(axis=1)
        number = (least[:, None] + np.arange(int((most - least).max()) + 1)[None, :])[:, None, :]
        exists = there & (number >= each.least[:, :, None]) & (number <= each.most[:, :, None])
        dp = number * unit
    return grid_columns(**columns, dp=dp), each, exists


def _leanest(problem: Problem, least: IntArray, most: IntArray, unit: IntArray, micro_batch: IntArray) -> IntArray:
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


def _fastest_by_step(answer: GridAnswer, shape: tuple[int, ...], index: IntArray) -> IntArray:
    """Of some layouts the fastest for each step of memory and of accelerators."""
    if not len(index):
        return index
    at = np.unravel_index(index, shape)
    time, memory = (np.broadcast_to(values, shape)[at] for values in (answer.time_s, answer.memory_bytes))
    used = np.broadcast_to(answer.layouts.num_accelerators, shape)[at]
    return index[fastest_by_step(time, memory, used)]


def fastest_by_step(time_s: FloatArray, memory_bytes: FloatArray, used: IntArray) -> IntArray:
    """Places of the fastest for each step (`MEMORY_STEP`) of memory and accelerators; of equals the first."""
    steps = np.log(MEMORY_STEP)
    memory = np.floor(np.log(memory_bytes) / steps).astype(np.int64)
    size = np.floor(np.log(used) / steps).astype(np.int64)
    code = (memory - memory.min()) * (int(size.max() - size.min()) + 1) + size - size.min()
    order = np.lexsort((time_s, code))
    places: IntArray = order[np.append(True, np.diff(code[order]) != 0)]
    return places
