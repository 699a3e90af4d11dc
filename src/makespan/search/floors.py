"""What families have at least whatever their pipeline's chunks, micro-batch or recompute policy: traffic that shows, memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.search.bounds import Bare, Floors
from makespan.search.problem import Problem, blocked, grid_columns, place_columns
from makespan.search.space import dp_range, dp_unit
from makespan.specs.search import Objective
from makespan.step import LayoutArrays
from makespan.step.data_parallel import least_traffic_s
from makespan.step.evaluate import jitter_factor
from makespan.step.features import OF_SHARDING
from makespan.step.memory import least_state_bytes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def floors(problem: Problem, bare: Bare, limit_bytes: float) -> Floors:
    """The floors of the pairs of mesh and experts that `bare` has; 0 for others.

    limit_bytes : memory that a layout may take.
    """
    profile = problem.profile
    return Floors(
        exposed=_exposed(problem, bare),
        state_bytes=_state(problem, bare),
        room_bytes=(limit_bytes - profile.memory_overhead_bytes) / (1.0 + profile.fragmentation_fraction),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pairs:
    """Pairs of mesh and experts with each number of stages: columns (pairs, 1), ranks of a replica and dp (pairs, stages).

    code : of the pairs, shape (pairs,).   of_pipe : place of each pipe's number of stages.
    """

    code: IntArray
    of_pipe: IntArray
    ranks: IntArray
    columns: LayoutArrays

    def table(self, problem: Problem, values: FloatArray) -> FloatArray:
        """Values (pairs, stages) spread over all pairs and pipes of the space; 0 where there is no such pair."""
        space = problem.space
        spread = np.zeros((len(space.meshes) * len(space.experts), len(space.pipes)))
        spread[self.code] = values[:, self.of_pipe]
        return spread


def _pairs(problem: Problem, bare: Bare, *, largest: bool) -> _Pairs:
    """largest : dp as large as any micro-batch allows; otherwise as small."""
    space = problem.space
    code = np.unique(bare.mesh * len(space.experts) + bare.expert)
    mesh, expert = code // len(space.experts), code % len(space.experts)
    # The smallest micro-batch leaves the most replicas, the largest the fewest.
    micro_batch = np.full(len(code), (min if largest else max)(space.micro_batches))
    at = place_columns(space, mesh=mesh, expert=expert, micro_batch=micro_batch)
    wide = {name: column[:, None] for name, column in at.items()}
    stages, of_pipe = np.unique([pipe.pp for pipe in space.pipes], return_inverse=True)
    ranks, unit = wide["tp"] * wide["cp"] * stages, dp_unit(wide["tp"], wide["cp"], wide["ep"], wide["etp"])
    batch, turns = problem.config.global_batch, np.ones(1, dtype=np.int64)
    least, most = dp_range(space, ranks, wide["micro_batch"], unit, turns, global_batch=batch, size=problem.size)
    dp = np.maximum(most if largest else least, 1) * unit
    return _Pairs(code=code, of_pipe=of_pipe, ranks=ranks, columns=grid_columns(**wide | {"pp": stages, "dp": dp}))


def _state(problem: Problem, bare: Bare) -> FloatArray:
    """Bytes of parameters and their state on the first stage at least, under the kindest sharding. Shape (pairs, pipes)."""
    pairs = _pairs(problem, bare, largest=True)
    least: FloatArray = np.full(pairs.ranks.shape, np.inf)
    for choice in problem.space.choices:
        under = choice.applied(pairs.columns)
        needs = least_state_bytes(problem.model, problem.config, problem.profile, under)
        least = np.where(blocked(problem, under, keys=OF_SHARDING), least, np.minimum(least, needs))
    return pairs.table(problem, least)


def _exposed(problem: Problem, bare: Bare) -> FloatArray:
    """What shows of data-parallel traffic at least, whatever is recomputed and however long the passes are. [s]

    Returns
    -------
    Shape (meshes * expert pairs, pipes), jitter included; for other objectives than time accelerator time. 0 for pairs that
    `bare` has not.

    Notes
    -----
    The end stage that talks most is at least the first, with at least the mean number of layers, of the kinds with the fewest
    parameters. A share of its traffic always shows: under ZeRO-1 `dp_exposed`, under ZeRO-2 and -3 `fsdp_exposed` or more,
    since what is sent layer by layer takes no less than at once. Tiers further out only add to the traffic of more
    replicas, so the fewest count. Groups smaller than all replicas send less: where the software has them, nothing counts.
    """
    space, config, model, profile = problem.space, problem.config, problem.model, problem.profile
    pairs = _pairs(problem, bare, largest=False)
    columns, used = pairs.columns, pairs.ranks * pairs.columns.dp
    share = min(profile.dp_exposed, profile.fsdp_exposed, 1.0)
    orders = [replace(columns, **_whole({"order": int(order)})) for order in space.orders]
    shown = share * reduce(np.minimum, [least_traffic_s(model, config, problem.cluster, rows) for rows in orders])
    for choice in space.choices:
        if choice.shard_size:
            smaller = replace(columns, **_whole({"sharding": int(choice.sharding), "shard_size": choice.shard_size}))
            shown = np.where(blocked(problem, smaller), shown, 0.0)
    spent = shown * jitter_factor(profile, used, precision=config.precision)
    if problem.objective is not Objective.TIME:
        spent = spent * used
    return pairs.table(problem, spent)


def _whole(columns: dict[str, int]) -> Any:
    """Plain numbers as columns."""
    return columns
