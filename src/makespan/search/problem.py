"""What is searched, and how families of layouts are written down: columns of their sizes, what the software lacks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makespan.search.space import Space
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.model import ModelSpec
from makespan.specs.search import Objective
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays
from makespan.step.evaluate import LayerTable
from makespan.step.features import KEYS, OF_DP, lacking

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """What is searched: everything that the formulas need, and the space."""

    model: ModelSpec
    config: StepConfig
    cluster: ClusterSpec
    profile: FrameworkProfile
    space: Space
    objective: Objective

    @property
    def size(self) -> int:
        return self.cluster.num_accelerators

    @property
    def specs(self) -> tuple[ModelSpec, StepConfig, ClusterSpec, FrameworkProfile]:
        return self.model, self.config, self.cluster, self.profile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sizes:
    """Families by their sizes, recompute policy and offloading; flat arrays of one shape.

    mesh, expert, place, policy : of the space's meshes, expert pairs, micro-batches and policies.
    table : times of layers and head, for each of the sizes.   busy_s : T, all of them. [s]
    saved_bytes : activations of the whole model at least (`memory.least_saved_bytes`). [B]
    budget : what T times a pipeline's factor may be.   steady : share of the layers' times that stays at least (`_steady`).
    """

    mesh: IntArray
    expert: IntArray
    place: IntArray
    policy: IntArray
    micro_batch: IntArray
    recompute: IntArray
    offload: IntArray
    ep_overlap: IntArray
    cuda_graphs: IntArray
    table: LayerTable
    busy_s: FloatArray
    budget: FloatArray
    steady: FloatArray
    saved_bytes: FloatArray

    def __len__(self) -> int:
        return len(self.mesh)

    def take(self, index: Any) -> Sizes:
        """Some of them."""
        flat = {name: getattr(self, name)[index] for name in self.__dataclass_fields__ if name != "table"}
        return Sizes(table=self.table.take(index), **flat)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Families:
    """Families with their pipeline and order, and a piece of their range of dp; flat arrays of one shape.

    size : row of `Sizes`.   pipe : of the space.   order : of ranks.   least, most : dp, in units of `unit`.
    slot_s, bubble_s : of a micro-batch on the slowest stage, and of the step; of other schedules than 1F1B at least. [s]
    bare : bound of slots and bubble alone, in the units of the objective.   floor : what no layout of the family goes below.
    """

    size: IntArray
    pipe: IntArray
    order: IntArray
    unit: IntArray
    least: IntArray
    most: IntArray
    slot_s: FloatArray
    bubble_s: FloatArray
    bare: FloatArray
    floor: FloatArray

    def __len__(self) -> int:
        return len(self.size)

    def take(self, index: Any) -> Families:
        """Some of them."""
        return Families(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


def axis(values: Any) -> IntArray:
    return np.array([int(value) for value in values], dtype=np.int64)


USUAL: dict[str, Any] = {
    **dict.fromkeys(("tp", "pp", "cp", "dp", "ep", "etp", "vpp", "micro_batch", "sharding", "sequence_parallel"), 1),
    **dict.fromkeys(
        ("recompute", "schedule", "cp_kind", "shard_size", "offload", "cuda_graphs", "order", "ep_overlap"), 0
    ),
}
"""Columns of a grid that are not given."""

POLICY = ("recompute", "offload", "ep_overlap", "cuda_graphs")


def grid_columns(**columns: Any) -> LayoutArrays:
    """Columns of a grid: what is not given is the plain number that all layouts share."""
    return LayoutArrays(**(USUAL | columns))


def size_columns(space: Space, sizes: Sizes) -> dict[str, Any]:
    """The columns of families by their sizes and policies."""
    given = place_columns(space, mesh=sizes.mesh, expert=sizes.expert, micro_batch=sizes.micro_batch)
    return given | {name: getattr(sizes, name) for name in POLICY}


def place_columns(space: Space, *, mesh: IntArray, expert: IntArray, micro_batch: IntArray) -> dict[str, Any]:
    columns: dict[str, Any] = {
        name: axis(getattr(each, name) for each in space.meshes)[mesh] for name in ("tp", "cp", "cp_kind")
    }
    for index, name in enumerate(("ep", "etp")):
        columns[name] = axis(pair[index] for pair in space.experts)[expert]
    return columns | {"micro_batch": micro_batch}


OF_FAMILY = tuple(key for key in KEYS if key not in OF_DP)


def blocked(problem: Problem, columns: LayoutArrays, *, keys: Collection[str] = OF_FAMILY) -> Any:
    """Whether the software cannot run a family, whatever dp. Broadcasts.

    keys : of `FrameworkProfile.supports` that are looked at.
    """
    model, config, _, profile = problem.specs
    found: Any = False
    for mask in lacking(model, config, profile, columns, keys=keys).values():
        found = found | mask
    return found


def is_dominated(problem: Problem, columns: LayoutArrays) -> Any:
    """Whether the software could run the same layout with a free switch turned on that is off. Broadcasts.

    Overlap and graphs only take time away (`Space`), so such a layout is never better than the one with the switch on.
    """
    space = problem.space
    if len({(p.ep_overlap, p.cuda_graphs) for p in space.policies}) == 1:
        return False
    overlapped = replace(columns, ep_overlap=columns.ep_overlap * 0 + int(space.ep_overlap))
    recorded = replace(columns, cuda_graphs=columns.cuda_graphs * 0 + int(space.cuda_graphs))
    idle_overlap = (columns.ep_overlap < int(space.ep_overlap)) & (columns.ep > 1)
    no_graphs = columns.cuda_graphs < int(space.cuda_graphs)
    return (idle_overlap & (blocked(problem, overlapped) == 0)) | (no_graphs & (blocked(problem, recorded) == 0))


def family_columns(problem: Problem, sizes: Sizes, pieces: Families) -> LayoutArrays:
    """Families at their largest dp, flat."""
    columns = size_columns(problem.space, sizes.take(pieces.size))
    for name in ("pp", "vpp", "schedule"):
        columns[name] = axis(getattr(pipe, name) for pipe in problem.space.pipes)[pieces.pipe]
    return grid_columns(**columns | {"order": pieces.order, "dp": pieces.most * pieces.unit})
