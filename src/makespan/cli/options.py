"""Options and small helpers that several commands share."""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from makespan.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (SI units) instead of tables.")


def console(*, stderr: bool = False) -> Console:
    """A rich console that respects NO_COLOR, pipes and narrow terminals."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else int(os.environ.get("COLUMNS", "120"))
    return Console(stderr=stderr, width=width, soft_wrap=False, highlight=False)


def emit_json(data: object) -> None:
    """Data as JSON on standard output, readable and stable."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def usage_problem(where: str, found: str, expected: str, fix: str, code: str = "MS001") -> ScenarioError:
    """A wrong word on the command line, in the form of every other problem."""
    return ScenarioError("command line", [Problem(code=code, where=where, found=found, expected=expected, fix=fix)])


def write_text(path: Path, text: str, where: str) -> None:
    """A file, whole or not at all; a place that cannot be written is the user's to mend."""
    if os.path.isdir(path):
        raise usage_problem(where, f"'{path}', a folder", "a file name", f"name a file in it: {path / 'NAME'}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.exists() and not path.is_file():  # /dev/null or a pipe: write into it, never put a file in its place
            path.write_text(text, encoding="utf-8")
            return
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise usage_problem(
            where, f"'{path}' ({error.strerror})", "a file that can be written", "name another place"
        ) from error


def parse_date(text: str | None, where: str) -> dt.date | None:
    """An ISO date of the command line."""
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise usage_problem(where, f"'{text}'", "an ISO date", "write it as 2027-03-01") from None
