"""A search as the command line asked it: what was found in each precision, ranked together, with the reason for each rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from makespan.report.bands import number as rounded
from makespan.report.labels import LAYOUT_STATUS, STEP_PARTS
from makespan.report.step_text import EXACT_DIGITS, GIB, in_words, layout_data, step_data
from makespan.search.emptied import Emptied
from makespan.search.objectives import estimate_value, to_budget
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout, LayoutStatus
from makespan.specs.model import ModelSpec
from makespan.specs.search import Objective, SearchConstraints, SearchResult
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig

EQUAL = 1e-9
"""Values that differ by a smaller share than this are equal: the order of sums makes that much."""

TOLD_SHARE = 0.2
"""A second cause of a difference, or what speaks for the slower layout, is told from this share of the largest on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found in one precision."""

    config: StepConfig
    result: SearchResult


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAnswer:
    """A question and its answer.

    found : by precision, at least one.   top : layouts to show.   seconds : that the searches took.
    asked : accelerators that were asked for, where fewer can run.
    rules : what stood in for options that were left out.   warnings : what the reader has to know.
    tokens : of the whole run, where they were given.   emptied : why nothing fits, where nothing does.
    """

    model: ModelSpec
    cluster: ClusterSpec
    profile: FrameworkProfile
    constraints: SearchConstraints
    found: tuple[Found, ...]
    top: int
    seconds: float
    asked: int | None = None
    fixed: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tokens: float | None = None
    emptied: Emptied | None = None

    @property
    def config(self) -> StepConfig:
        """Of the precision in which the best layout runs; of the first where nothing fits."""
        rows = ranked(self)
        return rows[0].config if rows else self.found[0].config

    @property
    def is_open(self) -> bool:
        """Several precisions were tried."""
        return len(self.found) > 1

    @property
    def precision(self) -> str:
        return "open" if self.is_open else self.found[0].config.precision

    def count(self, name: str) -> int:
        """A count of `SearchResult`, over all precisions."""
        return sum(int(getattr(found.result, name)) for found in self.found)

    @property
    def infeasible(self) -> dict[LayoutStatus, int]:
        """Over all precisions, most frequent first."""
        tally: dict[LayoutStatus, int] = {}
        for found in self.found:
            for status, count in found.result.infeasible.items():
                tally[status] = tally.get(status, 0) + count
        return {status: count for status, count in sorted(tally.items(), key=lambda item: -item[1]) if count}

    @property
    def tie_fraction(self) -> float:
        return max(found.result.tie_fraction for found in self.found)

    @property
    def nearest(self) -> tuple[Layout, float] | None:
        """The layout that lacks least memory, where nothing fits."""
        lacking = [found.result.nearest for found in self.found if found.result.nearest is not None]
        return min(lacking, key=lambda pair: pair[1], default=None) if not ranked(self) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A layout in its place.

    value : of the objective.   behind : of the best value, as a share.   tie : the model cannot tell it from the best.
    lost_s : seconds by cause against the best layout, positive where this one loses.   why : the same in words.
    """

    rank: int
    config: StepConfig
    estimate: StepEstimate
    value: float
    behind: float
    tie: bool
    lost_s: Mapping[str, float]
    why: str


def ranked(answer: SearchAnswer) -> tuple[Ranked, ...]:
    """The best layouts of all precisions, least objective first.

    Within a precision the order is the search's own.
    """
    objective = answer.constraints.objective
    rows = [
        (
            estimate_value(objective, answer.model, found.config, answer.cluster, answer.profile, estimate),
            found.config,
            estimate,
        )
        for found in answer.found
        for estimate in found.result.top
    ]
    if answer.is_open:
        rows.sort(key=lambda row: row[0])
    rows = rows[: answer.top]
    if not rows:
        return ()
    least, _, best = rows[0]
    tied = least * (1.0 + max(answer.tie_fraction, EQUAL))
    return tuple(
        Ranked(
            rank=rank,
            config=config,
            estimate=estimate,
            value=value,
            behind=value / least - 1.0,
            tie=rank > 1 and value <= tied,
            lost_s=lost_seconds(best, estimate) if rank > 1 else {},
            why=why_behind(best, estimate) if rank > 1 else "",
        )
        for rank, (value, config, estimate) in enumerate(rows, start=1)
    )


def few_used(answer: SearchAnswer) -> tuple[str, ...]:
    """What to say where the best layout uses a smaller share of the accelerators than `min_used_fraction`; else nothing."""
    rows, there, share = ranked(answer), answer.cluster.num_accelerators, answer.constraints.min_used_fraction
    if not rows or rows[0].estimate.num_accelerators >= share * there * (1.0 - EQUAL):
        return ()
    batch, dp = rows[0].config.global_batch, answer.constraints.dp
    why = (
        f"a batch of {batch:,} sequences feeds too few replicas of it, and the share is then of the replicas that it can feed"
        if dp is None
        else f"dp={dp} is fixed"
    )
    used = f"{rows[0].estimate.num_accelerators:,} of the {there:,} accelerators"
    return (f"the best layout uses {used}, less than --min-used {100 * share:.4g}%: {why}",)


def lost_seconds(best: StepEstimate, other: StepEstimate) -> dict[str, float]:
    """Seconds by cause that a layout takes more than the best, largest first; they add up to the difference. [s]"""
    causes = {*best.breakdown, *other.breakdown}
    lost = {cause: other.breakdown.get(cause, 0.0) - best.breakdown.get(cause, 0.0) for cause in causes}
    return dict(sorted(((c, s) for c, s in lost.items() if s), key=lambda item: (-item[1], item[0])))


def why_behind(best: StepEstimate, other: StepEstimate) -> str:
    """What a layout loses against the best: the one or two largest differences by cause, and what it gains elsewhere."""
    difference = other.time_s - best.time_s
    lost = list(lost_seconds(best, other).items())
    parts = []
    if lost and abs(difference) > EQUAL * best.time_s:
        losses = lost if difference > 0 else lost[::-1]
        sign = 1.0 if difference > 0 else -1.0
        largest = abs(losses[0][1])
        told = [(c, s) for c, s in losses[:2] if s * sign > 0 and abs(s) >= TOLD_SHARE * largest]
        against = losses[-1]
        if against[1] * sign < 0 and abs(against[1]) >= TOLD_SHARE * largest:
            told.append(against)
        parts += [f"{_signed(seconds)} {in_words(STEP_PARTS, cause)}" for cause, seconds in told]
    else:
        parts.append("same time")
    more = other.num_accelerators - best.num_accelerators
    if more:
        parts.append(f"{abs(more):,} accelerators {'more' if more > 0 else 'fewer'}")
    elif len(parts) == 1 and parts[0] == "same time":
        bytes_more = other.memory.total_bytes - best.memory.total_bytes
        if abs(bytes_more) >= 0.05 * GIB:
            parts.append(f"{abs(bytes_more) / GIB:.1f} GiB {'more' if bytes_more > 0 else 'less'}")
    return ", ".join(parts)


def _signed(seconds: float) -> str:
    """Three digits, with a sign.

    >>> _signed(0.19342), _signed(-12.5), _signed(0.00042)
    ('+0.193 s', '-12.5 s', '+0.42 ms')
    """
    sign, size = ("+" if seconds >= 0 else "-"), abs(seconds)
    if size < 0.01:
        return f"{sign}{size * 1e3:.3g} ms"
    return f"{sign}{size:.3g} s"


OBJECTIVE_UNITS = {Objective.TIME: "s", Objective.COST: "accelerator-seconds", Objective.ENERGY: "J"}


def search_data(answer: SearchAnswer) -> dict[str, Any]:
    """What `makespan search --json` prints. Plain JSON data in SI units; keys are listed in docs/explain/search.md."""
    rows = ranked(answer)
    cluster, config = answer.cluster, answer.config
    return {
        "model": answer.model.name,
        "cluster": {
            "accelerator": cluster.accelerator.name,
            "num_accelerators": cluster.num_accelerators,
            "asked": answer.asked if answer.asked is not None else cluster.num_accelerators,
            "node": cluster.node.name,
            "fabric": cluster.fabric.name,
        },
        "framework": answer.profile.name,
        "global_batch": config.global_batch,
        "seq_len": config.seq_len,
        "precision": answer.precision,
        "objective": answer.constraints.objective.value,
        "objective_unit": OBJECTIVE_UNITS[answer.constraints.objective],
        "fixed": dict(answer.fixed),
        "memory_headroom": answer.constraints.memory_headroom,
        "min_used_fraction": answer.constraints.min_used_fraction,
        "thorough": answer.constraints.thorough,
        "layouts": answer.count("num_layouts"),
        "excluded": answer.count("num_excluded"),
        "legal": answer.count("num_legal"),
        "feasible": answer.count("num_feasible"),
        "ties": _num_ties(answer),
        "tie_fraction": answer.tie_fraction,
        "infeasible_by_reason": {status.name.lower(): count for status, count in answer.infeasible.items()},
        "seconds": answer.seconds,
        "budget": None if answer.tokens is None or not rows else budget_data(answer, rows[0].estimate),
        "best": _row_data(rows[0]) if rows else None,
        "top": [_row_data(row) for row in rows],
        "pareto": [
            step_data(estimate) | {"precision": found.config.precision}
            for found in answer.found
            for estimate in found.result.pareto
        ],
        "nearest": _lacking(answer.nearest),
        "emptied_by": None if answer.emptied is None else emptied_data(answer.emptied),
        "rules": list(answer.rules),
        "warnings": list(answer.warnings),
    }


def budget_data(answer: SearchAnswer, estimate: StepEstimate) -> dict[str, Any]:
    """Steps of a layout up to the budget of tokens: no failures, checkpoints or evaluation (the campaign has those)."""
    tokens = answer.tokens or 0.0
    run = {"tokens": tokens, "num_steps": tokens / estimate.tokens_per_step}
    return run | {"train_s": float(to_budget(estimate.time_s, tokens=tokens, tokens_per_step=estimate.tokens_per_step))}


def _num_ties(answer: SearchAnswer) -> int:
    """Layouts too near the best to tell apart, of the precision that the best one runs in."""
    config = answer.config
    return next(found.result.num_ties for found in answer.found if found.config is config)


def _row_data(row: Ranked) -> dict[str, Any]:
    return step_data(row.estimate) | {
        "rank": row.rank,
        "precision": row.config.precision,
        "objective": rounded(row.value, EXACT_DIGITS),
        "behind_fraction": rounded(row.behind, EXACT_DIGITS),
        "tie": row.tie,
        "why": row.why,
        "lost_s": {cause: rounded(seconds, EXACT_DIGITS) for cause, seconds in row.lost_s.items()},
    }


def _lacking(nearest: tuple[Layout, float] | None) -> dict[str, Any] | None:
    if nearest is None:
        return None
    layout, missing = nearest
    return {"layout": layout_data(layout), "text": str(layout), "missing_bytes": missing}


def emptied_data(emptied: Emptied) -> dict[str, Any]:
    """Which constraints keep everything out, as plain data."""
    return {
        "releases": [{"without": list(release.names), "best": step_data(release.best)} for release in emptied.releases],
        "nearest": _lacking(emptied.nearest),
        "enough_accelerators": emptied.enough_accelerators,
    }


def reasons(answer: SearchAnswer) -> list[tuple[int, str]]:
    """Combinations that are out, by reason in words, most frequent first."""
    return [(count, in_words(LAYOUT_STATUS, status.name.lower())) for status, count in answer.infeasible.items()]
