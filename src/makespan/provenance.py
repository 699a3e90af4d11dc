"""Where a number came from: sources, facts, and how far to trust them.

Specs hold plain floats. Beside them the catalog and the scenario keep a `Fact` for every field, and a `Plan`
carries the facts it used, so that any figure in a report can be traced.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """How a value is known, weakest first, so that `min` finds the weakest."""

    ASSUMED = 0
    """No source found. Says why, and gives a range that sensitivity runs use."""
    DECISION = 1
    """The planner's own choice (a date, a model, a batch): nothing to look up beforehand."""
    QUOTED = 2
    """A dated price or promise."""
    DERIVED = 3
    """Computed from other facts; says how."""
    PUBLISHED = 4
    """Printed in a paper, filing or article."""
    DATASHEET = 5
    """Printed by the maker."""
    MEASURED = 6
    """Measured; the source says by whom and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A place someone can look. `date` is the publication date: no fact from it was known earlier."""

    key: str
    title: str
    publisher: str
    date: dt.date
    url: str = ""
    accessed: dt.date | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A value with its unit as text, its kind and its source.

    path : dotted name such as `accelerators.h100-sxm.tdp_w` or `options.memphis.power.grid`.
    text : the value as written, with its unit.
    known_on : first day on which the planner could have known it; none for timeless definitions.
    low, high : text of the range, where there is one.
    """

    path: str
    text: str
    kind: Kind
    source: Source | None = None
    where: str = ""
    how: str = ""
    why: str = ""
    low: str = ""
    high: str = ""
    known_on: dt.date | None = None
    file: str = ""
    line: int | None = None


def weakest(facts: tuple[Fact, ...]) -> Kind:
    """The weakest kind among the facts a result stands on; `MEASURED` for none."""
    return min((fact.kind for fact in facts), default=Kind.MEASURED)
