"""Layouts and step times as columns. One row is one layout; a scalar estimate is a batch of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makespan.rows import ceiling
from makespan.specs.layout import ContextKind, CudaGraphs, Layout, Offload, RankOrder, Recompute, Schedule, Sharding

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayoutArrays:
    """The fields of `Layout`, each an integer array of shape (layouts,); see `alone` for one layout without an axis."""

    tp: IntArray
    pp: IntArray
    cp: IntArray
    dp: IntArray
    ep: IntArray
    etp: IntArray
    vpp: IntArray
    micro_batch: IntArray
    recompute: IntArray
    sharding: IntArray
    sequence_parallel: IntArray
    schedule: IntArray
    cp_kind: IntArray
    shard_size: IntArray
    offload: IntArray
    cuda_graphs: IntArray
    ep_overlap: IntArray
    order: IntArray

    @classmethod
    def build(
        cls,
        *,
        tp: ArrayLike = 1,
        pp: ArrayLike = 1,
        cp: ArrayLike = 1,
        dp: ArrayLike = 1,
        ep: ArrayLike = 1,
        etp: ArrayLike = 1,
        vpp: ArrayLike = 1,
        micro_batch: ArrayLike = 1,
        recompute: ArrayLike = int(Recompute.NONE),
        sharding: ArrayLike = int(Sharding.ZERO1),
        sequence_parallel: ArrayLike = 1,
        schedule: ArrayLike = int(Schedule.ONE_F_ONE_B),
        cp_kind: ArrayLike = int(ContextKind.RING),
        shard_size: ArrayLike = 0,
        offload: ArrayLike = int(Offload.NONE),
        cuda_graphs: ArrayLike = int(CudaGraphs.NONE),
        ep_overlap: ArrayLike = 0,
        order: ArrayLike = int(RankOrder.TP_CP_DP_PP),
    ) -> LayoutArrays:
        """Broadcast scalars and arrays to one shape and flatten.

        Examples
        --------
        >>> len(LayoutArrays.build(tp=[1, 2, 4, 8], pp=16))
        4
        """
        sizes = (tp, pp, cp, dp, ep, etp, vpp, micro_batch)
        kinds = (
            recompute,
            sharding,
            sequence_parallel,
            schedule,
            cp_kind,
            shard_size,
            offload,
            cuda_graphs,
            ep_overlap,
            order,
        )
        given = (*sizes, *kinds)
        columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(value, dtype=np.int64)) for value in given))
        return cls(**{name: np.ascontiguousarray(c).ravel() for name, c in zip(COLUMNS, columns, strict=True)})

    @classmethod
    def of(cls, layouts: Iterable[Layout]) -> LayoutArrays:
        """Columns of a few `Layout` objects."""
        rows = list(layouts)
        return cls(**{name: np.array([int(getattr(row, name)) for row in rows], dtype=np.int64) for name in COLUMNS})

    def __len__(self) -> int:
        return len(self.tp)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of every column: (layouts,); () for a layout without an axis, and for an open grid, whose columns differ in shape."""
        first = np.shape(self.tp)
        if not first or any(np.shape(getattr(self, name)) != first for name in COLUMNS):
            return ()
        return first

    @classmethod
    def alone(cls, layout: Layout) -> LayoutArrays:
        """One layout without an axis, every field a plain integer: quicker through the same formulas (`makespan.rows`)."""
        values: dict[str, Any] = {name: int(getattr(layout, name)) for name in COLUMNS}
        return cls(**values)

    def squeezed(self) -> LayoutArrays:
        """The only row without an axis, as `alone` gives it."""
        values: dict[str, Any] = {name: getattr(self, name).item() for name in COLUMNS}
        return LayoutArrays(**values)

    def take(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> LayoutArrays:
        """Some of the rows, by mask, indices or slice."""
        return LayoutArrays(**{name: getattr(self, name)[index] for name in COLUMNS})

    def row(self, index: int) -> Layout:
        """One row as a `Layout`."""
        values: dict[str, Any] = {name: int(getattr(self, name)[index]) for name in COLUMNS}
        typed = {name: kind(values.pop(name)) for name, kind in _KINDS.items()}
        return Layout(**values, **typed)

    @property
    def num_accelerators(self) -> IntArray:
        """Accelerators each layout uses. [-]"""
        return self.tp * self.pp * self.cp * self.dp

    def num_micro_batches(self, global_batch: int) -> IntArray:
        """Micro-batches of the fullest replica, for which the step waits. [-]"""
        # Exact: a quotient of integers below 2**26 is never rounded across a whole number.
        return ceiling(global_batch / (self.micro_batch * self.dp))


COLUMNS = tuple(field.name for field in fields(LayoutArrays))
"""The columns of `LayoutArrays`: the fields of `Layout`."""

_KINDS: Mapping[str, type] = {
    "recompute": Recompute,
    "sharding": Sharding,
    "sequence_parallel": bool,
    "schedule": Schedule,
    "cp_kind": ContextKind,
    "offload": Offload,
    "cuda_graphs": CudaGraphs,
    "ep_overlap": bool,
    "order": RankOrder,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepArrays:
    """One row per layout, shape (layouts,).

    status : codes of `LayoutStatus`.
    time_s, lower_s, upper_s : NaN where the layout breaks a rule; given where it only lacks memory. [s]
    memory_bytes : on the fullest accelerator; NaN like the times. [B]
    detail : further columns by name when asked for (see `evaluate`); empty otherwise.
    """

    status: IntArray
    time_s: FloatArray
    lower_s: FloatArray
    upper_s: FloatArray
    memory_bytes: FloatArray
    detail: Mapping[str, FloatArray]
