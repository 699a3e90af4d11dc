"""What would help: changes to the leading option, each run again on the same draws.

A change is a what-if on the real model, not a derivative: the whole chain is run with the changed input. Its cost is
the change in what the run is charged; a premium that a seller would ask for an earlier date is not in the model, and
the text says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from makespan.specs.plan import Change, OptionResult, Plan
from makespan.specs.scenario import Scenario
from makespan.specs.supply import BuildSpec, OptionSpec, PowerSource, RampStep, RentSpec
from makespan.specs.training import ShareStep, StageSpec, TrainingSpec
from makespan.study import plan as make_plan
from makespan.uncertainty import highest, percentiles, scaled, shifted
from makespan.units import DAY_S

MOST_REPLICATES = 300
"""Replicates of a what-if run: the first of the plan's own, so that both share their luck."""

EARLIER_S = 30 * DAY_S
MORE = 1.25
MORE_SHARE = 0.1
LEAST_GAIN = 0.01
"""Changes that raise the odds by less are not reported."""


def changes(plan: Plan, *, most: int = 3) -> tuple[Change, ...]:
    """The cheapest changes that raise the odds of the scenario's deadline, for the option with the best odds (then the
    earliest median).

    Returns at most `most` changes, cheapest first; none when the deadline is met in every replicate or when nothing on
    the list helps.

    Raises
    ------
    ValueError : the scenario has no deadline.
    """
    deadline_s = plan.scenario.deadline_s
    if deadline_s is None:
        raise ValueError("the scenario has no deadline to help with")
    count = min(plan.scenario.num_replicates, MOST_REPLICATES)
    base = max(plan.options, key=lambda option: (_odds(option, deadline_s, count), -_median(option, count)))
    if _odds(base, deadline_s, count) >= 1.0:
        return ()
    found = []
    for text, scenario in _what_ifs(plan.scenario, base.option):
        changed = make_plan(scenario, num_replicates=count).options[0]
        gained = _odds(changed, deadline_s, count) - _odds(base, deadline_s, count)
        if gained >= LEAST_GAIN:
            found.append(
                Change(
                    option=base.option.name,
                    text=text,
                    probability=_odds(changed, deadline_s, count),
                    gained_probability=gained,
                    gained_s=_median(base, count) - _median(changed, count),
                    extra_cost_usd=_mean_cost(changed, count) - _mean_cost(base, count),
                )
            )
    return tuple(sorted(found, key=lambda change: change.extra_cost_usd)[:most])


def _odds(result: OptionResult, deadline_s: float, count: int) -> float:
    return float(np.mean(result.campaign.release_s[:count] <= deadline_s))


def _median(result: OptionResult, count: int) -> float:
    return min(percentiles(result.campaign.release_s[:count])[1], result.campaign.horizon_s)


def _mean_cost(result: OptionResult, count: int) -> float:
    return float(np.mean(result.costs.cost_of_model_usd[:count]))


def _what_ifs(scenario: Scenario, option: OptionSpec) -> Iterator[tuple[str, Scenario]]:
    """Each what-if as a text and the scenario with it, reduced to the one option."""
    alone = replace(scenario, options=(option,))
    for pool in option.pools:
        for text, changed in _rent_what_ifs(pool) if isinstance(pool, RentSpec) else _build_what_ifs(pool):
            pools = tuple(changed if other is pool else other for other in option.pools)
            yield text, replace(alone, options=(replace(option, pools=pools),))
    for text, training in _run_what_ifs(scenario.training, option):
        yield text, replace(alone, training=training)


def _rent_what_ifs(pool: RentSpec) -> Iterator[tuple[str, RentSpec]]:
    largest = max(step.num_accelerators.central for step in pool.ramp)
    if pool.largest_cluster is None or pool.largest_cluster >= largest * MORE:
        more = tuple(replace(step, num_accelerators=scaled(step.num_accelerators, MORE)) for step in pool.ramp)
        yield (
            f"rent {largest * MORE:,.0f} accelerators instead of {largest:,.0f} ({pool.place})",
            replace(pool, ramp=more),
        )
    if any(step.from_s.central > 0 for step in pool.ramp):
        yield (
            f"have the capacity 30 days earlier ({pool.place}; before any premium)",
            replace(pool, ramp=tuple(_earlier_step(step) for step in pool.ramp)),
        )


def _earlier_step(step: RampStep) -> RampStep:
    return replace(step, from_s=shifted(step.from_s, -EARLIER_S, floor=0.0))


def _build_what_ifs(pool: BuildSpec) -> Iterator[tuple[str, BuildSpec]]:
    yield (
        f"have every later power source 30 days earlier ({pool.place}; before any premium)",
        replace(pool, power=tuple(_earlier_power(source) for source in pool.power)),
    )
    yield (
        f"have 25 % more on-site generation ({pool.place})",
        replace(
            pool,
            power=tuple(source if source.kind == "grid" else _more_power(source) for source in pool.power),
        ),
    )
    yield (
        f"install 50 % faster ({pool.place}; before the extra crews' pay)",
        replace(pool, install_per_s=scaled(pool.install_per_s, 1.5)),
    )
    yield (
        f"have every delivery 30 days earlier ({pool.place}; before any premium)",
        replace(
            pool,
            deliveries=tuple(replace(lot, at_s=shifted(lot.at_s, -EARLIER_S, floor=0.0)) for lot in pool.deliveries),
        ),
    )


def _more_power(source: PowerSource) -> PowerSource:
    # More units of the same: what their presence costs grows with them.
    return replace(
        source,
        capacity_w=scaled(source.capacity_w, MORE),
        fixed_usd_per_s=scaled(source.fixed_usd_per_s, MORE),
    )


def _earlier_power(source: PowerSource) -> PowerSource:
    # What is there already stays: only dates still to come move, and none before today.
    return (
        source if source.from_s.central <= 0 else replace(source, from_s=shifted(source.from_s, -EARLIER_S, floor=0.0))
    )


def _run_what_ifs(training: TrainingSpec, option: OptionSpec) -> Iterator[tuple[str, TrainingSpec]]:
    if any(step.share.central < 1 for step in training.run_share):
        more = tuple(_more_share(step) for step in training.run_share)
        yield f"give the run {MORE_SHARE * 100:.0f} points more of the accelerators", replace(training, run_share=more)
    if training.ready_s.central > 0:
        yield (
            "have data and recipe ready 30 days earlier",
            replace(training, ready_s=shifted(training.ready_s, -EARLIER_S, floor=0.0)),
        )
    stages = training.stages
    if all("fp8" in pool.accelerator.peak_flop_per_s for pool in option.pools) and any(_is_16_bit(s) for s in stages):
        yield (
            "train the matrix products in FP8 (if the recipe holds)",
            replace(training, stages=tuple(_in_fp8(stage) for stage in stages)),
        )
    if any(stage.kind == "calendar" for stage in stages):
        yield (
            "cut post-training and evaluation by a quarter",
            replace(training, stages=tuple(_shorter(stage) for stage in stages)),
        )


def _more_share(step: ShareStep) -> ShareStep:
    # A share of none means that the accelerators are not the run's yet: it stays.
    return step if highest(step.share) <= 0 else replace(step, share=shifted(step.share, MORE_SHARE, ceiling=1.0))


def _is_16_bit(stage: StageSpec) -> bool:
    return stage.step is not None and stage.step.precision in ("bf16", "fp16")


def _in_fp8(stage: StageSpec) -> StageSpec:
    if stage.step is None or not _is_16_bit(stage):
        return stage
    return replace(stage, step=replace(stage.step, precision="fp8"))


def _shorter(stage: StageSpec) -> StageSpec:
    return stage if stage.duration_s is None else replace(stage, duration_s=scaled(stage.duration_s, 0.75))
