"""Levels, rate tables and levers on small made-up answers."""

from types import SimpleNamespace

import numpy as np
import pytest

from makespan.specs.model import ModelSpec
from makespan.specs.scenario import ModelChoice
from makespan.study.levers import levers
from makespan.study.rates import anchor_levels, draw_models, rate_table


def found(flop_per_s):
    if flop_per_s is None:
        return SimpleNamespace(best=None)
    return SimpleNamespace(best=SimpleNamespace(model_flop=flop_per_s, time_s=1.0))


def test_levels_are_whole_nodes_between_the_bounds():
    levels = anchor_levels(1000, 100, accelerators_per_node=8)
    assert all(level % 8 == 0 for level in levels)
    assert levels[-1] == 1000
    assert 96 <= levels[0] <= 100


def test_levels_of_a_cluster_smaller_than_a_node():
    assert anchor_levels(4, 1, accelerators_per_node=8) == (1, 2, 4)


def test_rate_is_interpolated_per_accelerator_and_divided_by_the_slowdown():
    table = rate_table([{100: found(100.0), 1000: found(800.0)}], np.array([0, 0]), np.array([1.0, 2.0]))
    assert table.num_accelerators[0] == 100
    assert table.num_accelerators[-1] == 1000
    np.testing.assert_allclose(table.flop_per_s[0, [0, -1]], [100.0, 800.0])
    np.testing.assert_allclose(table.flop_per_s[1], table.flop_per_s[0] / 2)
    per_accelerator = table.flop_per_s[0] / table.num_accelerators
    assert np.all(np.diff(per_accelerator) <= 0)


def test_rate_is_zero_below_the_smallest_size_that_fits():
    table = rate_table([{10: found(None), 500: found(500.0), 1000: found(900.0)}], np.array([0]), np.ones(1))
    below = table.num_accelerators < 500
    assert below.any()
    assert np.all(table.flop_per_s[0, below] == 0)
    assert np.all(table.flop_per_s[0, ~below] > 0)


def test_no_table_where_nothing_fits():
    assert rate_table([{10: found(None), 20: found(None)}], np.array([0]), np.ones(1)) is None


def test_each_replicate_trains_the_model_it_drew():
    spec = ModelSpec(name="m", num_layers=1, hidden=1, num_heads=1, num_kv_heads=1, head_dim=1, ffn_hidden=1, vocab=1)
    choices = [ModelChoice(model=spec, weight=1.0), ModelChoice(model=spec, weight=3.0)]
    assert draw_models(choices, np.array([0.0, 0.24, 0.26, 0.999])).tolist() == [0, 0, 1, 1]


def test_levers_name_the_input_the_date_follows_and_not_the_noise():
    rng = np.random.default_rng(1)
    tokens, noise = rng.random(1000), rng.random(1000)
    release = 100.0 + 50.0 * tokens + rng.random(1000)
    result = SimpleNamespace(
        option=SimpleNamespace(name="build"), campaign=SimpleNamespace(release_s=release, horizon_s=1e9)
    )
    (lever,) = levers([result], [frozenset({"tokens", "noise"})], {"tokens": tokens, "noise": noise})
    assert lever.name == "tokens"
    assert lever.late_s - lever.early_s == pytest.approx(50 * 0.8, abs=3)  # medians of the outer fifths: 0.1 and 0.9


def test_an_option_that_mostly_never_finishes_has_no_levers():
    release = np.where(np.arange(100) < 60, np.inf, 1.0)
    result = SimpleNamespace(
        option=SimpleNamespace(name="never"), campaign=SimpleNamespace(release_s=release, horizon_s=10.0)
    )
    assert levers([result], [frozenset({"x"})], {"x": np.arange(100.0)}) == ()
