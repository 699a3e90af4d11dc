"""How fast a pool trains at each number of accelerators: layouts searched at a few sizes, joined to a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from makespan.search import search
from makespan.specs.campaign import RateTable
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.model import ModelSpec
from makespan.specs.scenario import ModelChoice
from makespan.specs.step import SearchConstraints, SearchResult
from makespan.specs.supply import BuildSpec, RentSpec
from makespan.specs.training import StepConfig

FloatArray = NDArray[np.float64]

ANCHOR_SHARES = (1 / 64, 1 / 16, 1 / 4, 1 / 2, 3 / 4, 1.0)
"""Sizes, as shares of the largest, at which layouts are searched; MFU is interpolated in log(size) between them."""

NUM_LEVELS = 40
"""Sizes in the rate table: a run uses the largest that it can fill. Three fifths of them lie in the upper half, where a run
spends most of its time: there a size is 2 % from the next."""


@dataclass(slots=True)
class LayoutBook:
    """Searches already made, by content: two pools with the same hardware share them."""

    profile: FrameworkProfile
    constraints: SearchConstraints
    known: dict[tuple[object, ...], SearchResult] = field(default_factory=dict)
    on_search: Callable[[], None] = lambda: None

    def best(
        self,
        pool: RentSpec | BuildSpec,
        model: ModelSpec,
        config: StepConfig,
        num_accelerators: int,
        *,
        thorough: bool = False,
    ) -> SearchResult:
        """The best layout of a model on so many accelerators of a pool; from the thin space unless `thorough`."""
        key = (pool.accelerator.name, pool.fabric.name, model.name, config, num_accelerators, thorough)
        if key not in self.known:
            cluster = ClusterSpec(
                name=pool.place,
                accelerator=pool.accelerator,
                node=pool.node,
                fabric=pool.fabric,
                num_accelerators=num_accelerators,
            )
            constraints = replace(self.constraints, thorough=thorough)
            self.known[key] = search(
                model, config, cluster, self.profile, constraints, top=5 if thorough else 1, front=thorough
            )
            self.on_search()
        return self.known[key]


def anchor_levels(largest: int, smallest: int, *, accelerators_per_node: int) -> tuple[int, ...]:
    """Ascending sizes to search between `smallest` and `largest`, in whole nodes.

    Examples
    --------
    >>> anchor_levels(100_000, 1_000, accelerators_per_node=8)
    (1560, 6248, 25000, 50000, 75000, 100000)
    """
    smallest = max(smallest, 1)
    largest = max(largest, smallest)
    wanted = {max(smallest, share * largest) for share in ANCHOR_SHARES}
    whole = {int(size // accelerators_per_node) * accelerators_per_node or int(size) for size in wanted}
    return tuple(sorted(size for size in whole if size >= 1))


def rate_table(
    searches_by_model: Sequence[Sequence[SearchResult]],
    levels: Sequence[int],
    chosen: NDArray[np.int64],
    slowdown: FloatArray,
) -> RateTable | None:
    """Model FLOP/s of every replicate at `NUM_LEVELS` sizes; None where no model fits at any searched size.

    searches_by_model : for each candidate model, the search at each of `levels`.
    chosen : index of the candidate a replicate trains, shape (replicates,).
    slowdown : true step time over predicted, shape (replicates,).

    Between searched sizes the FLOP/s per accelerator is interpolated in the logarithm of the size; under the smallest
    size at which a layout fits the rate is zero.
    """
    per_model = [_flop_per_s_per_accelerator(searches, levels) for searches in searches_by_model]
    if not any(np.any(rates > 0) for rates in per_model):
        return None
    middle = max(levels[0], levels[-1] / 2)
    lower = np.linspace(levels[0], middle, NUM_LEVELS * 2 // 5, endpoint=False)
    sizes = np.unique(np.ceil(np.concatenate([lower, np.linspace(middle, levels[-1], NUM_LEVELS * 3 // 5)])))
    table = np.stack([_interpolated(rates, levels, sizes) * sizes for rates in per_model])
    return RateTable(num_accelerators=sizes, flop_per_s=table[chosen] / slowdown[:, None])


def _flop_per_s_per_accelerator(searches: Sequence[SearchResult], levels: Sequence[int]) -> FloatArray:
    return np.array(
        [
            0.0 if found.best is None else found.best.model_flop / found.best.time_s / level
            for found, level in zip(searches, levels, strict=True)
        ]
    )


def _interpolated(rates: FloatArray, levels: Sequence[int], sizes: FloatArray) -> FloatArray:
    fits = rates > 0
    if not fits.any():
        return np.zeros_like(sizes)
    known = np.asarray(levels, dtype=np.float64)[fits]
    values = np.interp(np.log(sizes), np.log(known), rates[fits])
    return np.where(sizes >= known[0], values, 0.0)


def draw_models(models: Sequence[ModelChoice], uniforms: FloatArray) -> NDArray[np.int64]:
    """Index of the candidate model of each replicate, shape (replicates,)."""
    edges = np.cumsum([choice.weight for choice in models])
    return np.minimum(np.searchsorted(edges / edges[-1], uniforms, side="right"), len(models) - 1).astype(np.int64)
