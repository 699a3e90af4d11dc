"""Words of the scaling options, and the rules for what is left out."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan import catalog
from makespan.errors import ScenarioError
from makespan.scenario._search_words import (
    parse_batch_law,
    parse_budget,
    parse_max_batch,
    parse_power_limit,
    parse_ramp,
    parse_sizes,
    usual_batch,
    usual_seq_len,
    usual_tokens,
)
from makespan.specs.search import RampStage

MODEL = catalog.model("llama3.1-405b").spec


def test_sizes_are_evenly_spaced_in_whole_nodes():
    sizes = parse_sizes("8..1000000:30", per_node=8)

    assert (sizes[0], sizes[-1], len(sizes)) == (8, 1_000_000, 30)
    assert all(size % 8 == 0 for size in sizes)
    assert all(1.2 < b / a <= 2.0 for a, b in pairwise(sizes))


@given(st.integers(1, 10_000), st.integers(1, 1000), st.integers(2, 50), st.sampled_from([1, 4, 8, 72]))
def test_sizes_ascend_and_keep_their_ends(first, factor, count, per_node):
    sizes = parse_sizes(f"{first}..{first * factor}:{count}", per_node=per_node)
    assert list(sizes) == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (first, first * factor)
    assert len(sizes) <= count


@pytest.mark.parametrize(
    "text", ["", "8", "8..", "8..4", "0..8:2", "8..64:1", "8..64:999", "a..b:3", "8.5..64:4", "1..99999999999:3"]
)
def test_wrong_sizes_are_explained(text):
    with pytest.raises(ScenarioError) as caught:
        parse_sizes(text)
    assert "--scale" in str(caught.value)


def test_a_ramp_is_in_tokens_unless_it_says_sequences():
    assert parse_ramp("4M@0,16M tokens@1T", seq_len=8192) == (
        RampStage(from_tokens=0.0, global_batch=488),
        RampStage(from_tokens=1e12, global_batch=1953),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("4M", "batch@tokens"),
        ("4M@1T", "from 0 on"),
        ("4M@0,8M@0", "ascending"),
        ("1M@0,2M@2T,4M@1T", "ascending"),
        ("100@0", "less than one sequence"),
        ("9G@0", "batch@tokens"),
        ("9B@0", "at most 2 billion"),
        ("much@0", "batch@tokens"),
        ("4M@soon", "batch@tokens"),
        ("16M@0", "maximal batch of 1,000"),
    ],
)
def test_wrong_ramps_are_explained(text, says):
    with pytest.raises(ScenarioError) as caught:
        parse_ramp(text, seq_len=8192, max_batch=1000)
    assert says in str(caught.value)


def test_a_budget_in_flop_and_one_in_tokens_agree():
    from makespan.workload import model_flop_per_token

    flop = float(model_flop_per_token(MODEL, 8192)) * 2e12
    assert parse_budget(f"{flop:.15e} FLOP", MODEL, seq_len=8192) == pytest.approx(2e12)
    assert parse_budget("2T tokens", MODEL, seq_len=8192) == parse_budget("2T", MODEL, seq_len=8192) == 2e12


@pytest.mark.parametrize("text", ["", "0", "-1T", "some", "1e30", "3 GB"])
def test_wrong_budgets_are_explained(text):
    with pytest.raises(ScenarioError) as caught:
        parse_budget(text, MODEL, seq_len=8192)
    assert "--tokens" in str(caught.value)


def test_the_law_is_named_known_or_none():
    assert parse_batch_law(None).name == "bergsma-2025"
    assert parse_batch_law("kaplan-2020").loss is not None
    assert parse_batch_law("none") is None
    assert parse_batch_law(None, dt.date(2024, 12, 1)).name == "zhang-2024"
    with pytest.raises(ScenarioError, match="MS301"):
        parse_batch_law("kaplan")
    with pytest.raises(ScenarioError, match="MS505"):
        parse_batch_law("bergsma-2025", dt.date(2024, 12, 1))
    with pytest.raises(ScenarioError, match="MS505"):
        parse_batch_law(None, dt.date(2019, 1, 1))


def test_a_maximal_batch_is_at_least_the_batch():
    assert parse_max_batch("64M tokens", seq_len=8192, global_batch=2048) == 7812
    with pytest.raises(ScenarioError, match="at least the global batch"):
        parse_max_batch("1024", seq_len=8192, global_batch=2048)


@pytest.mark.parametrize("text", ["150", "0 MW", "-3 MW", "lots"])
def test_wrong_powers_are_explained(text):
    with pytest.raises(ScenarioError, match="--power-limit"):
        parse_power_limit(text)


def test_the_usual_batch_by_hand():
    """0.292 C^0.3271 at 2.5e6 FLOP... of a small run, capped by the largest published one, in a power of two."""
    from makespan.workload import model_flop_per_token

    flop = float(model_flop_per_token(MODEL, 8192)) * 1e12
    tokens = 0.2920 * flop**0.3271
    answer = usual_batch(MODEL, seq_len=8192, tokens=1e12)

    assert answer.value <= tokens / 8192 < 2 * answer.value
    assert answer.value & (answer.value - 1) == 0
    assert "0.292 C^0.327" in answer.sentence
    assert "arXiv:2401.02954" in answer.sentence
    huge = usual_batch(MODEL, seq_len=4096, tokens=1e17)
    assert huge.value * 4096 <= 63e6 < 2 * huge.value * 4096


def test_the_usual_batch_stays_within_the_maximal_one_and_says_so():
    answer = usual_batch(MODEL, seq_len=8192, tokens=15e12, max_batch=100)
    assert answer.value == 100
    assert "maximal batch" in answer.sentence


def test_rules_are_those_of_their_day():
    assert usual_tokens(dt.date(2024, 2, 1)).value == 2e12
    assert usual_tokens(dt.date(2024, 8, 1)).value == pytest.approx(15.6e12)
    assert "T tokens" in usual_tokens().sentence
    with pytest.raises(ScenarioError, match="MS505"):
        usual_tokens(dt.date(2015, 1, 1))
    assert usual_seq_len(MODEL).value == 8192
