"""The batch wall and the time to a budget."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan import catalog
from makespan.scenario import parse_cluster
from makespan.search import search
from makespan.search.batch import (
    budget_tokens,
    critical_batch,
    loss_nats,
    ramp_tokens,
    token_multiplier,
    train_time,
)
from makespan.specs.search import CriticalBatchLaw, RampStage, SearchConstraints
from makespan.specs.training import StepConfig
from makespan.uncertainty import Percentiles

MODEL = catalog.model("llama3.1-8b").spec
CLUSTER = parse_cluster("64xh100-sxm")
CONFIG = StepConfig(global_batch=128, seq_len=8192, precision="bf16")
PROFILE = catalog.framework("megatron-2026").spec
THIN = SearchConstraints(thorough=False)
LAW = CriticalBatchLaw(
    name="test",
    coefficient=100.0,
    exponent=0.5,
    overhead_fraction=0.5,
    spread=2.0,
    spread_per_decade=1.5,
    fitted_tokens=1e10,
)
POSITIVE = st.floats(min_value=1e3, max_value=1e9)


def stage(tokens, batch):
    return RampStage(from_tokens=tokens, global_batch=batch)


def test_a_critical_batch_by_hand():
    """100 * sqrt(1e12) = 1e8 at half as many tokens more, so 2e8; two decades out: ln 2 and 2 ln 1.5 in squares."""
    band = critical_batch(LAW, tokens=1e12)
    factor = math.exp(math.sqrt(math.log(2.0) ** 2 + (2.0 * math.log(1.5)) ** 2))

    assert band.p50 == pytest.approx(2e8)
    assert (band.p10, band.p90) == (pytest.approx(2e8 / factor), pytest.approx(2e8 * factor))


def test_below_the_fit_only_its_own_spread_counts():
    band = critical_batch(LAW, tokens=1e8)
    assert band.p90 / band.p50 == pytest.approx(2.0)


def test_kaplans_batch_goes_by_the_loss():
    """Equations 1.4 and 1.5 of arXiv:2001.08361 at 1e11 parameters and 3e11 tokens: 2e8 / L^4.762."""
    law = catalog.batch_law("kaplan-2020").spec
    loss = ((8.8e13 / 1e11) ** 0.8 + 5.4e13 / 3e11) ** 0.095

    assert law.loss is not None
    assert loss_nats(law.loss, 1e11, 3e11) == pytest.approx(loss)
    assert critical_batch(law, tokens=3e11, num_parameters=1e11).p50 == pytest.approx(2e8 / loss**4.762)


def test_at_the_critical_batch_twice_the_fewest_tokens_are_needed():
    at = token_multiplier(7e6, 0.0, Percentiles(p10=7e6, p50=7e6, p90=7e6))
    assert (at.p10, at.p50, at.p90) == (2.0, 2.0, 2.0)


@given(POSITIVE, POSITIVE, POSITIVE, st.floats(min_value=1.0, max_value=10.0))
def test_a_multiplier_is_at_least_one_grows_with_the_batch_and_is_in_order(batch, reference, critical, spread):
    band = Percentiles(p10=critical / spread, p50=critical, p90=critical * spread)
    at = token_multiplier(batch, reference, band)

    assert 1.0 <= at.p10 <= at.p50 <= at.p90
    assert token_multiplier(2 * batch, reference, band).p50 >= at.p50
    assert at.p90 <= max(batch / reference, 1.0) * (1 + 1e-12)  # never slower than no larger batch at all


@given(st.floats(min_value=1e6, max_value=1e8), st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
def test_a_ramp_reaches_the_budget_exactly(critical, first, second, reference):
    """The tokens of the stages, each over its multiplier, add up to the budget."""
    ramp = (stage(0.0, first), stage(2e9, second))
    trained = ramp_tokens(ramp, 1e10, seq_len=100_000, reference_batch=reference, critical=critical)
    band = Percentiles(p10=critical, p50=critical, p90=critical)
    counted = [
        tokens / token_multiplier(part.global_batch * 1e5, reference * 1e5, band).p50
        for tokens, part in zip(trained, ramp, strict=True)
    ]

    assert trained[0] == pytest.approx(2e9)
    assert sum(counted) == pytest.approx(1e10)


def test_a_stage_that_is_never_reached_trains_nothing():
    ramp = (stage(0.0, 1), stage(5e9, 2))
    assert ramp_tokens(ramp, 1e9, seq_len=10, reference_batch=2, critical=math.inf) == (1e9, 0.0)


def test_time_is_steps_times_the_best_step():
    answer = train_time(MODEL, CONFIG, CLUSTER, PROFILE, THIN, tokens=1e12)
    best = search(MODEL, CONFIG, CLUSTER, PROFILE, THIN, top=1, front=False).best

    assert best is not None
    assert answer.num_steps == pytest.approx(1e12 / (128 * 8192))
    assert answer.train_s == pytest.approx(answer.num_steps * best.time_s)
    assert answer.train_p10_s / answer.train_s == pytest.approx(best.p10_s / best.time_s)
    assert (answer.tokens_p10, answer.tokens, answer.tokens_p90) == (1e12, 1e12, 1e12)


def test_a_ramp_adds_up_its_stages_each_with_its_own_layout():
    ramp = (stage(0.0, 32), stage(2.5e11, 128))
    answer = train_time(MODEL, CONFIG, CLUSTER, PROFILE, THIN, tokens=1e12, ramp=ramp)
    flat = train_time(MODEL, CONFIG, CLUSTER, PROFILE, THIN, tokens=1e12)
    small = train_time(MODEL, replace(CONFIG, global_batch=32), CLUSTER, PROFILE, THIN, tokens=1e12)

    assert [part.tokens for part in answer.stages] == [2.5e11, 7.5e11]
    assert answer.train_s == pytest.approx(0.25 * small.train_s + 0.75 * flat.train_s)
    assert answer.reference_batch == 128


def test_a_batch_above_the_reference_trains_more_tokens_with_a_spread():
    law = replace(LAW, coefficient=1.0)
    answer = train_time(MODEL, CONFIG, CLUSTER, PROFILE, THIN, tokens=1e12, reference_batch=64, law=law)
    critical = critical_batch(law, tokens=1e12)

    expected = token_multiplier(128 * 8192, 64 * 8192, critical)
    assert answer.tokens == pytest.approx(1e12 * expected.p50)
    assert (answer.tokens_p10, answer.tokens_p90) == (
        pytest.approx(1e12 * expected.p10),
        pytest.approx(1e12 * expected.p90),
    )
    assert answer.train_p10_s < answer.train_s < answer.train_p90_s
    assert train_time(MODEL, CONFIG, CLUSTER, PROFILE, THIN, tokens=1e12, law=law).tokens == 1e12


def test_where_nothing_fits_the_run_never_ends():
    model = catalog.model("llama3.1-405b").spec
    answer = train_time(model, CONFIG, replace(CLUSTER, num_accelerators=8), PROFILE, THIN, tokens=1e12)

    assert math.isinf(answer.train_s)
    assert answer.stages[0].estimate is None


def test_a_budget_of_flop_is_tokens_over_flop_a_token():
    """6N of 8.03e9 parameters without the embedding table, and causal attention: close to 4.9e10 a token."""
    assert budget_tokens(MODEL, CONFIG, 4.9e22) == pytest.approx(1e12, rel=0.08)
