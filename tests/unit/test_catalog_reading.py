"""The catalog's reader: which observation is used, what becomes of a range, what is said of a wrong name."""

import datetime as dt
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan import catalog
from makespan.catalog import files
from makespan.catalog.build import BUILDERS
from makespan.catalog.errors import CatalogError, NotYetKnown, UnknownName
from makespan.catalog.facts import Reader
from makespan.errors import EXIT_USER, MakespanError
from makespan.provenance import Kind
from makespan.uncertainty import Fixed, Percentiles, Triangular

ANNOUNCED = dt.date(2022, 9, 20)


def reader(raw: dict[str, Any], as_of: dt.date | None = None) -> Reader:
    return Reader(
        kind="node", name="n", raw={"known_on": ANNOUNCED, **raw}, file="nodes/n.yaml", prefix="nodes.n", as_of=as_of
    )


OBSERVED = {
    "power": {
        "observations": [
            {"value": "10 kW", "kind": "assumed", "range": ["8 kW", "12 kW"], "why": "a guess"},
            {"value": "9 kW", "kind": "measured", "source": "mlperf-v4.0"},  # published on 12 June 2024
            {"value": "8 kW", "kind": "measured", "source": "mlperf-v4.1"},  # published on 13 November 2024
        ]
    }
}


@pytest.mark.parametrize(
    ("as_of", "watt", "kind"),
    [
        (dt.date(2022, 9, 20), 10e3, Kind.ASSUMED),
        (dt.date(2024, 6, 11), 10e3, Kind.ASSUMED),
        (dt.date(2024, 6, 12), 9e3, Kind.MEASURED),
        (dt.date(2024, 11, 12), 9e3, Kind.MEASURED),
        (dt.date(2024, 11, 13), 8e3, Kind.MEASURED),
        (None, 8e3, Kind.MEASURED),
    ],
)
def test_the_newest_observation_known_on_the_day_is_used(as_of: dt.date | None, watt: float, kind: Kind):
    r = reader(OBSERVED, as_of)

    assert r.number("power", "power") == watt
    assert [f.kind for f in r.facts] == [kind]


@given(st.dates(dt.date(2022, 9, 20), dt.date(2027, 1, 1)))
def test_a_later_day_never_uses_an_older_fact(day: dt.date):
    now, later = reader(OBSERVED, day), reader(OBSERVED, day + dt.timedelta(days=100))
    now.number("power", "power")
    later.number("power", "power")
    first, second = now.facts[0].known_on, later.facts[0].known_on

    assert first is not None
    assert second is not None
    assert first <= day
    assert first <= second


def test_before_the_first_observation_nothing_is_made_up():
    with pytest.raises(NotYetKnown, match="power was not known on 2022-09-19") as caught:
        reader(OBSERVED, dt.date(2022, 9, 19)).number("power", "power")
    assert caught.value.known_on == ANNOUNCED
    assert caught.value.exit_code == EXIT_USER


def test_a_plain_value_takes_kind_and_source_from_its_entry():
    r = reader({"cite": {"kind": "datasheet", "source": "nvidia-h100-datasheet"}, "tdp": "700 W"})

    assert r.number("tdp", "power") == 700.0
    fact = r.facts[0]
    assert (fact.kind, fact.path, fact.text) == (Kind.DATASHEET, "nodes.n.tdp", "700 W")
    assert fact.source is not None
    assert fact.known_on == fact.source.date == dt.date(2022, 9, 20)


def test_a_fact_with_its_own_kind_takes_nothing_from_its_entry():
    r = reader(
        {
            "cite": {"kind": "datasheet", "source": "nvidia-h100-datasheet"},
            "idle": {"value": "70 W", "kind": "assumed", "range": ["50 W", "120 W"], "why": "none found"},
        }
    )
    r.number("idle", "power")

    assert r.facts[0].source is None
    assert (r.facts[0].low, r.facts[0].high, r.facts[0].known_on) == ("50 W", "120 W", ANNOUNCED)


def test_ranges_and_percentiles_become_distributions_in_si():
    r = reader(
        {
            "a": {"value": "2 d", "kind": "assumed", "range": ["1 d", "4 d"], "why": "w"},
            "b": {"p10": "1 d", "p50": "2 d", "p90": "5 d", "kind": "assumed", "why": "w"},
            "c": {"value": "2 d", "kind": "quoted", "source": "mlperf-v4.0"},
        }
    )
    day = 86400.0

    assert r.distribution("a", "time") == Triangular(name="nodes.n.a", low=day, mode=2 * day, high=4 * day)
    assert r.distribution("b", "time") == Percentiles(name="nodes.n.b", p10=day, p50=2 * day, p90=5 * day)
    assert r.distribution("c", "time") == Fixed(name="nodes.n.c", value=2 * day)
    assert [(f.low, f.high) for f in r.facts] == [("1 d", "4 d"), ("1 d", "5 d"), ("", "")]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "power is missing"),
        ({"power": {"value": 700, "kind": "datasheet", "source": "mlperf-v4.0"}}, "no unit"),
        ({"power": {"value": "700 GB", "kind": "datasheet", "source": "mlperf-v4.0"}}, "expected a power"),
        ({"power": {"value": "700 W", "kind": "guess"}}, "kind 'guess'"),
        ({"power": "700 W"}, "kind None"),
        ({"power": {"value": "700 W", "kind": "datasheet", "source": "mlperf-v4"}}, "no source 'mlperf-v4'"),
    ],
)
def test_a_wrong_fact_names_its_file_and_field(raw: dict[str, Any], message: str):
    with pytest.raises(CatalogError, match=message):
        reader(raw).number("power", "power")


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownName) as caught:
        catalog.accelerator("h200sxm")
    error = caught.value

    assert (error.kind, error.name) == ("accelerator", "h200sxm")
    assert error.suggestions[0] == "h200-sxm"
    assert (
        str(error)
        == "no accelerator called 'h200sxm' in the catalog; did you mean "
        + ", ".join(repr(s) for s in error.suggestions)
        + "?"
    )
    assert isinstance(error, KeyError)
    assert isinstance(error, MakespanError)
    assert error.exit_code == EXIT_USER


@given(st.text(max_size=30))
def test_any_other_name_is_an_unknown_name(name: str):
    for kind in catalog.kinds():
        if name not in catalog.names(kind):
            with pytest.raises(UnknownName):
                catalog.entry(kind, name)


def test_suggestions_find_a_part_of_a_name_and_stay_silent_on_nonsense():
    assert "grok-3-stand-in" in catalog.suggest("model", "grok-3")
    assert "h100-sxm" in catalog.suggest("accelerator", "H100_SXM")
    assert catalog.suggest("model", "zzzz") == []


def test_an_unknown_kind_is_said_to_be_one():
    with pytest.raises(UnknownName, match="kind of entry"):
        catalog.names("gpu")


def test_one_entry_opens_one_file(monkeypatch: pytest.MonkeyPatch):
    """`check` has to stay quick: nothing but the file of the entry and the sources it cites is parsed."""
    parsed: list[str] = []
    plain = files.parse_yaml

    def counting(text: str, where: str) -> dict[str, Any]:
        parsed.append(f"{where} {len(text)}")
        return plain(text, where)

    monkeypatch.setattr(files, "parse_yaml", counting)
    files.raw_entry.cache_clear()
    files.source.cache_clear()
    raw = files.raw_entry("node", "hgx-a100")
    BUILDERS["node"](reader(raw))

    entries = [p for p in parsed if not p.startswith("sources.yaml")]
    sources = [p for p in parsed if p.startswith("sources.yaml")]
    assert len(entries) == 1
    assert len(sources) == 2  # the datasheet and the trace it cites, one small block each
    assert all(int(p.split()[1]) < 800 for p in sources)


def test_a_source_written_twice_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    (tmp_path / "sources.yaml").write_text("a: {title: x}\nb: {title: y}\na: {title: z}\n", encoding="utf-8")
    monkeypatch.setattr(files, "data", lambda: tmp_path)
    files._source_blocks.cache_clear()
    try:
        with pytest.raises(CatalogError, match="'a' appears twice"):
            files.source_keys()
    finally:
        files._source_blocks.cache_clear()


def test_a_file_that_is_no_mapping_is_refused():
    with pytest.raises(CatalogError, match="a mapping at the top"):
        files.parse_yaml("- a\n- b\n", "nodes/x.yaml")
    with pytest.raises(CatalogError, match=r"nodes/x\.yaml"):
        files.parse_yaml("a: [1\n", "nodes/x.yaml")
    with pytest.raises(CatalogError, match="duplicate key"):
        files.parse_yaml("a: 1\na: 2\n", "nodes/x.yaml")


def test_a_field_that_the_architecture_does_not_have_is_refused():
    raw = {"architecture": {"num_layers": 1, "layers": 2}, "cite": {"kind": "published", "source": "mixtral"}}
    with pytest.raises(CatalogError, match="unknown fields"):
        BUILDERS["model"](reader(raw))


def test_prices_are_dated_and_kept_back_until_known():
    everything = catalog.prices("h100-sxm")
    by_mid_2024 = catalog.prices("h100-sxm", dt.date(2024, 7, 10))

    assert [p.on for p in everything] == sorted(p.on for p in everything)
    assert set(by_mid_2024) < set(everything)
    assert max(p.on for p in by_mid_2024) == dt.date(2024, 5, 1)
    aws = next(p for p in everything if p.shape == "p5.48xlarge" and p.terms == "reserved-3y")
    assert math.isclose(aws.low_usd_per_s * 3600, 5.40)
    assert aws.low_usd_per_s == aws.high_usd_per_s
    assert {p.accelerator for p in catalog.prices()} > {"h100-sxm", "h200-sxm"}


def test_rules_for_missing_fields_carry_their_sentence():
    rules = catalog.defaults(dt.date(2024, 7, 10)).spec

    for name, rule in rules.items():
        assert rule.name == name
        assert rule.rule, name
        assert rule.fact.path == f"defaults.rules.{name}"
    assert rules["pue"].value.central == 1.3
    assert {"run_share", "execution", "restarted_work", "burn_in", "take_or_pay", "energy_price"} <= set(rules)
