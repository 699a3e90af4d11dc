"""How fast a pool trains at each number of accelerators: layouts searched at a few sizes, joined to a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from makespan.search import search
from makespan.specs.campaign import RateTable
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.model import ModelSpec
from makespan.specs.scenario import ModelChoice
from makespan.specs.search import SearchConstraints, SearchResult
from makespan.specs.supply import BuildSpec, RentSpec
from makespan.specs.training import StepConfig

FloatArray = NDArray[np.float64]

ANCHOR_SHARES = (1 / 32, 1 / 8, 1 / 3, 2 / 3, 1.0)
"""Sizes, as shares of the largest, at which layouts are searched; MFU is interpolated in log(size) between them."""

NUM_LEVELS = 40
"""Sizes in the rate table up to the most the run may compute on: it uses the largest that it can fill. Three fifths of them
lie in the upper half, where a run spends most of its time: there a size is 2 % of the most from the next."""

LEVELS_BEYOND = 8
"""Sizes beyond that, of the rest of the pool: only what the run's share of the pool costs it is read there."""

SMALLEST_OF_RUN = 1 / 8
"""Sizes are searched down to this share of the most the run may compute on."""


@dataclass(slots=True)
class LayoutBook:
    """Searches already made, by content: two pools with the same hardware share them."""

    profile: FrameworkProfile
    constraints: SearchConstraints
    known: dict[tuple[object, ...], SearchResult] = field(default_factory=dict)

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
        # By content, not by name: two candidates of a file, or two accelerators of a script, may have one name.
        key = (repr(pool.accelerator), repr(pool.fabric), model, config, num_accelerators, thorough)
        if key not in self.known:
            cluster = ClusterSpec(
                name=pool.place,
                accelerator=pool.accelerator,
                node=pool.node,
                fabric=pool.fabric,
                num_accelerators=num_accelerators,
            )
            # Nothing goes to host memory unless the scenario says so: the step takes that traffic as hidden, unmeasured.
            offload = self.constraints.offload or "none"
            constraints = replace(self.constraints, thorough=thorough, offload=offload)
            self.known[key] = search(
                model, config, cluster, self.profile, constraints, top=2 if thorough else 1, front=False
            )
        return self.known[key]


def anchor_levels(
    largest: int, smallest: int, *, accelerators_per_node: int, most: float = math.inf
) -> tuple[int, ...]:
    """Ascending sizes to search between `smallest` and `largest`, in whole nodes.

    most : the run may compute on; where its share of the pool is small, smaller sizes are searched as well.

    Examples
    --------
    >>> anchor_levels(100_000, 1_000, accelerators_per_node=8)
    (3120, 12496, 33328, 66664, 100000)
    """
    smallest = max(smallest, 1)
    largest = max(largest, smallest)
    wanted = {max(smallest, share * largest) for share in ANCHOR_SHARES}
    while min(wanted) > max(smallest, SMALLEST_OF_RUN * most):
        wanted.add(max(smallest, min(wanted) / 4))
    whole = {int(size // accelerators_per_node) * accelerators_per_node or int(size) for size in wanted}
    return tuple(sorted(size for size in whole if size >= 1))


def rate_table(
    searches_by_model: Sequence[Mapping[int, SearchResult]],
    chosen: NDArray[np.int64],
    slowdown: FloatArray,
    *,
    most: float = math.inf,
    whole: float = math.inf,
) -> RateTable | None:
    """Model FLOP/s of every replicate at some `NUM_LEVELS` sizes; None where no model fits at any searched size.

    searches_by_model : for each candidate model, the search by number of accelerators; the first and the last number are
        the same for all.
    chosen : index of the candidate a replicate trains, shape (replicates,).
    slowdown : true step time over predicted, shape (replicates,).
    most, whole : accelerators the run may compute on at most, and might if it had the pool to itself. The first is the
        largest of the dense sizes; those beyond only tell what the run's share of the pool costs it.

    Between searched sizes the FLOP/s per accelerator is interpolated in the logarithm of the size; under the smallest
    size at which a layout fits the rate is zero.
    """
    per_model = [_flop_per_s_per_accelerator(searches) for searches in searches_by_model]
    if not any(np.any(rates > 0) for _, rates in per_model):
        return None
    first, last = min(searches_by_model[0]), max(searches_by_model[0])
    top = max(min(most, last), first)
    middle = max(first, top / 2)
    lower = np.linspace(first, middle, NUM_LEVELS * 2 // 5, endpoint=False)
    upper = np.linspace(middle, top, NUM_LEVELS * 3 // 5)
    beyond = np.append(np.linspace(top, min(whole, last), LEVELS_BEYOND), last) if top < min(whole, last) else [last]
    # Rounded down, so that the run can fill the largest; a count that fell short of a whole number by rounding is that number.
    sizes = np.unique(np.floor(np.concatenate([lower, upper, beyond]) * (1.0 + 1e-9)))
    table = np.stack([_interpolated(levels, rates, sizes) * sizes for levels, rates in per_model])
    return RateTable(num_accelerators=sizes, flop_per_s=table[chosen] / slowdown[:, None])


def _flop_per_s_per_accelerator(searches: Mapping[int, SearchResult]) -> tuple[FloatArray, FloatArray]:
    levels = sorted(searches)
    best = [searches[level].best for level in levels]
    rates = [
        0.0 if found is None else found.model_flop / found.time_s / n for found, n in zip(best, levels, strict=True)
    ]
    return np.array(levels, dtype=np.float64), np.array(rates)


def _interpolated(levels: FloatArray, rates: FloatArray, sizes: FloatArray) -> FloatArray:
    fits = rates > 0
    if not fits.any():
        return np.zeros_like(sizes)
    values = np.interp(np.log(sizes), np.log(levels[fits]), rates[fits])
    return np.where(sizes >= levels[fits][0], values, 0.0)


def draw_models(models: Sequence[ModelChoice], uniforms: FloatArray) -> NDArray[np.int64]:
    """Index of the candidate model of each replicate, shape (replicates,)."""
    edges = np.cumsum([choice.weight for choice in models])
    return np.minimum(np.searchsorted(edges / edges[-1], uniforms, side="right"), len(models) - 1).astype(np.int64)
