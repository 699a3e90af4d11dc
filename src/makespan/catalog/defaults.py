"""Rules for fields that a scenario leaves out: `data/defaults.yaml`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from makespan.catalog import files
from makespan.catalog.build import Entry
from makespan.catalog.facts import Reader
from makespan.provenance import Fact
from makespan.uncertainty import Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Default:
    """One rule: the value in SI, how it is written, the fact behind it, and the sentence a report prints."""

    name: str
    quantity: str
    value: Distribution
    fact: Fact
    rule: str


@cache
def defaults(as_of: dt.date | None = None) -> Entry[Mapping[str, Default]]:
    """Every rule as known on `as_of`, by name. Raises `NotYetKnown` where a rule has no fact that old."""
    raw = files.raw_file("defaults.yaml")
    file = "catalog/data/defaults.yaml"
    reader = Reader(kind="default", name="defaults", raw=raw, file=file, prefix="defaults", as_of=as_of)
    rules: dict[str, Default] = {}
    for name, node in raw["rules"].items():
        value = reader.distribution(f"rules.{name}", node["quantity"])
        rules[name] = Default(
            name=name, quantity=node["quantity"], value=value, fact=reader.facts[-1], rule=node.get("rule", "")
        )
    return Entry(
        name="defaults",
        kind="default",
        spec=MappingProxyType(rules),
        facts=tuple(reader.facts),
        file=file,
        note=reader.text("note").strip(),
        known_on=reader.entry_known_on,
    )
