"""What the catalog says when it has no answer.

MakespanError
├── UnknownName    no entry of that name; carries the nearest names            exit code 2
├── NotYetKnown    the entry, or one of its facts, is later than `as_of`       exit code 2
└── CatalogError   a file of the catalog itself is wrong: ours to mend         exit code 70
"""

from __future__ import annotations

import datetime as dt

from makespan.errors import EXIT_INTERNAL, EXIT_USER, MakespanError


class UnknownName(MakespanError, KeyError):
    """No entry of this name. `suggestions` are the nearest names, best first."""

    exit_code = EXIT_USER

    def __init__(self, kind: str, name: str, suggestions: list[str]):
        self.kind = kind
        self.name = name
        self.suggestions = suggestions
        hint = f"; did you mean {', '.join(repr(s) for s in suggestions)}?" if suggestions else ""
        self.message = f"no {kind} called {name!r} in the catalog{hint}"
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class NotYetKnown(MakespanError, LookupError):
    """The entry exists, but nobody could have known it on `as_of`. `known_on` is the first day on which they could."""

    exit_code = EXIT_USER

    def __init__(self, kind: str, name: str, what: str, known_on: dt.date, as_of: dt.date):
        self.kind = kind
        self.name = name
        self.what = what
        self.known_on = known_on
        self.as_of = as_of
        super().__init__(f"{kind} {name!r}: {what} was not known on {as_of} (first known on {known_on})")


class CatalogError(MakespanError):
    """A catalog file is wrong: a missing field, an unknown source, a value without its unit."""

    exit_code = EXIT_INTERNAL
