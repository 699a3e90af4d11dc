"""From the fields of an entry to numbers in SI and the facts beside them.

A fact is a mapping with `value` (or `p10`, `p50`, `p90`), or one with `observations`: several such mappings with
dates, of which the newest known on `as_of` is used. A plain value under an entry with `cite:` takes kind and source
from there. `also:` holds what disagrees: kept to be read, never used.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from makespan.catalog import files
from makespan.catalog.errors import CatalogError, NotYetKnown
from makespan.provenance import Fact, Kind, Source
from makespan.uncertainty import Distribution, Fixed, Percentiles, Triangular
from makespan.units import UnitError, parse

KINDS: Mapping[str, Kind] = {kind.name.lower(): kind for kind in Kind}
FACT_KEYS = frozenset(
    [
        "value",
        "p10",
        "p50",
        "p90",
        "range",
        "kind",
        "source",
        "where",
        "how",
        "why",
        "known_on",
        "known_on_because",
        "quantity",
        "rule",
        "also",
    ]
)
_MISSING: Any = object()


def is_fact(node: object) -> bool:
    """A mapping that states a value, as against one that groups fields."""
    return isinstance(node, Mapping) and bool({"value", "p50", "observations"} & set(node))


def text_of(value: object) -> str:
    """A value as a reader would write it."""
    return value.isoformat() if isinstance(value, dt.date) else str(value)


def cited_source(fact: Mapping[str, Any]) -> Source | None:
    key = fact.get("source")
    return None if key is None else files.source(str(key))


def known_on(fact: Mapping[str, Any], fallback: dt.date | None) -> dt.date | None:
    """First day a fact could be known: as stated, or its source's date, or the entry's."""
    if "known_on" in fact:
        stated: dt.date = fact["known_on"]
        return stated
    source = cited_source(fact)
    return source.date if source is not None else fallback


@dataclass(slots=True, kw_only=True)
class Reader:
    """Reads the fields of one entry as they were known on `as_of` (None: everything), and keeps the facts it used.

    prefix : start of the path of each fact, such as `accelerators.h100-sxm`.
    """

    kind: str
    name: str
    raw: Mapping[str, Any]
    file: str
    prefix: str
    as_of: dt.date | None
    facts: list[Fact] = field(default_factory=list)

    def node(self, path: str) -> Any:
        """What stands at a dotted path; `_MISSING` when nothing does."""
        current: Any = self.raw
        for part in path.split("."):
            if not isinstance(current, Mapping) or part not in current:
                return _MISSING
            current = current[part]
        return current

    def has(self, path: str) -> bool:
        return self.node(path) is not _MISSING

    def keys(self, path: str) -> tuple[str, ...]:
        """Names of the fields grouped at a path."""
        node = self.node(path)
        return tuple(node) if isinstance(node, Mapping) else ()

    def text(self, path: str, default: str = "") -> str:
        """A plain text, which is not a fact."""
        node = self.node(path)
        return default if node is _MISSING else str(node)

    def fact(self, path: str) -> dict[str, Any]:
        """The fact used at a path: its newest observation known on `as_of`, kind and source filled in from `cite`."""
        node = self.node(path)
        if node is _MISSING:
            raise self.wrong(path, "is missing")
        if not isinstance(node, Mapping):
            node = {"value": node}
        if "observations" not in node:
            candidates = [self._cited(node)]
        else:
            candidates = [self._cited(o) for o in node["observations"]]
        dated = [(known_on(c, self.entry_known_on), i, c) for i, c in enumerate(candidates)]
        usable = [d for d in dated if self.as_of is None or d[0] is None or d[0] <= self.as_of]
        if not usable:
            assert self.as_of is not None
            first = min(d[0] for d in dated if d[0] is not None)
            raise NotYetKnown(self.kind, self.name, path, first, self.as_of)
        return max(usable, key=lambda d: (d[0] or dt.date.min, d[1]))[2]

    @property
    def entry_known_on(self) -> dt.date | None:
        return self.raw.get("known_on")

    def _cited(self, fact: Mapping[str, Any]) -> dict[str, Any]:
        filled = dict(fact)
        if "kind" not in filled and "source" not in filled:
            filled = {**self.raw.get("cite", {}), **filled}
        return filled

    def number(self, path: str, quantity: str, default: float = math.nan) -> float:
        """One number in SI; its range, if it has one, stays in the fact. `default` is for a field that may be left out."""
        if not self.has(path) and not math.isnan(default):
            return default
        fact = self.fact(path)
        self.keep(path, fact)
        return self._parse(path, fact["value"] if "value" in fact else fact["p50"], quantity)

    def is_known(self, path: str) -> bool:
        """Whether a field has an observation that was public on `as_of`."""
        try:
            self.fact(path)
        except NotYetKnown:
            return False
        return True

    def if_known(self, path: str, quantity: str, default: float) -> float:
        """As `number`; `default` also for a coefficient nobody could know on `as_of`: the formula did without it then."""
        return self.number(path, quantity) if self.has(path) and self.is_known(path) else default

    def distribution(self, path: str, quantity: str) -> Distribution:
        """A number in SI with its range: triangular for `range`, percentiles for `p10 p50 p90`, else fixed."""
        fact = self.fact(path)
        self.keep(path, fact)
        name = f"{self.prefix}.{path}"
        if "p50" in fact:
            low, mid, high = (self._parse(path, fact[p], quantity) for p in ("p10", "p50", "p90"))
            return Percentiles(name=name, p10=low, p50=mid, p90=high)
        value = self._parse(path, fact["value"], quantity)
        if "range" not in fact:
            return Fixed(name=name, value=value)
        low, high = (self._parse(path, edge, quantity) for edge in fact["range"])
        return Triangular(name=name, low=low, mode=value, high=high)

    def keep(self, path: str, fact: Mapping[str, Any]) -> Fact:
        """Note that a fact was used."""
        edges = fact.get("range") or ([fact["p10"], fact["p90"]] if "p50" in fact else ["", ""])
        kind = KINDS.get(str(fact.get("kind")))
        if kind is None:
            raise self.wrong(path, f"has the kind {fact.get('kind')!r}; expected one of {', '.join(KINDS)}")
        kept = Fact(
            path=f"{self.prefix}.{path}",
            text=text_of(fact["value"] if "value" in fact else fact["p50"]),
            kind=kind,
            source=cited_source(fact),
            where=str(fact.get("where", "")),
            how=str(fact.get("how", "")),
            why=str(fact.get("why", "")),
            low=text_of(edges[0]),
            high=text_of(edges[1]),
            known_on=known_on(fact, self.entry_known_on),
            file=self.file,
        )
        self.facts.append(kept)
        return kept

    def _parse(self, path: str, value: Any, quantity: str) -> float:
        try:
            return parse(value, quantity)
        except UnitError as error:
            raise self.wrong(path, str(error)) from error

    def wrong(self, path: str, what: str) -> CatalogError:
        return CatalogError(f"{self.file}: {path} {what}")
