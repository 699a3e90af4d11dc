"""The two cases with an outcome: every input has an origin, nothing was learnt after `as_of`, the outcome is no input."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from makespan.errors import ScenarioError
from makespan.provenance import Kind
from makespan.scenario import load
from makespan.specs.scenario import Scenario
from makespan.specs.supply import BuildSpec, RentSpec
from makespan.units import parse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CASES = ("memphis-2024.yaml", "llama3-405b.yaml")
ORIGINS = ("source", "assumed", "decision")
PLAIN = {"units", "spare_units", "term", "take_or_pay", "share_used", "largest_cluster", "residual"}
"""Fields that hold one number by design: their uncertainty can only be said in words."""


def raw(name: str) -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe", pure=True).load((EXAMPLES / name).read_text())
    return document


def day(value: object) -> dt.date:
    return value if isinstance(value, dt.date) else dt.date.fromisoformat(str(value))


def mappings(node: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping of the inputs with its path; the outcome and the list of sources are left out."""
    if isinstance(node, dict):
        yield path, node
        for key, child in node.items():
            if key not in ("observed", "sources"):
                yield from mappings(child, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from mappings(child, f"{path}[{index}]")


def spread_of(mapping: dict[str, Any]) -> bool:
    return "range" in mapping or {"p10", "p50", "p90"} <= set(mapping)


def inputs_of(scenario: Scenario) -> Scenario:
    """The scenario without what then happened, and without its text."""
    options = tuple(dataclasses.replace(option, observed=()) for option in scenario.options)
    facts = tuple(dataclasses.replace(fact, file="") for fact in scenario.facts)
    return dataclasses.replace(scenario, options=options, observed=(), facts=facts, sources=(), text="", path="")


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# ---------------------------------------------------------------------------------------------- origins and dates


def test_the_case_is_strict(case):
    assert raw(case)["strict"] is True


def test_a_number_has_one_origin(case):
    doubled = [path for path, mapping in mappings(raw(case)) if sum(key in mapping for key in ORIGINS) > 1]
    assert doubled == []


def test_an_assumption_has_a_range_and_a_reason(case):
    bare, mute = [], []
    for path, mapping in mappings(raw(case)):
        if "assumed" not in mapping:
            continue
        if len(mapping["assumed"]) < 6:
            mute.append(path)
        numbers = [mapping] if "value" in mapping else [m for m in mapping.values() if isinstance(m, dict)]
        if path.rpartition(".")[2] not in PLAIN and not any(spread_of(number) for number in numbers):
            bare.append(path)
    assert (bare, mute) == ([], [])


def test_a_source_was_printed_by_then_or_says_why_it_was_known(case):
    document = raw(case)
    as_of, late = day(document["as_of"]), []
    for path, mapping in mappings(document):
        if "source" not in mapping:
            continue
        known = mapping.get("known_on", document["sources"][mapping["source"]]["date"])
        if day(known) > as_of or ("known_on" in mapping and len(mapping.get("how", "")) < 40):
            late.append(path)
    assert late == []


def test_every_source_has_date_publisher_and_place_and_is_used(case):
    document = raw(case)
    used = {m["source"] for _, m in mappings(document) if "source" in m}
    observed = list(document.get("observed", []))
    for option in document["options"]:
        observed += option.get("observed", [])
    used |= {entry["source"] for entry in observed}
    assert used == set(document["sources"])
    for key, source in document["sources"].items():
        assert source["publisher"], key
        assert source["title"], key
        assert day(source["date"]) <= dt.date(2026, 12, 31), key
        assert source.get("url", "").startswith("https://") or "from memory" in source.get("note", ""), key


def test_what_happened_happened_later(case):
    document = raw(case)
    as_of = day(document["as_of"])
    observed = list(document.get("observed", [])) + [e for o in document["options"] for e in o.get("observed", [])]
    assert observed
    names = {option["name"] for option in document["options"]}
    for entry in observed:
        assert day(document["sources"][entry["source"]]["date"]) > as_of
        assert entry.get("option", next(iter(names))) in names
        if "date" in entry:
            assert day(entry["date"]) > as_of


# ---------------------------------------------------------------------------------------------------- as loaded


def test_loaded_facts_were_known_and_none_is_a_bare_guess(case):
    scenario = load(EXAMPLES / case)
    late = [f.path for f in scenario.facts if f.known_on is not None and f.known_on > scenario.as_of]
    mute = [f.path for f in scenario.facts if f.kind == Kind.ASSUMED and not f.why]
    homeless = [f.path for f in scenario.facts if f.kind > Kind.DECISION and f.source is None and not f.how]
    assert scenario.facts
    assert (late, mute, homeless) == ([], [], [])


def test_the_outcome_changes_no_input(case, tmp_path):
    text = (EXAMPLES / case).read_text()
    document = raw(case)
    before = inputs_of(load(EXAMPLES / case))
    changed = text
    entries = list(document.get("observed", [])) + [e for o in document["options"] for e in o.get("observed", [])]
    for entry in entries:
        if "date" in entry:
            changed = changed.replace(
                f"date: {entry['date']}, source: {entry['source']}", "date: 2031-01-01, source: " + entry["source"]
            )
        changed = changed.replace(entry["text"][:20], "something else happened")
    other = tmp_path / case
    other.write_text(changed)
    after = load(other)
    assert changed != text
    assert any(
        o.text.startswith("something else") for o in (*after.observed, *(o for x in after.options for o in x.observed))
    )
    assert inputs_of(after) == before


def test_a_source_of_the_next_day_is_refused(case, tmp_path):
    text = (EXAMPLES / case).read_text()
    as_of = day(raw(case)["as_of"])
    key = "musk-2024-07-09" if case.startswith("memphis") else "meta-2024-06-12"
    head, mark, tail = text.partition(f"  {key}: {{")
    printed = str(raw(case)["sources"][key]["date"])
    other = tmp_path / case
    other.write_text(head + mark + tail.replace(f"date: {printed}", f"date: {as_of + dt.timedelta(days=1)}", 1))
    with pytest.raises(ScenarioError) as caught:
        load(other)
    assert str(as_of + dt.timedelta(days=1)) in str(caught.value)


def test_a_number_without_an_origin_is_refused(case, tmp_path):
    text = (EXAMPLES / case).read_text()
    marked = "{value: 100 %, decision: reserved capacity is paid for}"
    marked = marked if marked in text else "{value: 100 %, decision: its own machine}"
    other = tmp_path / case
    other.write_text(text.replace(f"take_or_pay: {marked}", "take_or_pay: 100 %", 1))
    with pytest.raises(ScenarioError, match="take_or_pay"):
        load(other)


# ---------------------------------------------------------------------------------------------- what the cases say


@pytest.fixture(scope="module")
def memphis() -> Scenario:
    return load(EXAMPLES / "memphis-2024.yaml")


def test_memphis_has_the_five_ways(memphis):
    kinds = [(option.kind, len(option.pools)) for option in memphis.options]
    assert kinds == [("rent", 1), ("rent", 1), ("build", 1), ("build", 1), ("mix", 2)]
    stay, deal, site, campus, mix = memphis.options
    assert mix.pools[0].accelerator == stay.pools[0].accelerator
    assert isinstance(mix.pools[1], BuildSpec)
    assert (
        mix.pools[1].num_accelerators == site.pools[0].num_accelerators == campus.pools[0].num_accelerators == 100_000
    )
    assert isinstance(deal.pools[0], RentSpec)
    assert deal.pools[0].ramp[-1].num_accelerators.central == 100_000


def test_memphis_power_on_the_first_day_is_the_8_mw_feed(memphis):
    site = memphis.options[2].pools[0]
    firm = [source for source in site.power if source.firm]
    assert sum(s.capacity_w.central * s.num_units for s in firm if s.from_s.central <= 0) == pytest.approx(8e6)
    grid = sum(s.capacity_w.central for s in firm if s.kind == "grid")
    assert grid == pytest.approx(parse("150 MW", "power"))
    first = next(s for s in site.power if s.num_units == 14)
    assert first.capacity_w.central * first.num_units + 8e6 == pytest.approx(43e6)
    assert any(s.kind == "battery" and not s.firm for s in site.power)


def test_memphis_halls_and_lots_make_the_whole(memphis):
    site = memphis.options[2].pools[0]
    assert [hall.num_accelerators for hall in site.halls] == [25_000] * 4
    assert sum(lot.num_accelerators for lot in site.deliveries) == site.num_accelerators


def test_memphis_compute_spans_the_two_estimates(memphis):
    stage = memphis.training.stages[0]
    low, high = stage.flop.low, stage.flop.high
    assert low == pytest.approx(200e6 * 3600 * 0.40 * 989.4e12, rel=2e-3)
    assert high == pytest.approx(4.64e26)


def test_the_price_of_the_deal_is_ten_billion_over_its_years(memphis):
    price = memphis.options[1].pools[0].price_usd_per_accelerator_s
    for years, usd_per_s in ((2, price.high), (3, price.mode), (5, price.low)):
        assert usd_per_s * 100_000 * years * 8766 * 3600 == pytest.approx(10e9, rel=3e-3)


def test_llama_has_the_tokens_and_batches_of_the_paper():
    scenario = load(EXAMPLES / "llama3-405b.yaml")
    first, second, long, tuning = scenario.training.stages
    assert first.tokens.central + second.tokens.central == pytest.approx(15.6e12)
    assert [s.step.tokens_per_step for s in (first, second, long)] == [2**23, 2**24, 2**24]
    assert long.step.seq_len == 131_072
    assert tuning.kind == "calendar"
    assert scenario.options[0].pools[0].ramp[0].num_accelerators.central == 16_384
