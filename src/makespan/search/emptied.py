"""Which constraint emptied a search: each is dropped in turn, and the whole space searched again."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

from makespan.search.engine import search
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout
from makespan.specs.model import ModelSpec
from makespan.specs.search import SearchConstraints, SearchResult
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig

NOT_CONSTRAINTS = ("thorough", "objective")
"""Fields of `SearchConstraints` that keep no layout out."""

LOOSE = {"memory_headroom": 0.0, "min_used_fraction": 0.0}
"""Constraints that are never open: what stands for that."""

MOST_DOUBLINGS = 10
"""A cluster a thousand times as large is no remedy."""

MOST_PAIRS = 10
"""Pairs of constraints that are tried; a search of the whole space takes up to a second."""

LARGEST_CLUSTER = 10_000_000
"""Accelerators; nor is one that nobody can build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Constraints without which something fits.

    names : fields of `SearchConstraints`.   best : the best layout without them.
    """

    names: tuple[str, ...]
    best: StepEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """Why nothing fits.

    releases : the single constraints whose removal is enough; where there are none, the pairs; else one larger set of
        which none can be kept. Empty where nothing fits even with everything open.
    nearest : with everything open, the layout that lacks least memory, and the bytes it lacks: never more than the nearest
        one that was known before. None where something fits.
    enough_accelerators : with everything open, the smallest doubling of the cluster on which something fits, searched
        where nothing fits on this one; None where no such size was found.
    most_tried : the largest size that was searched.
    """

    releases: tuple[Release, ...] = ()
    nearest: tuple[Layout, float] | None = None
    enough_accelerators: int | None = None
    most_tried: int = 0


def given(constraints: SearchConstraints) -> tuple[str, ...]:
    """The constraints that keep some layouts out: fixed dimensions, then the shares.

    Examples
    --------
    >>> given(SearchConstraints(tp=8, min_used_fraction=0.0))
    ('tp', 'memory_headroom')
    """
    names = [f.name for f in fields(SearchConstraints) if f.name not in NOT_CONSTRAINTS]
    return tuple(
        name
        for name in names
        if getattr(constraints, name) is not None and getattr(constraints, name) != LOOSE.get(name)
    )


def without(constraints: SearchConstraints, names: tuple[str, ...]) -> SearchConstraints:
    """The constraints with some of them open.

    Examples
    --------
    >>> without(SearchConstraints(tp=8, pp=4), ("tp",)).tp is None
    True
    """
    opened: dict[str, Any] = {name: LOOSE.get(name) for name in names}
    return replace(constraints, **opened)


def why_empty(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    constraints: SearchConstraints,
    *,
    nearest: tuple[Layout, float] | None = None,
) -> Emptied:
    """What keeps every layout out of a search that found none.

    Parameters
    ----------
    constraints : of the search that found nothing.   nearest : of that search: the layout that lacked least, and the bytes.

    Notes
    -----
    The whole space is searched (`thorough=True`), also where the search that found nothing was thin: then the thin space may
    be all that stands in the way, and the release is of `thorough`. Removals are tried in the order of the fields; single
    ones first, pairs only where no single one is enough and there are at most `MOST_PAIRS`. A larger set is found by dropping
    all and taking back, one after the other, those with which something still fits: other sets may do as well.
    """

    def found(tried: SearchConstraints, size: int = cluster.num_accelerators) -> SearchResult:
        on = cluster if size == cluster.num_accelerators else replace(cluster, num_accelerators=size)
        return search(model, config, on, profile, replace(tried, thorough=True), top=1, front=False)

    if not constraints.thorough:
        best = found(constraints).best
        if best is not None:
            return Emptied(releases=(Release(names=("thorough",), best=best),))
    names = given(constraints)
    everything = without(constraints, names)
    open_result = found(everything)
    if open_result.best is None:
        size, enough = cluster.num_accelerators, None
        for _ in range(MOST_DOUBLINGS):
            if 2 * size > LARGEST_CLUSTER:
                break
            size *= 2
            if found(everything, size).best is not None:
                enough = size
                break
        lacking = [near for near in (open_result.nearest, nearest) if near is not None]
        nearest = min(lacking, key=lambda near: near[1], default=None)
        return Emptied(nearest=nearest, enough_accelerators=enough, most_tried=size)
    for count in (1, 2):
        releases = []
        choices = tuple(combinations(names, count))
        if count > 1 and len(choices) > MOST_PAIRS:
            break
        for chosen in choices:
            best = found(without(constraints, chosen)).best
            if best is not None:
                releases.append(Release(names=chosen, best=best))
        if releases:
            return Emptied(releases=tuple(releases))
    dropped, best = names, open_result.best
    for name in names:
        fewer = tuple(other for other in dropped if other != name)
        found_best = found(without(constraints, fewer)).best
        if found_best is not None:
            dropped, best = fewer, found_best
    return Emptied(releases=(Release(names=dropped, best=best),))
