"""Forms of a value, units, dates, provenance: what a key of the file becomes."""

from __future__ import annotations

import datetime as dt

import pytest

from makespan.errors import ScenarioError
from makespan.provenance import Kind
from makespan.scenario import load
from makespan.uncertainty import Discrete, Fixed, Percentiles, Triangular, Uniform
from makespan.units import DAY_S, HOUR_S

TEXT = """\
makespan: 1
as_of: 2026-11-01
sources:
  report: {{title: A report, publisher: Somebody, date: 2026-05-01, kind: quoted}}
model: llama3.1-70b
run:
  share: {share}
  stages:
    - {{name: pretraining, tokens: {tokens}, seq_len: 8192, global_batch: {batch}, precision: bf16}}
options:
  - {{name: Rent, kind: rent, accelerator: h100-sxm, count: 4096, from: {begin}, price: {price}}}
"""


def scenario(**values):
    defaults = {"share": "80 %", "tokens": "15T", "batch": "2048", "begin": "2026-12-01", "price": "2.50 USD/h"}
    return load(TEXT.format(**{**defaults, **values}))


def tokens(written):
    return scenario(tokens=written).training.stages[0].tokens


def problem(**values):
    with pytest.raises(ScenarioError) as caught:
        scenario(**values)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_each_form_is_its_distribution():
    name = "run.stages.pretraining.tokens"
    assert tokens("15T") == Fixed(name=name, value=15e12)
    assert tokens("{value: 15T}") == Fixed(name=name, value=15e12)
    assert tokens("{value: 15T, range: [12T, 20T]}") == Triangular(name=name, low=12e12, mode=15e12, high=20e12)
    assert tokens("{range: [12T, 20T]}") == Uniform(name=name, low=12e12, high=20e12)
    assert tokens("{range: [12T, 12T]}") == Fixed(name=name, value=12e12)
    assert tokens("{p10: 12T, p50: 15T, p90: 20T}") == Percentiles(name=name, p10=12e12, p50=15e12, p90=20e12)
    assert tokens("{values: [12T, 20T], weights: [1, 3]}") == Discrete(
        name=name, values=(12e12, 20e12), weights=(1.0, 3.0)
    )
    assert tokens("{values: [12T, 20T]}") == Discrete(name=name, values=(12e12, 20e12), weights=(1.0, 1.0))


def test_dates_are_seconds_after_as_of():
    (step,) = scenario(begin="2026-12-01").options[0].pools[0].ramp
    assert step.from_s.central == 30 * DAY_S
    (step,) = scenario(begin="{value: 2026-12-01, range: [2026-11-21, 2027-01-10]}").options[0].pools[0].ramp
    assert (step.from_s.low, step.from_s.high) == (20 * DAY_S, 70 * DAY_S)
    (step,) = scenario(begin="2026-10-02").options[0].pools[0].ramp
    assert step.from_s.central == -30 * DAY_S


def test_prices_are_per_second():
    price = scenario(price="3.60 USD/h").options[0].pools[0].price_usd_per_accelerator_s
    assert price.central == pytest.approx(3.6 / HOUR_S)


@pytest.mark.parametrize(
    ("written", "sequences"),
    [
        ("2048", 2048),
        ("2048 sequences", 2048),
        ("1 sequence", 1),
        ("2k", 2000),
        ("16M tokens", 1953),
        ("8192 tokens", 1),
    ],
)
def test_batches_are_sequences_or_tokens(written, sequences):
    assert scenario(batch=written).training.stages[0].step.global_batch == sequences


@pytest.mark.parametrize("written", ["0", "-1", "2.5", "100 tokens", "many", "[1]", "true", "1e30"])
def test_batches_that_are_none(written):
    assert problem(batch=written).code == "MS201"


def test_a_problem_points_at_the_value():
    found = problem(price="2.50")
    assert (found.code, found.where, found.line, found.column) == ("MS201", "options.rent.price", 11, 91)
    found = problem(price="{value: 2.50 USD/h, range: [2 USD/h, 3 EUR/h]}")
    assert (found.code, found.line) == ("MS201", 11)
    assert "EUR" in found.found


def test_every_problem_in_one_pass():
    with pytest.raises(ScenarioError) as caught:
        scenario(share="180 %", tokens="15", batch="0", begin="2026-13-01", price="free")
    codes = [p.code for p in caught.value.problems]
    assert codes == ["MS203", "MS201", "MS201", "MS204", "MS201"]
    assert [p.line for p in caught.value.problems] == [7, 9, 9, 11, 11]


@pytest.mark.parametrize(
    ("written", "instead", "code"),
    [
        ("as_of: 2026-11-01", "as_of: 9999-12-31", "MS204"),
        ("as_of: 2026-11-01", "as_of: 0001-01-01", "MS204"),
        ("count: 64", "count: 1e30", "MS203"),
        ("count: 64", "count: 10000001", "MS203"),
        ("llama3.1-70b", "{num_layers: 10001, hidden: 64, num_heads: 2, vocab: 256, ffn_hidden: 256}", "MS203"),
        ("llama3.1-70b", "{num_layers: 2, hidden: 1e12, num_heads: 2, vocab: 256, ffn_hidden: 256}", "MS203"),
    ],
)
def test_sizes_and_days_beyond_reason_are_refused(written, instead, code):
    text = (
        "makespan: 1\nas_of: 2026-11-01\nmodel: llama3.1-70b\ntokens: 1T\ncluster: {accelerator: h100-sxm, count: 64}\n"
    )
    assert load(text).name
    with pytest.raises(ScenarioError) as caught:
        load(text.replace(written, instead))
    assert [found.code for found in caught.value.problems] == [code]


def test_a_fact_keeps_text_kind_source_and_line():
    facts = {f.path: f for f in scenario(tokens="{value: 15T, range: [12T, 20T], source: report, where: page 3}").facts}
    fact = facts["run.stages.pretraining.tokens"]
    assert (fact.text, fact.low, fact.high, fact.kind, fact.line) == ("15T", "12T", "20T", Kind.QUOTED, 9)
    assert (fact.source.key, fact.where, fact.known_on) == ("report", "page 3", dt.date(2026, 5, 1))
    assert facts["options.rent.price"].kind is Kind.DECISION


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("{value: 15T, source: report, how: half of 30T}", Kind.DERIVED),
        ("{value: 15T, source: report, kind: measured}", Kind.MEASURED),
        ("{value: 15T, assumed: as before}", Kind.ASSUMED),
        ("{value: 15T, decision: ours}", Kind.DECISION),
        ("15T", Kind.DECISION),
    ],
)
def test_kinds_of_facts(written, kind):
    facts = {f.path: f for f in scenario(tokens=written).facts}
    assert facts["run.stages.pretraining.tokens"].kind is kind


def test_provenance_beside_a_value_counts_for_it():
    text = TEXT.replace("precision: bf16}}", "precision: bf16, assumed: a guess}}")
    loaded = load(text.format(share="80 %", tokens="15T", batch="2048", begin="2026-12-01", price="2 USD/h"))
    facts = {f.path: f for f in loaded.facts}
    assert (facts["run.stages.pretraining.tokens"].kind, facts["run.stages.pretraining.tokens"].why) == (
        Kind.ASSUMED,
        "a guess",
    )


def test_an_alias_is_the_same_unknown_number():
    text = TEXT.format(
        share="&s {range: [60 %, 80 %]}", tokens="15T", batch="2048", begin="2026-12-01", price="2 USD/h"
    )
    training = load(text.replace("  stages:", "  restarted_work: *s\n  stages:")).training
    assert training.run_share[0].share.name == training.restarted_work.name == "run.share"


def test_share_by_date_starts_with_nothing_before_its_first_step():
    loaded = scenario(share="[{from: 2026-11-11, value: 50 %}, {from: 2026-12-01, share: 90 %}]")
    assert [(s.from_s / DAY_S, s.share.central) for s in loaded.training.run_share] == [(0, 0), (10, 0.5), (30, 0.9)]


def test_yaml_1_2_keeps_words_and_dates_as_text():
    loaded = load(
        TEXT.format(share="80 %", tokens="15T", batch="2048", begin="2026-12-01", price="2 USD/h").replace(
            "name: Rent", "name: no"
        )
    )
    assert loaded.options[0].name == "no"


def test_crlf_and_byte_order_mark(tmp_path):
    path = tmp_path / "s.yaml"
    text = TEXT.format(share="80 %", tokens="15T", batch="2048", begin="2026-12-01", price="2 USD/h")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load(path).training == load(text).training
