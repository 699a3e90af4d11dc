"""What can go wrong, and whose it is to mend.

    MakespanError
    ├── ScenarioError      the user's to fix: every problem of a file or a command line, in one pass   exit code 2
    └── InfeasibleError    an answer: nothing fits, and why                                            exit code 3

Anything else that escapes is our own fault (exit code 70). `assert` is for our own invariants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EXIT_OK = 0
EXIT_USER = 2
EXIT_INFEASIBLE = 3
EXIT_INTERNAL = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to mend: a rule code, a place, what was found, what was expected, and a remedy.

    Each code has a page in `docs/errors/`. `line` and `column` count from 1.
    """

    code: str
    where: str
    found: str
    expected: str
    fix: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}" + (f" column {self.column}" if self.column else "") + ", " if self.line else ""
        text = f"{self.code} {place}{self.where}: found {self.found}; expected {self.expected}"
        return f"{text}\n        fix: {self.fix}" if self.fix else text


class MakespanError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = EXIT_INTERNAL


class ScenarioError(MakespanError):
    """Wrong input. `problems` holds every one that was found, in the order of the file."""

    exit_code = EXIT_USER

    def __init__(self, source: str, problems: Iterable[Problem]):
        self.source = source
        self.problems: Sequence[Problem] = tuple(problems)
        count = len(self.problems)
        lines = [f"{source}: {count} problem{'s' if count != 1 else ''}"]
        lines += [f"  {problem}" for problem in self.problems]
        super().__init__("\n".join(lines))


class InfeasibleError(MakespanError):
    """No plan or layout fits. `reasons` is the answer: what stopped it, and how near the nearest came."""

    exit_code = EXIT_INFEASIBLE

    def __init__(self, message: str, reasons: Iterable[str] = ()):
        self.reasons: Sequence[str] = tuple(reasons)
        super().__init__("\n".join([message, *(f"  - {reason}" for reason in self.reasons)]))
