"""Stages of training in the campaign's terms: one step is the reference, the others are told in it."""

from __future__ import annotations

import math
from dataclasses import replace

from makespan.specs.plan import PoolResult
from makespan.specs.scenario import Scenario
from makespan.specs.supply import BuildSpec, RentSpec
from makespan.specs.training import StageSpec, StepConfig, TrainingSpec
from makespan.study.rates import LayoutBook
from makespan.uncertainty import Fixed, scaled
from makespan.workload import model_flop_per_token


def reference_step(training: TrainingSpec) -> StepConfig:
    """The step of the first compute stage: layouts are chosen for it."""
    for stage in training.stages:
        if stage.step is not None:
            return stage.step
    raise ValueError("the run has no compute stage")


def in_reference_steps(
    scenario: Scenario, spec: RentSpec | BuildSpec, pool: PoolResult, book: LayoutBook
) -> tuple[TrainingSpec, tuple[str, ...]]:
    """Compute stages with another step (a longer sequence, say) as the budget of reference steps that takes as long.

    The campaign has one rate table, that of the first compute stage. Another stage does FLOP at another speed; its
    budget is scaled by (its seconds per FLOP) / (the reference's seconds per FLOP) at the largest searched size. A stage
    that fits in no layout there never ends; the texts beside the answer say so.
    """
    config = reference_step(scenario.training)
    model = max(scenario.models, key=lambda choice: choice.weight).model
    reference = next((found.best for found in reversed(pool.searches) if found.best is not None), None)
    stages: list[StageSpec] = []
    reasons: list[str] = []
    for stage in scenario.training.stages:
        if stage.step is None or stage.step == config or reference is None:
            stages.append(stage)
            continue
        best = book.best(spec, model, stage.step, pool.levels[-1]).best
        if best is None:
            never = Fixed(name=stage.name, value=math.inf)
            stages.append(replace(stage, tokens=None, flop=None, kind="calendar", duration_s=never))
            reasons.append(
                f"{spec.place}: the stage '{stage.name}' fits in no layout on {pool.levels[-1]:,} accelerators"
            )
            continue
        slower = (best.time_s / best.model_flop) / (reference.time_s / reference.model_flop)
        per_token = model_flop_per_token(model, stage.step.seq_len) / model_flop_per_token(model, config.seq_len)
        stages.append(
            replace(
                stage,
                flop=None if stage.flop is None else scaled(stage.flop, slower),
                tokens=None if stage.tokens is None else scaled(stage.tokens, slower * per_token),
            )
        )
    return replace(scenario.training, stages=tuple(stages)), tuple(reasons)
