"""Plan -> the data of `result.json`: SI units, ISO dates, null for never. Same plan, same bytes; timings stay out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from makespan.provenance import Fact
from makespan.report.bands import band, date_band, iso_date, number
from makespan.report.curves import common_grid, gantt, option_curves
from makespan.report.labels import NOT_MODELLED, reason
from makespan.report.levers import lever_row, path_names
from makespan.report.observed import judged
from makespan.report.pipeline import distinct, pipeline_data, place
from makespan.report.step_text import step_figures
from makespan.report.words import answers
from makespan.specs.layout import Layout
from makespan.specs.plan import Change, OptionResult, Plan, PlayedPipeline, PoolResult, ShownStep
from makespan.specs.scenario import Scenario
from makespan.specs.search import SearchResult
from makespan.specs.step import MemoryEstimate, StepChange, StepEstimate
from makespan.specs.training import StageSpec
from makespan.uncertainty import Distribution, Triangular, Uniform, percentiles
from makespan.units import MONTH_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

SCHEMA_VERSION = "1"
_QUANTILES = tuple(round(0.01 * step, 2) for step in range(1, 100))


def result(plan: Plan) -> dict[str, Any]:
    """Everything a page shows, as plain JSON data.

    Returns
    -------
    dict : valid under `result_schema()`. Times are seconds or ISO dates (UTC), money USD of the price year, energy
        joule, power watt. A percentile that is never reached is None; "never" counts as later than every date.

    Notes
    -----
    Depends on the scenario, the seed and the version only. Numbers have nine significant digits, curves five.
    """
    scenario = plan.scenario
    grid = common_grid(plan.options, scenario.horizon_s)
    first = _probability_first(plan.options)
    names = path_names(plan)
    pipelines = distinct(plan.options)
    options = [
        _option(scenario, option, grid, probability, pipelines)
        for option, probability in zip(plan.options, first, strict=True)
    ]
    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "makespan_version": plan.version,
        "scenario": _scenario(scenario),
        "answers": [],
        "options": options,
        "pipelines": [pipeline_data(pipeline) for pipeline in pipelines],
        "times_s": [number(value) for value in grid],
        "levers": [lever_row(scenario, lever, plan.facts, names) for lever in plan.levers],
        "changes": [_change(change) for change in plan.changes],
        "observed": [judged(scenario, None, seen) for seen in scenario.observed],
        "weakest_fact": plan.weakest.name.lower(),
        "facts": [_fact(scenario, fact) for fact in _weak_first(scenario, plan.facts)],
        "rules": [{"path": rule.path, "value": rule.value, "rule": rule.rule} for rule in scenario.rules],
        "not_modelled": list(NOT_MODELLED),
    }
    data["answers"] = answers(data)
    return data


def _scenario(scenario: Scenario) -> dict[str, Any]:
    weight = sum(choice.weight for choice in scenario.models)
    return {
        "name": scenario.name,
        "question": scenario.question,
        "file": PurePath(scenario.path).name,
        "as_of": scenario.as_of.isoformat(),
        "deadline": None if scenario.deadline_s is None else iso_date(scenario.as_of, scenario.deadline_s),
        "horizon": iso_date(scenario.as_of, scenario.horizon_s),
        "horizon_s": number(scenario.horizon_s),
        "seed": scenario.seed,
        "num_replicates": scenario.num_replicates,
        "price_year": scenario.price_year,
        "framework": scenario.framework.name,
        "models": [{"name": choice.model.name, "weight": number(choice.weight / weight)} for choice in scenario.models],
        "stages": [_stage(stage) for stage in scenario.training.stages],
    }


def _stage(stage: StageSpec) -> dict[str, Any]:
    step = stage.step
    return {
        "name": stage.name,
        "kind": stage.kind,
        "tokens": _range(stage.tokens),
        "flop": _range(stage.flop),
        "duration_s": _range(stage.duration_s),
        "seq_len": None if step is None else step.seq_len,
        "global_batch": None if step is None else step.global_batch,
        "precision": None if step is None else step.precision,
    }


def _range(value: Distribution | None) -> dict[str, Any] | None:
    """The central value of an input with the range it was given; P10 and P90 where it has no ends."""
    if value is None:
        return None
    if isinstance(value, Uniform | Triangular):
        low, high = value.low, value.high
    else:
        low, high = (float(end) for end in value.quantile(np.array([0.1, 0.9])))
    return {"low": number(low), "central": number(value.central), "high": number(high)}


def _option(
    scenario: Scenario,
    option: OptionResult,
    grid: FloatArray,
    probability_first: float,
    pipelines: Sequence[PlayedPipeline],
) -> dict[str, Any]:
    as_of, campaign, costs = scenario.as_of, option.campaign, option.costs
    release = campaign.release_s
    deadline = scenario.deadline_s
    best = option.best.best if option.best is not None else None
    return {
        "name": option.option.name,
        "kind": option.option.kind,
        "note": option.option.note,
        "feasible": option.feasible,
        "reasons": [reason(text) for text in option.reasons],
        "first_training": date_band(as_of, campaign.first_training_s),
        "all_installed": date_band(as_of, _latest([pool.supply.all_installed_s for pool in option.pools], release)),
        "all_powered": date_band(as_of, _latest([pool.supply.all_powered_s for pool in option.pools], release)),
        "completion": {
            "pretraining": date_band(as_of, campaign.pretraining_s),
            "release": date_band(as_of, release),
        },
        "release_quantiles": [
            {"probability": p, "date": iso_date(as_of, value)}
            for p, value in zip(_QUANTILES, percentiles(release, _QUANTILES), strict=True)
        ],
        "probability_by_deadline": None if deadline is None else number(float(np.mean(release <= deadline))),
        "probability_first": number(probability_first),
        "cost_of_model_usd": band(costs.cost_of_model_usd),
        "committed_usd": band(costs.committed_usd),
        "capex_usd": band(costs.capex_usd),
        "residual_usd": band(costs.residual_usd),
        "cost_lines": _means("line", costs.cost_of_model, "mean_usd"),
        "capex_lines": _means("line", costs.capex, "mean_usd"),
        "cash_flow": _cash(costs.cash_flow_usd),
        "energy_j": {"facility": band(costs.energy_j), "it": band(costs.it_energy_j)},
        "peak_power_w": {"facility": band(costs.peak_power_w), "it": band(costs.it_peak_power_w)},
        "carbon_kg": band(costs.carbon_kg),
        "goodput": band(campaign.goodput),
        "interruptions": band(campaign.interruptions),
        "accelerator_s": band(campaign.accelerator_s),
        "checkpoint_interval_s": band(campaign.checkpoint_interval_s),
        "limited_by": [
            {"cause": cause, "share": number(share)}
            for cause, share in sorted(option.limited_by.items(), key=lambda item: (-item[1], item[0]))
        ],
        "ledger": _means("line", campaign.ledger, "mean_s"),
        "delays": _means("cause", campaign.delay_s, "mean_s"),
        "layout": None if best is None else _layout(best.layout),
        "step": None
        if best is None or option.best is None
        else {**_step(best, option.best, option.shown), "pipeline": place(option, pipelines)},
        "pools": [
            _pool(scenario, pool, spec.place, spec.accelerator.name, spec.node.name)
            for pool, spec in zip(option.pools, option.option.pools, strict=True)
        ],
        "curves": option_curves(option, grid),
        "observed": [judged(scenario, option, seen) for seen in option.option.observed],
    }


def _latest(dates: Sequence[FloatArray], like: FloatArray) -> FloatArray:
    """The last of several pools; never where there is none."""
    if not dates:
        return np.full_like(like, np.inf)
    latest: FloatArray = np.maximum.reduce(list(dates))
    return latest


def _probability_first(options: Sequence[OptionResult]) -> list[float]:
    """Share of replicates in which an option releases first; ties are shared, and a replicate nobody finishes has none."""
    release = np.array([option.campaign.release_s for option in options])
    if release.size == 0:
        return [0.0] * len(options)
    earliest = release.min(axis=0)
    wins = (release == earliest) & np.isfinite(earliest)
    return [float(value) for value in np.mean(wins / np.maximum(wins.sum(axis=0), 1), axis=1)]


def _means(key: str, lines: Mapping[str, FloatArray], value: str) -> list[dict[str, Any]]:
    """Means of lines that add up to a total, so the means do too; null where a replicate has none."""
    means = {name: number(float(np.mean(values))) for name, values in lines.items()}
    total = sum(mean for mean in means.values() if mean is not None)
    return [
        {key: name, value: mean, "share": None if mean is None or not total else number(mean / total)}
        for name, mean in means.items()
    ]


def _cash(flow: FloatArray) -> dict[str, Any]:
    """Money paid since `as_of` by the end of each month, up to the month after which nothing more is paid."""
    moving = np.flatnonzero(np.any(flow != 0.0, axis=0))
    months = min(int(moving[-1]) + 1, flow.shape[1]) if moving.size else 0
    total = np.cumsum(flow[:, :months], axis=1)
    columns = [band(total[:, month]) for month in range(months)]
    return {
        "times_s": [number((month + 1) * MONTH_S) for month in range(months)],
        **{key: [column[key] for column in columns] for key in ("p10", "p50", "p90")},
    }


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "text": str(layout),
        "num_accelerators": layout.num_accelerators,
        **{key: getattr(layout, key) for key in ("tp", "pp", "vpp", "cp", "dp", "ep", "etp", "micro_batch")},
        "schedule": layout.schedule.name.lower(),
        "recompute": layout.recompute.label,
        "sharding": layout.sharding.name.lower(),
        "sequence_parallel": layout.sequence_parallel,
    }


def _step(step: StepEstimate, search: SearchResult, shown: ShownStep | None) -> dict[str, Any]:
    runner = next((other for other in search.top if other.layout != step.layout), None)
    return {
        **step_figures(step),
        "lower_s": number(step.lower_s),
        "upper_s": number(step.upper_s),
        "weakest_fact": step.provenance.name.lower(),
        "memory_stage": step.memory.stage,
        "memory_by_stage": _memory_by_stage(step.memory, step.layout.pp),
        "changes": [] if shown is None else [_step_change(change, step) for change in shown.step_changes],
        "num_layouts": search.num_layouts,
        "num_legal": search.num_legal,
        "num_feasible": search.num_feasible,
        "infeasible": {status.name.lower(): count for status, count in search.infeasible.items() if count},
        "runner_up": None if runner is None else {"text": str(runner.layout), "time_s": number(runner.time_s)},
    }


def _memory_by_stage(memory: MemoryEstimate, pp: int) -> list[dict[str, Any]]:
    """Stages that differ, as far as they were told apart; of a single stage nothing beyond `memory_bytes`."""
    if pp == 1:
        return []
    groups = memory.by_stage.items()
    return [
        {
            "group": group,
            "total_bytes": number(sum(kinds.values())),
            "memory_bytes": {name: number(size) for name, size in kinds.items()},
        }
        for group, kinds in groups
    ]


def _step_change(change: StepChange, step: StepEstimate) -> dict[str, Any]:
    return {
        "dimension": change.dimension,
        "before": change.before,
        "after": change.after,
        "layout": str(change.layout),
        "time_s": number(change.time_s),
        "saved_fraction": number(1.0 - change.time_s / step.time_s),
        "memory_bytes": number(change.memory_bytes),
    }


def _pool(scenario: Scenario, pool: PoolResult, place: str, accelerator: str, node: str) -> dict[str, Any]:
    as_of, supply = scenario.as_of, pool.supply
    return {
        "name": supply.timeline.pool,
        "place": place,
        "accelerator": accelerator,
        "node": node,
        "num_accelerators": supply.timeline.target,
        "first_usable": date_band(as_of, supply.first_usable_s),
        "all_installed": date_band(as_of, supply.all_installed_s),
        "all_powered": date_band(as_of, supply.all_powered_s),
        "pue": band(supply.pue),
        "milestones": gantt(as_of, supply),
        "levels": [_level(level, search) for level, search in zip(pool.levels, pool.searches, strict=True)],
    }


def _level(level: int, search: SearchResult) -> dict[str, Any]:
    best = search.best
    return {
        "num_accelerators": level,
        "layout": None if best is None else str(best.layout),
        "time_s": None if best is None else number(best.time_s),
        "tokens_per_s": None if best is None else number(best.tokens_per_s),
        "mfu": None if best is None else number(best.mfu),
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "option": change.option,
        "text": change.text,
        "probability": number(change.probability),
        "gained_probability": number(change.gained_probability),
        "gained_s": number(change.gained_s),
        "extra_cost_usd": number(change.extra_cost_usd),
    }


def _weak_first(scenario: Scenario, facts: Sequence[Fact]) -> list[Fact]:
    """Weakest kind first; among equals the scenario's own before the catalog's."""
    return sorted(facts, key=lambda fact: (fact.kind, fact.file != scenario.path, fact.path))


def _fact(scenario: Scenario, fact: Fact) -> dict[str, Any]:
    source = fact.source
    own = fact.file == scenario.path and bool(fact.file)
    return {
        "path": fact.path,
        "text": fact.text,
        "kind": fact.kind.name.lower(),
        "low": fact.low,
        "high": fact.high,
        "where": fact.where,
        "how": fact.how,
        "why": fact.why,
        "known_on": fact.known_on.isoformat() if fact.known_on else None,
        "file": PurePath(fact.file).name if own or PurePath(fact.file).is_absolute() else fact.file,
        "line": fact.line,
        "source": None
        if source is None
        else {
            "key": source.key,
            "title": source.title,
            "publisher": source.publisher,
            "date": source.date.isoformat(),
            "url": source.url,
        },
    }


__all__ = ["SCHEMA_VERSION", "result"]
