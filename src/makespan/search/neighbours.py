"""The neighbours of the best layouts: everything that can be changed around the sizes that came out best.

The search proves which layout is the best from few that it works out. Its neighbours, with every recompute policy, switch,
sharding and dp, fill the Pareto front and say what stands against the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.search.blocks import Block, blocks_of
from makespan.search.bounds import Bare, Factors, cut, slots, supported, with_policies
from makespan.search.problem import Families, Problem, Sizes, blocked, family_columns, is_dominated
from makespan.specs.layout import Sharding
from makespan.step.features import OF_SHARDING

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DP_AT_A_TIME = 16
"""Values of dp in a piece of a family."""

MOST_FURTHER = 512
"""Groups beyond what was looked at: where they hold few layouts each, more of them would take long and say little."""

GROUPS_AT_A_TIME = 64
"""Sizes and pipelines whose neighbours are put into blocks together."""

NARROW = 4
"""Pieces of families with no more values of dp than this come together."""

VARIANTS = 16
"""Families in a row of a block: of one group there are as many as policies."""

Job = tuple[Sizes, Block, NDArray[np.bool_]]
"""What `blocks.work_out` takes: sizes, a block of them, and the choices of sharding that are still to do."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Done:
    """Pieces of families that were worked out, with their bound, and under which choices of sharding (choices,)."""

    sizes: Sizes
    families: Families
    floor: FloatArray
    choices: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """All pieces that were worked out, by a code for each, ascending; `choices` of shape (pieces, choices)."""

    codes: IntArray
    choices: NDArray[np.bool_]


def neighbourhoods(
    problem: Problem, known: Factors, done: Sequence[Done], num_layouts: int, further: Callable[[], Done]
) -> Iterator[list[Job]]:
    """Neighbours of what was done, best first, until about so many layouts are given out; none of them was done before.

    further : families whose neighbours follow where those are too few.
    """
    if not done or num_layouts <= 0:
        return
    groups, past = _groups(done), _past(problem, done)
    given = 0
    for start in range(0, len(groups), GROUPS_AT_A_TIME):
        jobs, number = _jobs(problem, known, groups[start : start + GROUPS_AT_A_TIME], past, num_layouts - given)
        given += number
        yield jobs
        if given >= num_layouts:
            return
    before = set(map(tuple, groups.tolist()))
    others = [group for group in _groups([further()]).tolist() if tuple(group) not in before][:MOST_FURTHER]
    for start in range(0, len(others), GROUPS_AT_A_TIME):
        few = np.array(others[start : start + GROUPS_AT_A_TIME], dtype=np.int64)
        jobs, number = _jobs(problem, known, few, past, num_layouts - given)
        given += number
        yield jobs
        if given >= num_layouts:
            return


def _jobs(problem: Problem, known: Factors, groups: IntArray, past: _Known, num_layouts: int) -> tuple[list[Job], int]:
    """The neighbours of some groups in blocks, up to about so many layouts; and how many there are."""
    sizes, pieces = _pieces(problem, known, groups)
    todo = _todo(problem, sizes, pieces, past)
    some = np.flatnonzero(todo.any(axis=1))
    pieces, todo = pieces.take(some), todo[some]
    alike = todo @ (1 << np.arange(todo.shape[1]))
    jobs: list[Job] = []
    given = 0
    # Two classes of width are enough: more would make many small blocks.
    widths = np.where(pieces.most - pieces.least < NARROW, NARROW, DP_AT_A_TIME)
    for block in blocks_of(problem, sizes, pieces, widths=widths, apart=alike, variants=VARIANTS):
        index = block.index[np.maximum(block.family, 0)]
        open_ = todo[index] & (block.family >= 0)[:, :, None]
        few = block.families.take(np.maximum(block.family, 0))
        number = int((open_ * (few.most - few.least + 1)[:, :, None]).sum())
        if number:
            jobs.append((sizes, block, open_))
            given += number
        if given >= num_layouts:
            break
    return jobs, given


def _groups(done: Sequence[Done]) -> IntArray:
    """(mesh, expert, place, pipe, order) of what was done, each once, by its best bound. Shape (groups, 5)."""
    rows = [
        np.stack(
            [
                each.sizes.mesh[each.families.size],
                each.sizes.expert[each.families.size],
                each.sizes.place[each.families.size],
                each.families.pipe,
                each.families.order,
            ],
            axis=1,
        )
        for each in done
    ]
    floors = np.concatenate([each.floor for each in done])
    everything = np.concatenate(rows)[np.argsort(floors, kind="stable")]
    if not len(everything):
        return everything
    code = everything[:, 0]
    for column in everything.T[1:]:
        code = code * (int(column.max()) + 1) + column
    _, first = np.unique(code, return_index=True)
    found: IntArray = everything[np.sort(first)]
    return found


def _pieces(problem: Problem, known: Factors, groups: IntArray) -> tuple[Sizes, Families]:
    """Every policy of some groups, in pieces of their range of dp."""
    bare, row = np.unique(groups[:, :3], axis=0, return_inverse=True)
    few = Bare(mesh=bare[:, 0], expert=bare[:, 1], place=bare[:, 2], floor=np.zeros(len(bare)))
    sizes = with_policies(problem, known, few, np.inf)
    # with_policies goes through the rows in order: those of one bare row lie together.
    place = np.searchsorted(_code(sizes.mesh, sizes.expert, sizes.place), _code(*bare.T), side="left")
    ends = np.searchsorted(_code(sizes.mesh, sizes.expert, sizes.place), _code(*bare.T), side="right")
    size = np.concatenate([np.arange(place[b], ends[b]) for b in row.ravel().tolist()])
    group = np.repeat(np.arange(len(groups)), (ends - place)[row.ravel()])
    families = slots(problem, sizes, size, groups[group, 3])
    families = supported(problem, sizes, replace(families, order=groups[group, 4]))
    pieces, _ = cut(problem, sizes, families, DP_AT_A_TIME)
    return sizes, pieces


def _code(mesh: IntArray, expert: IntArray, place: IntArray) -> IntArray:
    found: IntArray = (mesh << 40) + (expert << 20) + place
    return found


def _codes(problem: Problem, sizes: Sizes, pieces: Families) -> IntArray:
    """One number for each piece."""
    space = problem.space
    code = sizes.mesh[pieces.size]
    for values, most in (
        (sizes.expert[pieces.size], len(space.experts)),
        (sizes.place[pieces.size], len(space.micro_batches)),
        (sizes.policy[pieces.size], len(space.policies)),
        (pieces.pipe, len(space.pipes)),
        (pieces.order, 4),
        (pieces.least, problem.size + 1),
    ):
        code = code * most + values
    return code


def _past(problem: Problem, done: Sequence[Done]) -> _Known:
    codes = np.concatenate([_codes(problem, each.sizes, each.families) for each in done])
    choices = np.concatenate([np.broadcast_to(each.choices, (len(each.families), len(each.choices))) for each in done])
    order = np.argsort(codes, kind="stable")
    return _Known(codes=codes[order], choices=choices[order])


def _todo(problem: Problem, sizes: Sizes, pieces: Families, past: _Known) -> NDArray[np.bool_]:
    """Choices of sharding that a piece may have and was not worked out under yet. Shape (pieces, choices)."""
    codes = _codes(problem, sizes, pieces)
    at = np.minimum(np.searchsorted(past.codes, codes), len(past.codes) - 1)
    before = past.codes[at] == codes
    todo: NDArray[np.bool_] = np.logical_not(past.choices[at] & before[:, None])
    columns = family_columns(problem, sizes, pieces)
    dominated: dict[bool, Any] = {}
    for place, choice in enumerate(problem.space.choices):
        under = choice.applied(columns)
        zero3 = choice.sharding is Sharding.ZERO3
        if zero3 not in dominated:
            dominated[zero3] = is_dominated(problem, under)
        todo[:, place] &= (blocked(problem, under, keys=OF_SHARDING) == 0) & (dominated[zero3] == 0)
    return todo
