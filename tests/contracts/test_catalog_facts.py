"""Every number of the catalog says what it is, where it is from, and since when it could be known."""

import csv
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pytest

from makespan import catalog
from makespan.catalog import files
from makespan.catalog.facts import FACT_KEYS, KINDS, is_fact
from makespan.uncertainty import Distribution
from makespan.units import QUANTITIES, UnitError, parse

ENTRIES = [(kind, name) for kind in catalog.kinds() for name in catalog.names(kind)]
PLAIN = {
    *("name", "known_on", "note", "cite", "vendor", "family", "usual_node", "usual_fabric", "accelerator", "cooling"),
    *("provider", "shape", "place", "node", "fabric", "architecture", "supports", "measured_on", "largest_measured"),
    *("measured_precisions", "released", "aliases"),
}
"""Fields that are names, lists or switches, not numbers with a source."""
DAYS = [dt.date(2024, 3, 12), dt.date(2024, 7, 10), dt.date(2025, 6, 1), dt.date(2026, 12, 1)]


@dataclass(frozen=True)
class Stated:
    """One fact as written, with what it takes from its entry's `cite`."""

    where: str
    fact: dict[str, Any]
    entry_known_on: dt.date


def stated(where: str, raw: dict[str, Any]) -> Iterator[Stated]:
    public = raw["known_on"]

    def walk(path: str, node: Any) -> Iterator[Stated]:
        if is_fact(node):
            for fact in [node, *node.get("observations", []), *node.get("also", [])]:
                if "observations" not in fact:
                    yield Stated(f"{where}: {path}", cited(fact), public)
        elif isinstance(node, dict):
            for key, child in node.items():
                yield from walk(f"{path}.{key}", child)
        elif isinstance(node, list):
            for child in node:
                yield from walk(path, child)
        elif node != "unbounded":
            yield Stated(f"{where}: {path}", cited({"value": node}), public)

    def cited(fact: dict[str, Any]) -> dict[str, Any]:
        return fact if {"kind", "source"} & set(fact) else {**raw.get("cite", {}), **fact}

    for key, child in raw.items():
        if key == "architecture":
            yield Stated(f"{where}: {key}", {"value": "as listed", **raw["cite"]}, public)
        elif key not in PLAIN:
            yield from walk(key, child)


def all_facts() -> list[Stated]:
    found = [f for kind, name in ENTRIES for f in stated(f"{kind} {name}", files.raw_entry(kind, name))]
    return found + list(stated("defaults", files.raw_file("defaults.yaml")))


FACTS = all_facts()


def complaints(check: Any) -> list[str]:
    return [f"{f.where}: {text}" for f in FACTS for text in [check(f)] if text]


def test_there_are_facts_to_check():
    assert len(ENTRIES) > 60
    assert len(FACTS) > 800


def test_every_fact_says_what_kind_it_is():
    assert complaints(lambda f: f.fact.get("kind") not in KINDS and f"kind {f.fact.get('kind')!r}") == []


def test_no_fact_has_a_key_nobody_reads():
    known = FACT_KEYS | {"observations"}
    assert complaints(lambda f: sorted(set(f.fact) - known) or "") == []


def test_every_fact_has_a_source_or_is_an_assumption_with_reason_and_range():
    def check(f: Stated) -> str:
        kind = f.fact["kind"]
        if kind == "assumed":
            has_range = f.fact.get("range") or {"p10", "p90"} <= f.fact.keys()
            return "" if f.fact.get("why") and has_range else "assumed without why and range"
        if kind == "decision":
            return "" if f.fact.get("why") else "a decision without why"
        if kind == "derived" and not f.fact.get("how"):
            return "derived without how"
        return "" if f.fact.get("source") else f"{kind} without a source"

    assert complaints(check) == []


def test_every_source_is_listed_and_complete():
    keys = set(files.source_keys())
    assert complaints(lambda f: f.fact.get("source", next(iter(keys))) not in keys and f.fact["source"]) == []
    for key, source in catalog.sources().items():
        assert source.key == key
        assert source.title
        assert source.publisher
        assert source.date <= dt.date(2026, 12, 31)


def test_no_source_is_unused():
    used = {f.fact.get("source") for f in FACTS}
    rows = csv.DictReader((files.data() / "prices.csv").read_text(encoding="utf-8").splitlines())
    used |= {row["source"] for row in rows}
    assert sorted(set(files.source_keys()) - used) == []


def test_nothing_was_known_before_its_source_without_a_reason():
    def check(f: Stated) -> str:
        stated_on, source = f.fact.get("known_on"), f.fact.get("source")
        if stated_on is None or source is None or stated_on >= files.source(source).date:
            return ""
        return "" if f.fact.get("known_on_because") else f"known on {stated_on}, its source is later"

    assert complaints(check) == []


def in_one_quantity(texts: list[Any]) -> list[float] | None:
    """The values in the first kind of quantity that fits them all."""
    for quantity in QUANTITIES:
        try:
            return [parse(text, quantity) for text in texts]
        except UnitError:
            continue
    return None


def test_every_range_holds_its_value():
    def check(f: Stated) -> str:
        if "p50" in f.fact:
            texts = [f.fact[p] for p in ("p10", "p50", "p90")]
        elif "range" in f.fact and f.fact["value"] != "as listed":
            texts = [f.fact["range"][0], f.fact["value"], f.fact["range"][1]]
        else:
            return ""
        values = in_one_quantity(texts)
        if values is None:
            return f"{texts} are not quantities of one kind"
        return "" if values == sorted(values) else f"{texts[1]} outside {texts[0]} to {texts[2]}"

    assert complaints(check) == []


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_an_entry_can_be_read_from_the_day_it_was_public(kind: str, name: str):
    """There is a fact for every field that old: a plan made on that day would not have had to stop."""
    public = catalog.entry(kind, name).known_on
    assert public is not None
    early = catalog.entry(kind, name, public)

    assert [f for f in early.facts if f.known_on is not None and f.known_on > public] == []
    with pytest.raises(catalog.NotYetKnown) as caught:
        catalog.entry(kind, name, public - dt.timedelta(days=1))
    assert caught.value.known_on == public


@pytest.mark.parametrize("day", DAYS)
def test_no_fact_is_later_than_the_day_asked_for(day: dt.date):
    late = []
    for kind, name in ENTRIES:
        try:
            entry = catalog.entry(kind, name, day)
        except catalog.NotYetKnown:
            continue
        late += [f.path for f in entry.facts if f.known_on is None or f.known_on > day]
        late += [f.path for f in entry.facts if f.source is not None and f.known_on is None]
    late += [f.path for f in catalog.defaults(day).facts if f.known_on is None or f.known_on > day]

    assert late == []


OPTIONAL = {"wave_weight", "softmax_head_dim", "half_waves", "multiprocessors", "uneven_experts"} | {"host_bytes_per_s"}
"""What an entry may leave out: at their default the formula does without them."""


def leaves(value: Any) -> int:
    """Numbers in a spec that are not infinite."""
    if isinstance(value, Distribution):
        return 1
    if is_dataclass(value):
        stated = [f.name for f in fields(value) if f.name not in OPTIONAL or getattr(value, f.name) != f.default]
        return sum(leaves(getattr(value, name)) for name in stated)
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    if isinstance(value, tuple):
        return sum(map(leaves, value))
    return int(isinstance(value, int | float) and not isinstance(value, bool) and value != float("inf"))


@pytest.mark.parametrize(("kind", "name"), [e for e in ENTRIES if e[0] in ("accelerator", "node", "reliability")])
def test_every_number_of_a_spec_has_its_fact(kind: str, name: str):
    entry = catalog.entry(kind, name)

    assert len({f.path for f in entry.facts}) == len(entry.facts) == leaves(entry.spec)
