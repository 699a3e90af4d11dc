"""Published layouts against the search: is the layout that a publisher ran among the best of its run, and if not, why not.

A run is a question (model, accelerators, software, precision, batch, sequence length). The search answers it with what the
row fixes about software held fixed, no memory kept free, and all else open. Both layouts are predicted; what was measured
only chooses which layout of a run counts, where several were published: the fastest.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from makespan.search import search
from makespan.search.ties import tie_fraction
from makespan.specs.hardware import ClusterSpec
from makespan.specs.layout import Layout
from makespan.specs.search import SearchConstraints
from makespan.specs.step import StepEstimate
from makespan.validation.cells import NotExpressible
from makespan.validation.engine import as_it_ran, choices_of, standing_of, validate, value_in_words
from makespan.validation.express import Case, case_of, published_step_time_s
from makespan.validation.files import Row, read_models, read_rows, shipped_ids
from makespan.validation.result import COUNTED
from makespan.validation.split import family_of, model_family_of, publisher_of, split_of

TIE, EXPLAINED, MISSED, OUTSIDE = "tie", "explained", "missed", "outside"
VERDICTS = (TIE, EXPLAINED, MISSED, OUTSIDE)
"""Within the tie width of the best; not, for one named reason; not, for none; predicted faster than all that was searched, by
more than a tie or without a value that the search leaves out."""

MEMORY, HELD, RECIPE, SPACE = "memory", "held", "recipe", "space"
REASONS = (MEMORY, HELD, RECIPE, SPACE)
"""Kinds of reasons. `memory`: the layouts that are faster need memory within the memory model's own error of what there is.
`held`: the publisher kept one value of a dimension over several runs of the model, so it was no choice for this one.
`recipe`: the very layout, dp apart, is a tie in another run of the same publisher, who kept it for this size or precision.
`space`: it is predicted faster than the best found, by less than a tie, and has a value that the search does not look at."""

FEWEST_HELD = 3
"""Runs over which a publisher must have kept a value for it to count as held: two may agree by chance."""

DIMENSIONS = (
    *("tp", "pp", "cp", "ep", "etp", "vpp", "micro_batch", "recompute", "sharding"),
    *("schedule", "cp_kind", "shard_size", "order"),
)
"""What the search chooses, dp apart, which follows from the other sizes."""

SLACK = 1e-12
"""Rounding allowed in "never slower than the published layout"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a published layout is not among the ties: with this alone held as it was, the difference vanishes.

    kind : one of `REASONS`.   dimension : that was held; empty for the other kinds.   text : in words, with its numbers.
    """

    kind: str
    dimension: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLayout:
    """One run: the published layout against the best of the search, both predicted.

    id : of the row that counts, the fastest measured of the run.   rows : ids of all rows of the run.
    memory_fraction, best_memory_fraction : predicted need over what the accelerator has. Where the published layout needs more
        than there is, the search is given as much: it did run. [-]
    tie_fraction : how near the best a layout counts as equal. [-]
    reason : of an explained one.   outside : dimensions in which the published layout lies outside the space.
    together : of a missed one, held dimensions that make the difference vanish only when several are kept; empty where all of
        them do not.
    held : dimension -> time of the best layout that keeps the published value, over the published time. The largest says which
        dimension makes most of the difference. Empty for ties. [-]
    """

    id: str
    rows: tuple[str, ...]
    family: str
    split: str
    model: str
    accelerator: str
    num_accelerators: int
    profile: str
    precision: str
    global_batch: int
    seq_len: int
    is_mixture: bool
    layout: Layout
    time_s: float
    memory_fraction: float
    best: Layout
    best_time_s: float
    best_memory_fraction: float
    num_layouts: int
    tie_fraction: float
    verdict: str
    reason: Reason | None = None
    outside: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    held: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Best over published time, both predicted: at most 1 where the published layout is in the space. [-]"""
        return self.best_time_s / self.time_s

    @property
    def is_never_worse(self) -> bool:
        return self.best_time_s <= self.time_s * (1.0 + SLACK)

    @property
    def leading(self) -> str:
        """The dimension that makes most of the difference; empty for ties and where none is told apart."""
        return max(self.held, key=lambda name: self.held[name]) if self.held else ""

    @property
    def changes(self) -> tuple[tuple[str, str, str], ...]:
        """(dimension, published value, best value) where the two differ, dp apart."""
        pairs = ((name, getattr(self.layout, name), getattr(self.best, name)) for name in DIMENSIONS)
        return tuple((name, value_in_words(a), value_in_words(b)) for name, a, b in pairs if a != b)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutLedger:
    """Every distinct run with a published layout, searched.

    num_rows : rows behind the runs.   memory_margin : 90th percentile of the memory model's error. [-]
    """

    runs: tuple[PublishedLayout, ...]
    num_rows: int
    memory_margin: float

    def tally(self, split: str = "all") -> dict[str, int]:
        """Verdict -> runs."""
        verdicts = [run.verdict for run in self.runs if split in ("all", run.split)]
        return {verdict: verdicts.count(verdict) for verdict in VERDICTS}

    def share(self, split: str = "all") -> float | None:
        """Runs whose published layout is a tie or explained; None without runs. [-]"""
        tally = self.tally(split)
        total = sum(tally.values())
        return (tally[TIE] + tally[EXPLAINED]) / total if total else None

    def share_of_rows(self) -> float | None:
        """As `share`, each run weighted by its rows. [-]"""
        found = sum(len(run.rows) for run in self.runs if run.verdict in (TIE, EXPLAINED))
        return found / self.num_rows if self.num_rows else None

    @property
    def num_worse(self) -> int:
        """Runs in which a published layout inside the space is predicted faster than the best that was found."""
        return sum(not run.is_never_worse and not run.outside for run in self.runs)

    @property
    def num_outside(self) -> int:
        """Runs in which a published layout outside the space is predicted faster than the best inside."""
        return sum(not run.is_never_worse and bool(run.outside) for run in self.runs)

    def directions(self) -> dict[tuple[str, str], int]:
        """(dimension, "more" or "less", for words "published -> best") -> runs that are no ties whose best layout differs so.

        One that leans to one side over many publishers points at a term of the step model.
        """
        counts: dict[tuple[str, str], int] = {}
        for run in self.runs:
            if run.verdict == TIE or not run.is_never_worse:
                continue
            for name, before, after in run.changes:
                are_counts = before.isdigit() and after.isdigit()
                way = ("more" if int(after) > int(before) else "less") if are_counts else f"{before} -> {after}"
                counts[name, way] = counts.get((name, way), 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A row with its question and the estimate of its layout, under the profile that takes it."""

    row: Row
    case: Case
    estimate: StepEstimate
    measured_s: float

    @property
    def key(self) -> tuple[Any, ...]:
        case = self.case
        model = (case.model.name, case.model.window, case.model.mtp_layers)
        size = (case.label, case.cluster.num_accelerators, case.cluster.fabric.tiers[-1].bytes_per_s)
        return (*model, *size, case.profile.name, case.config.precision, case.config.global_batch, case.config.seq_len)

    @property
    def recipe(self) -> tuple[str, str, str, str]:
        """Whose choices these are: publisher, model, accelerator and software."""
        model = model_family_of(self.case.model.name)
        return publisher_of(self.row), model, self.case.label, self.case.profile.name


def published_layouts(
    rows_path: Path | None = None,
    models_path: Path | None = None,
    *,
    every: int = 1,
) -> LayoutLedger:
    """Search the run of every published layout, and compare.

    Parameters
    ----------
    rows_path, models_path : as in `validate`.
    every : of the distinct runs in the order of the file, only each `every`-th: a sample for tests.

    Raises
    ------
    ScenarioError : a file cannot be read as what it should be.
    """
    rows, models = read_rows(rows_path), read_models(models_path)
    runs = _distinct(_usable(rows, models))
    margin = memory_margin()
    held = held_values(members[0] for members in runs)
    seen = frozenset(shipped_ids())
    chosen = runs[::every]
    found = [_judged(members, held, margin, seen) for members in chosen]
    return LayoutLedger(
        runs=with_recipes(found, [members[0].recipe for members in chosen]),
        num_rows=sum(len(members) for members in chosen),
        memory_margin=margin,
    )


@cache
def memory_margin() -> float:
    """90th percentile of the memory model's error over the shipped rows that print a peak. [-]"""
    return validate().memory.p90_absolute or 0.0


def _usable(rows: Iterable[Row], models: Mapping[str, Any]) -> Iterable[_Run]:
    """Rows that count, whose layout is stated."""
    for row in rows:
        if standing_of(row, models) != COUNTED:
            continue
        try:
            case, measured = case_of(row, models), published_step_time_s(row)
            if case.layout is None or measured is None:
                continue
            profile, estimate = as_it_ran(case, [])
        except NotExpressible:
            continue
        if math.isfinite(estimate.time_s):
            case = dataclasses.replace(case, profile=profile)
            yield _Run(row=row, case=case, estimate=estimate, measured_s=measured)


def _distinct(runs: Iterable[_Run]) -> list[list[_Run]]:
    """Rows of one question together, the fastest measured first: of a sweep, the authors' choice is its best row."""
    groups: dict[tuple[Any, ...], list[_Run]] = {}
    for run in runs:
        groups.setdefault(run.key, []).append(run)
    return [sorted(members, key=lambda run: run.measured_s) for members in groups.values()]


def held_values(runs: Iterable[_Run]) -> Mapping[tuple[str, str, str, str], Mapping[str, int]]:
    """By recipe: the dimensions that had one value in all of its runs, and the number of runs."""
    layouts: dict[tuple[str, str, str, str], list[Layout]] = {}
    for run in runs:
        layouts.setdefault(run.recipe, []).append(run.estimate.layout)
    return {
        recipe: {
            name: len(members)
            for name in DIMENSIONS
            if len(members) >= FEWEST_HELD and len({getattr(layout, name) for layout in members}) == 1
        }
        for recipe, members in layouts.items()
    }


def software_constraints(layout: Layout, **fixed: Any) -> SearchConstraints:
    """What a row fixes about software: graphs, overlap, offload. No memory is kept free, as the run kept none.

    fixed : further fields of `SearchConstraints` to hold.
    """
    return SearchConstraints(
        cuda_graphs=value_in_words(layout.cuda_graphs),
        ep_overlap=layout.ep_overlap,
        offload=value_in_words(layout.offload),
        memory_headroom=0.0,
        **fixed,
    )


def _with_memory(cluster: ClusterSpec, size_bytes: float) -> ClusterSpec:
    """The cluster with accelerators of so much memory, and a trifle for rounding."""
    accelerator = dataclasses.replace(cluster.accelerator, hbm_bytes=size_bytes * (1.0 + 1e-9))
    return dataclasses.replace(cluster, accelerator=accelerator)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Searched:
    """A run's own search, with dimensions held or memory taken away."""

    run: _Run
    memory_bytes: float

    def best(self, memory_bytes: float | None = None, **fixed: Any) -> tuple[StepEstimate | None, int]:
        """The best layout with the published value of some dimensions (`fixed`), and the number of layouts looked at."""
        case = self.run.case
        cluster = _with_memory(case.cluster, memory_bytes or self.memory_bytes)
        constraints = software_constraints(self.run.estimate.layout, **fixed)
        found = search(case.model, case.config, cluster, case.profile, constraints, top=1, front=False)
        return found.best, found.num_layouts

    def holding(self, names: Iterable[str], **others: Any) -> StepEstimate | None:
        return self.best(**_fixed(self.run.estimate.layout, names), **others)[0]


def _fixed(layout: Layout, names: Iterable[str]) -> dict[str, Any]:
    """Fields of `SearchConstraints` that hold a layout's values: sizes as numbers, policies as words."""
    values = ((name, getattr(layout, name)) for name in names)
    return {name: value if type(value) is int else value_in_words(value).replace("-", "_") for name, value in values}


def _judged(
    members: Sequence[_Run],
    held: Mapping[tuple[str, str, str, str], Mapping[str, int]],
    margin: float,
    seen: Iterable[str],
) -> PublishedLayout:
    """One run, searched and judged."""
    run = members[0]
    case, published = run.case, run.estimate
    has_bytes, needs_bytes = case.cluster.accelerator.hbm_bytes, published.memory.total_bytes
    searched = _Searched(run=run, memory_bytes=max(has_bytes, needs_bytes))
    best, num_layouts = searched.best()
    tie = tie_fraction(case.profile)
    answer = PublishedLayout(
        id=run.row.get("id", ""),
        rows=tuple(member.row.get("id", "") for member in members),
        family=family_of(run.row),
        split=split_of(run.row, frozenset(seen)),
        model=case.model.name,
        accelerator=case.label,
        num_accelerators=case.cluster.num_accelerators,
        profile=case.profile.name,
        precision=case.config.precision,
        global_batch=case.config.global_batch,
        seq_len=case.config.seq_len,
        is_mixture=case.model.moe is not None,
        layout=published.layout,
        time_s=published.time_s,
        memory_fraction=needs_bytes / has_bytes,
        best=best.layout if best is not None else published.layout,
        best_time_s=best.time_s if best is not None else math.inf,
        best_memory_fraction=best.memory.total_bytes / has_bytes if best is not None else math.nan,
        num_layouts=num_layouts,
        tie_fraction=tie,
        verdict=TIE,
    )
    if not answer.is_never_worse:
        return _faster_than_found(answer, outside_of(searched))
    if is_tie(published.time_s, answer.best_time_s, tie):
        return answer
    kept = {name: _time(searched.holding([name])) / published.time_s for name, _, _ in answer.changes}
    kept = {name: ratio for name, ratio in kept.items() if math.isfinite(ratio)}
    never_varied = held.get(run.recipe, {})
    reason = _memory_reason(searched, answer, margin) or _held_reason(kept, never_varied, answer)
    together = () if reason else _held_together(searched, answer, [name for name in kept if name in never_varied])
    return dataclasses.replace(
        answer, held=kept, reason=reason, together=together, verdict=EXPLAINED if reason else MISSED
    )


def _held_together(searched: _Searched, answer: PublishedLayout, held: Sequence[str]) -> tuple[str, ...]:
    """Held dimensions that make the difference vanish together, taken one by one as each leaves least of it.

    Empty where all of them together do not.
    """
    chosen: list[str] = []
    left = list(held) if is_tie(answer.time_s, _time(searched.holding(held)), answer.tie_fraction) else []
    while left:
        times = {name: _time(searched.holding([*chosen, name])) for name in left}
        chosen.append(max(left, key=lambda name: times[name] if math.isfinite(times[name]) else -1.0))
        left.remove(chosen[-1])
        if is_tie(answer.time_s, times[chosen[-1]], answer.tie_fraction):
            return tuple(chosen)
    return ()


def with_recipes(
    answers: Sequence[PublishedLayout], recipes: Sequence[tuple[str, str, str, str]]
) -> tuple[PublishedLayout, ...]:
    """Missed runs whose layout, dp apart, is a tie in another run of the same recipe: explained."""
    ties: dict[tuple[Any, ...], PublishedLayout] = {}
    for answer, recipe in zip(answers, recipes, strict=True):
        if answer.verdict == TIE:
            ties.setdefault((recipe, choices_of(answer.layout)), answer)
    explained = []
    for answer, recipe in zip(answers, recipes, strict=True):
        other = ties.get((recipe, choices_of(answer.layout))) if answer.verdict == MISSED else None
        if other is not None:
            what = f"{other.num_accelerators} accelerators, {other.global_batch} x {other.seq_len}, {other.precision}"
            reason = Reason(kind=RECIPE, dimension="", text=f"the layout of {other.id}, a tie there ({what})")
            answer = dataclasses.replace(answer, verdict=EXPLAINED, reason=reason, together=())
        explained.append(answer)
    return tuple(explained)


def _faster_than_found(answer: PublishedLayout, outside: tuple[str, ...]) -> PublishedLayout:
    """A published layout that is predicted faster than the best found."""
    reason = None
    if outside and is_tie(answer.best_time_s, answer.time_s, answer.tie_fraction):
        values = ", ".join(f"{name} {value_in_words(getattr(answer.layout, name))}" for name in outside)
        reason = Reason(
            kind=SPACE, dimension=outside[0], text=f"not looked at: {values}; {answer.ratio - 1.0:.1%} faster"
        )
    return dataclasses.replace(answer, verdict=EXPLAINED if reason else OUTSIDE, outside=outside, reason=reason)


def is_tie(time_s: float, best_time_s: float, fraction: float) -> bool:
    """Whether a layout's time is within a share of the best."""
    return time_s <= best_time_s * (1.0 + fraction)


def _time(estimate: StepEstimate | None) -> float:
    return math.inf if estimate is None else estimate.time_s


def _memory_reason(searched: _Searched, answer: PublishedLayout, margin: float) -> Reason | None:
    """The best layout of a memory smaller by the memory model's error is no better than a tie."""
    has_bytes = searched.run.case.cluster.accelerator.hbm_bytes
    less_bytes = max(searched.run.estimate.memory.total_bytes, has_bytes * (1.0 - margin))
    best = searched.best(memory_bytes=less_bytes)[0]
    if not is_tie(answer.time_s, _time(best), answer.tie_fraction):
        return None
    left = 1.0 - answer.best_memory_fraction
    text = f"faster layouts leave {left:.0%} of the memory free; the memory model is off by {margin:.0%} in one of ten"
    return Reason(kind=MEMORY, dimension="", text=text)


def _held_reason(kept: Mapping[str, float], held: Mapping[str, int], answer: PublishedLayout) -> Reason | None:
    """With one dimension that the publisher never varied held as published, the best layout is no better than a tie."""
    for name in sorted(kept, key=lambda name: -kept[name]):
        if name in held and is_tie(1.0, kept[name], answer.tie_fraction):
            value = value_in_words(getattr(answer.layout, name))
            text = f"{name} {value} in all {held[name]} runs of this publisher with model, accelerator and software"
            return Reason(kind=HELD, dimension=name, text=text)
    return None


def outside_of(searched: _Searched) -> tuple[str, ...]:
    """Dimensions whose published value the search does not look at: let free alone, they make the answer slower.

    Empty where the layout is inside, so that the search should have found it.
    """
    names = (*DIMENSIONS, "dp")
    limit = searched.run.estimate.time_s * (1.0 + SLACK)
    return tuple(
        name for name in names if not _time(searched.holding([other for other in names if other != name])) <= limit
    )
