"""Open grids of layouts against the same layouts one by one: every digit of time and memory, and the first broken rule."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from makespan.search.problem import grid_columns
from makespan.specs.layout import CudaGraphs, LayoutStatus, Offload, RankOrder, Recompute, Schedule, Sharding
from makespan.step import LayoutArrays, evaluate
from makespan.step.arrays import COLUMNS
from makespan.step.evaluate import evaluate_alone
from makespan.step.grid import Grid, StateChoice
from search_fixture import FEW, MANY, some_problem

VALUES = {
    "tp": (1, 2, 3, 4, 8, 16, 72),
    "cp": (1, 2, 3, 4, 8, 64),
    "cp_kind": (0, 1),
    "ep": (1, 2, 4, 8, 16, 3),
    "etp": (1, 2, 4, 16),
    "pp": (1, 2, 3, 4, 5, 8, 12, 16),
    "vpp": (1, 1, 2, 3, 4),
    "dp": (1, 2, 3, 4, 6, 8, 12, 16, 32, 64),
    "micro_batch": (1, 2, 3, 4, 8),
    "schedule": tuple(int(schedule) for schedule in Schedule),
    "recompute": (0, 1, 2, 3, 4, 8, 16, 32, 39, 63, int(Recompute.FULL)),
    "offload": (0, 0, int(Offload.ACTIVATIONS)),
    "ep_overlap": (0, 1),
    "cuda_graphs": tuple(int(graphs) for graphs in CudaGraphs),
    "order": tuple(int(order) for order in RankOrder),
}
TAME = VALUES | {
    "tp": (1, 2, 4, 16),
    "cp": (1, 1, 2, 3, 4),
    "ep": (1, 1, 1, 2, 4),
    "etp": (1, 1, 1, 2),
    "pp": (1, 2, 3, 4),
    "vpp": (1, 1, 1, 2),
    "dp": (2, 3, 4, 8),
    "micro_batch": (1, 2),
    "schedule": (0, 0, 0, 2, 3),
    "cuda_graphs": (0, 0, 2),
    "order": (0, 0, 0, 1, 2),
}
"""Sizes of which many layouts break no rule."""
CHOICES = (
    *(StateChoice(sharding=sharding) for sharding in Sharding),
    StateChoice(sharding=Sharding.ZERO1, offload_optimizer=True),
    StateChoice(sharding=Sharding.ZERO3, shard_size=8),
    StateChoice(sharding=Sharding.ZERO3, shard_size=3, offload_optimizer=True),
    StateChoice(sharding=Sharding.ZERO1, shard_size=4),
)
PLAIN = ("schedule", "order", "offload", "ep_overlap", "cuda_graphs", "cp_kind", "etp")
"""Mostly one value for the whole grid."""


def some_grid(draw, given):
    """Columns on three axes: each column has an axis of its own, two, or is a plain number."""
    sizes = tuple(draw.choice([1, 2, 3, 4]) for _ in range(3))
    columns = {}
    for name, values in given.items():
        if name in PLAIN and draw.random() < 0.7:
            columns[name] = draw.choice(values)
            continue
        axes = draw.sample(range(3), draw.choice([0, 1, 1, 1, 2]))
        shape = tuple(size if axis in axes else 1 for axis, size in enumerate(sizes))
        columns[name] = np.array([draw.choice(values) for _ in range(int(np.prod(shape)))]).reshape(shape)
    return grid_columns(**columns), sizes


def one_by_one(problem, layouts, shape, at, headroom):
    row = {name: int(np.broadcast_to(getattr(layouts, name), shape)[at]) for name in COLUMNS}
    return evaluate_alone(*problem.specs, LayoutArrays(**row), memory_headroom=headroom)


@pytest.fixture(scope="module")
def cells():
    """Grids under choices, cell by cell: (status, time, memory) of the grid, and status and columns of the layout alone."""
    found = []
    for seed in range(360):
        draw = random.Random(seed)
        tame = seed % 5 > 0
        problem, constraints = some_problem(draw, sizes=MANY if tame else FEW)
        if draw.random() < 0.25:
            accelerator = replace(problem.cluster.accelerator, host_bytes_per_s=0.0)
            problem = replace(problem, cluster=replace(problem.cluster, accelerator=accelerator))
        layouts, shape = some_grid(draw, TAME if tame else VALUES)
        grid = Grid(*problem.specs, layouts)
        limit = problem.cluster.accelerator.hbm_bytes * (1.0 - constraints.memory_headroom)
        for choice in draw.sample(CHOICES, 3):
            answer, codes = grid.under(choice), np.broadcast_to(grid.status_under(choice), shape)
            broken, lacks = grid.breaks_under(choice)
            legal = np.broadcast_to(grid.breaks_no_rule() & np.logical_not(np.logical_or(broken, lacks)), shape)
            np.testing.assert_array_equal(legal, codes == 0)
            times, needs = (np.broadcast_to(v, shape) for v in (answer.time_s, answer.memory_bytes))
            for at in np.ndindex(*shape):
                code = int(codes[at])
                if not code and needs[at] > limit:
                    code = int(LayoutStatus.OUT_OF_MEMORY)
                alone = one_by_one(problem, answer.layouts, shape, at, constraints.memory_headroom)
                found.append((f"seed {seed} at {at}, {choice}", (code, times[at], needs[at]), *alone))
    return found


def test_every_status_is_that_of_the_layout_alone(cells):
    for name, (code, _, _), expected, _ in cells:
        assert LayoutStatus(code) is LayoutStatus(expected), name


def test_time_and_memory_are_those_of_the_layout_alone_to_the_last_digit(cells):
    for name, (code, time_s, needs), _, numbers in cells:
        if code in (LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY):
            assert (time_s, needs) == (numbers["time_s"], numbers["memory_bytes"]), name


def test_those_cells_were_of_every_kind(cells):
    statuses = Counter(LayoutStatus(expected) for _, _, expected, _ in cells)
    assert set(statuses) == set(LayoutStatus)
    assert statuses[LayoutStatus.OK] + statuses[LayoutStatus.OUT_OF_MEMORY] > 200
    assert len(cells) > 4000


def test_many_rows_at_once_are_those_rows_one_by_one():
    """What other tests of the search take for the truth."""
    for seed in range(200, 230):
        draw = random.Random(seed)
        problem, _ = some_problem(draw, sizes=MANY)
        columns = {name: [draw.choice(values) for _ in range(40)] for name, values in TAME.items()}
        rows = LayoutArrays.build(**columns, sharding=[draw.choice(list(Sharding)) for _ in range(40)])
        together = evaluate(*problem.specs, rows, detail=True)
        for place in range(len(rows)):
            code, numbers = evaluate_alone(*problem.specs, LayoutArrays.alone(rows.row(place)))
            assert code == together.status[place]
            if not np.isnan(numbers["time_s"]):
                assert numbers["time_s"] == together.time_s[place]
                assert numbers["memory_bytes"] == together.memory_bytes[place]
