"""What every part of the loader shares: problems found so far, sources, facts, rules used."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from makespan.errors import Problem
from makespan.provenance import Fact, Kind, Source
from makespan.scenario._tree import Loc, Node, shorten
from makespan.specs.scenario import RuleUsed
from makespan.units import DAY_S

Place = tuple[int | None, int | None]

UNKNOWN_DAY = dt.date(2000, 1, 1)
"""Stands in for an `as_of` that could not be read, so that the rest of the file is still checked."""


@dataclass(slots=True)
class Context:
    """State of one pass over one file. Nothing is raised while problems are gathered.

    alias_names : value that aliases repeat (by identity) -> path of its first place; drawn once under that name.
    bad : places that the shape check has reported; nothing below them is reported again.
    without_rules : `as_of` lies before the catalog's rules: said once, not for every field that has none.
    """

    file: str
    folder: str = ""
    as_of: dt.date | None = None
    as_of_node: Node | None = None
    strict: bool = False
    without_rules: bool = False
    problems: list[Problem] = field(default_factory=list)
    bad: set[Loc] = field(default_factory=set)
    sources: dict[str, Source] = field(default_factory=dict)
    source_kinds: dict[str, Kind] = field(default_factory=dict)
    used_sources: dict[str, Source] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    rules: list[RuleUsed] = field(default_factory=list)
    alias_names: dict[int, str] = field(default_factory=dict)
    alias_kinds: dict[int, str] = field(default_factory=dict)
    _seen_problems: set[Problem] = field(default_factory=set)
    _seen_facts: set[str] = field(default_factory=set)

    @property
    def origin(self) -> dt.date:
        return self.as_of or UNKNOWN_DAY

    def draw_name(self, node: Node, kind: str, path: str) -> str:
        """The name under which a value is drawn: its path, or for an aliased value that of its first place."""
        first = self.alias_names.get(id(node))
        return first if first and self.alias_kinds.setdefault(id(node), kind) == kind else path

    def seconds(self, day: dt.date) -> float:
        """Seconds from `as_of`, 00:00 UTC, to the start of a day."""
        return (day - self.origin).days * DAY_S

    def is_bad(self, loc: Loc) -> bool:
        """The shape check has reported this place or one above it."""
        return any(loc[:length] in self.bad for length in range(1, len(loc) + 1))

    def report(
        self,
        code: str,
        node: Node | None,
        where: str,
        *,
        found: str,
        expected: str,
        fix: str,
        place: Place | None = None,
    ) -> None:
        """Note a problem at a node of the file or of an override."""
        origin = node.origin if node is not None else ""
        line, column = place if place is not None else (node.line, node.column) if node is not None else (None, None)
        if origin:
            line = column = None
            where = f"{where} (override {origin})"
        problem = Problem(
            code=code,
            where=shorten(where or "file"),
            found=shorten(found),
            expected=expected,
            fix=fix,
            line=line,
            column=column,
        )
        if problem not in self._seen_problems:
            self._seen_problems.add(problem)
            self.problems.append(problem)

    def keep(self, facts: Iterable[Fact]) -> None:
        """Add facts, each path once."""
        for fact in facts:
            if fact.path not in self._seen_facts:
                self._seen_facts.add(fact.path)
                self.facts.append(fact)
                if fact.source is not None:
                    self.used_sources.setdefault(fact.source.key, fact.source)

    def rule(self, path: str, value: str, rule: str) -> None:
        """Note that a missing field got its value by a rule."""
        self.rules.append(RuleUsed(path=path, value=value, rule=rule))

    def sorted_problems(self) -> tuple[Problem, ...]:
        """In the order of the file; what has no line comes last."""
        ordered = sorted(
            enumerate(self.problems), key=lambda item: (item[1].line or 10**9, item[1].column or 0, item[0])
        )
        return tuple(problem for _, problem in ordered)


def did_you_mean(name: str, candidates: Sequence[str], limit: int = 3) -> list[str]:
    """Candidates like a name that was not found, nearest first."""
    lowered = {candidate.lower(): candidate for candidate in candidates}
    wanted = name.lower().replace(" ", "_")
    near = difflib.get_close_matches(wanted, list(lowered), n=limit, cutoff=0.6)
    if not near and len(wanted) >= 3:
        near = [c for c in lowered if c.startswith(wanted) or wanted.startswith(c)][:limit]
    return [lowered[c] for c in near]


def suggestion(name: str, candidates: Sequence[str], *, otherwise: str = "") -> str:
    """The remedy for a name that was not found."""
    near = did_you_mean(name, candidates)
    if near:
        return "did you mean " + " or ".join(f"'{n}'" for n in near) + "?"
    if otherwise:
        return otherwise
    some = ", ".join(list(candidates)[:12]) + (", ..." if len(candidates) > 12 else "")
    return f"choose from: {some}" if some else "there is none yet; define it first"


def comma_hint(key: str, node: Node) -> str:
    """The remedy for a key that is the rest of a text after a comma inside braces; empty where it is none."""
    if node.is_scalar and node.value is None and not node.raw and " " in key:
        return "put text that holds a comma in quotes: inside braces the comma begins a new key"
    return ""
