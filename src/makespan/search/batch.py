"""The batch wall: what a larger batch costs in tokens, and the time to a budget of tokens through a ramp of batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from makespan.search.engine import search
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.model import ModelSpec
from makespan.specs.search import CriticalBatchLaw, LossLaw, RampStage, SearchConstraints, TrainStage, TrainTime
from makespan.specs.step import StepEstimate
from makespan.specs.training import StepConfig
from makespan.uncertainty import Percentiles
from makespan.workload import active_parameter_count, model_flop_per_token

Best = Callable[[int], StepEstimate | None]
"""The best layout at a batch of so many sequences; None where nothing fits."""

NO_EXTRA = Percentiles(name="token_multiplier", p10=1.0, p50=1.0, p90=1.0)


def loss_nats(law: LossLaw, num_parameters: float, tokens: float) -> float:
    """Loss of a model of that size after so many tokens. [nat/token]

    Parameters
    ----------
    num_parameters : without embeddings; of a mixture of experts those that a token visits. [-]

    References
    ----------
    J. Kaplan et al., arXiv:2001.08361, equation 1.5.

    Examples
    --------
    >>> kaplan = LossLaw(parameters_scale=8.8e13, parameters_exponent=0.076, tokens_scale=5.4e13, tokens_exponent=0.095)
    >>> round(loss_nats(kaplan, 1.5e9, 22e9), 2)
    2.37
    """
    size = (law.parameters_scale / num_parameters) ** (law.parameters_exponent / law.tokens_exponent)
    return float((size + law.tokens_scale / tokens) ** law.tokens_exponent)


def critical_batch(law: CriticalBatchLaw, *, tokens: float, num_parameters: float = math.nan) -> Percentiles:
    """Tokens of the batch that needs twice the fewest tokens, P10, P50 and P90. [-]

    Parameters
    ----------
    tokens : of the whole run. [-]
    num_parameters : as in `loss_nats`; only laws that go by the loss ask for it. [-]

    Notes
    -----
    With x the tokens or the loss, the law's batch is b = coefficient x^exponent. Where the paper defines b as the batch
    that needs a share f more tokens, (1 + b / B_crit) = 1 + f gives B_crit = b / f.  The median's distance to P10 and P90
    is exp(sqrt(ln(spread)^2 + (decades ln(spread_per_decade))^2)) as a factor, decades = log10(tokens / fitted_tokens)
    where that is above 0.  One number stands for the whole run: that the critical batch is small at its start and grows
    is left out, so a ramp gets no credit for it.

    Examples
    --------
    >>> law = CriticalBatchLaw(name="plain", coefficient=100.0, exponent=0.5, overhead_fraction=0.2, spread=2.0,
    ...                        spread_per_decade=1.0, fitted_tokens=1e9)
    >>> batch = critical_batch(law, tokens=1e12)
    >>> batch.p10, batch.p50, batch.p90
    (250000000.0, 500000000.0, 1000000000.0)
    """
    x = tokens if law.loss is None else loss_nats(law.loss, num_parameters, tokens)
    middle = law.coefficient * x**law.exponent / law.overhead_fraction
    decades = max(math.log10(tokens / law.fitted_tokens), 0.0)
    factor = math.exp(math.hypot(math.log(law.spread), decades * math.log(law.spread_per_decade)))
    return Percentiles(name="critical_batch", p10=middle / factor, p50=middle, p90=middle * factor)


def token_multiplier(batch_tokens: float, reference_tokens: float, critical: Percentiles) -> Percentiles:
    """Tokens to a loss at a batch over those at the reference batch, at least 1; P10, P50, P90. [-]

    Notes
    -----
    Steps S and tokens E to a given loss follow (S / S_min - 1)(E / E_min - 1) = 1, so E = E_min (1 + B / B_crit).
    A batch below the reference is not credited with fewer tokens: under the best batch of a run the loss gets worse again,
    which the law does not know.

    References
    ----------
    S. McCandlish et al., arXiv:1812.06162, equation 2.11.

    Examples
    --------
    >>> critical = Percentiles(p10=5e6, p50=10e6, p90=20e6)
    >>> [round(getattr(token_multiplier(30e6, 10e6, critical), p), 2) for p in ("p10", "p50", "p90")]
    [1.67, 2.0, 2.33]
    """
    batch = max(batch_tokens, reference_tokens)
    low, middle, high = (
        (1.0 + batch / at) / (1.0 + reference_tokens / at) for at in (critical.p90, critical.p50, critical.p10)
    )
    return Percentiles(name="token_multiplier", p10=low, p50=middle, p90=high)


def budget_tokens(model: ModelSpec, config: StepConfig, flop: float) -> float:
    """Tokens of a budget of model FLOP (6ND and causal attention). [-]"""
    return flop / float(model_flop_per_token(model, config.seq_len))


def run_critical_batch(law: CriticalBatchLaw | None, model: ModelSpec, tokens: float) -> Percentiles | None:
    """`critical_batch` of a model's run; None without a law."""
    if law is None:
        return None
    return critical_batch(law, tokens=tokens, num_parameters=float(active_parameter_count(model, embedding=False)))


def ramp_tokens(
    ramp: Sequence[RampStage], tokens: float, *, seq_len: int, reference_batch: int, critical: float
) -> tuple[float, ...]:
    """Tokens trained in every stage of a ramp until the loss of the reference batch is reached. [-]

    Parameters
    ----------
    ramp : in ascending order of `from_tokens`, the first from 0.
    tokens : the budget at the reference batch.   critical : critical batch in tokens; `inf` for no extra tokens.

    Notes
    -----
    A token at batch B counts 1 / m(B), m the `token_multiplier`. Stages end where the ramp says, the last where the counted
    tokens are `tokens`; stages after that are not reached and get 0.

    Examples
    --------
    >>> ramp = (RampStage(from_tokens=0, global_batch=1), RampStage(from_tokens=4e9, global_batch=3))
    >>> ramp_tokens(ramp, 10e9, seq_len=10, reference_batch=1, critical=10.0)
    (4000000000.0, 12000000000.0)
    """
    left, trained = tokens, []
    for place, stage in enumerate(ramp):
        at = Percentiles(p10=critical, p50=critical, p90=critical)
        multiplier = token_multiplier(stage.global_batch * seq_len, reference_batch * seq_len, at).p50
        end = ramp[place + 1].from_tokens if place + 1 < len(ramp) else math.inf
        trained.append(min(end - stage.from_tokens, left * multiplier))
        left -= trained[-1] / multiplier
    return tuple(trained)


def train_time(
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    constraints: SearchConstraints,
    *,
    tokens: float,
    ramp: Sequence[RampStage] = (),
    reference_batch: int | None = None,
    law: CriticalBatchLaw | None = None,
    best: Best | None = None,
) -> TrainTime:
    """Time to train a budget of tokens, through a ramp of batches where there is one.

    Parameters
    ----------
    config : its `global_batch` is the batch of a run without a ramp.
    tokens : the budget; for one in FLOP see `budget_tokens`. [-]
    reference_batch : sequences of the batch for which the budget is meant; without it the largest of the ramp, so that
        nothing comes on top.
    law : how many tokens larger batches need on top; without one none.
    best : the best layout at a batch; without it every batch of the ramp is searched.

    Notes
    -----
    A new layout at every batch of the ramp: the run restarts from a checkpoint there, and the minutes of that are left out.
    Steps are tokens over tokens of a step, not rounded. Failures, evaluation and checkpoints are left out (`campaign`).
    """
    stages = tuple(ramp) or (RampStage(from_tokens=0.0, global_batch=config.global_batch),)
    reference = max(stage.global_batch for stage in stages) if reference_batch is None else reference_batch
    critical = run_critical_batch(law, model, tokens)

    def trained(at: float) -> tuple[float, ...]:
        return ramp_tokens(stages, tokens, seq_len=config.seq_len, reference_batch=reference, critical=at)

    def searched(batch: int) -> StepEstimate | None:
        changed = replace(config, global_batch=batch)
        return search(model, changed, cluster, profile, constraints, top=1, front=False).best

    find = searched if best is None else best
    middle = trained(math.inf if critical is None else critical.p50)
    parts = []
    for stage, count in zip(stages, middle, strict=True):
        estimate = find(stage.global_batch) if count > 0 else None
        steps = count / (stage.global_batch * config.seq_len)
        seconds = 0.0 if count <= 0 else steps * estimate.time_s if estimate is not None else math.inf
        parts.append(
            TrainStage(
                from_tokens=stage.from_tokens,
                global_batch=stage.global_batch,
                tokens=count,
                num_steps=steps,
                estimate=estimate,
                train_s=seconds,
            )
        )
    few, many = (sum(trained(critical.p90)), sum(trained(critical.p10))) if critical is not None else (sum(middle),) * 2
    return _in_all(tuple(part for part in parts if part.tokens > 0), reference, few, many)


def _in_all(stages: tuple[TrainStage, ...], reference: int, few: float, many: float) -> TrainTime:
    """The sums, with the spreads of step time and tokens taken as independent and added as squares of logarithms."""
    tokens, seconds = sum(stage.tokens for stage in stages), sum(stage.train_s for stage in stages)
    last = stages[-1].estimate
    low = high = 1.0
    if last is not None and math.isfinite(seconds):
        low = math.exp(-math.hypot(math.log(last.time_s / last.p10_s), math.log(tokens / few)))
        high = math.exp(math.hypot(math.log(last.p90_s / last.time_s), math.log(many / tokens)))
    return TrainTime(
        stages=stages,
        reference_batch=reference,
        tokens=tokens,
        tokens_p10=few,
        tokens_p90=many,
        num_steps=sum(stage.num_steps for stage in stages),
        train_s=seconds,
        train_p10_s=seconds * low,
        train_p90_s=seconds * high,
    )
