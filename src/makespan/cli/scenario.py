"""`makespan check`, `init`, `schema`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from makespan.cli.options import emit_json, json_option, usage_problem, write_text
from makespan.errors import EXIT_OK, EXIT_USER, ScenarioError


@click.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@json_option
def check(scenario: Path, as_json: bool) -> int:
    """Check a scenario file in full, without running it.

    Every problem is listed in one pass, with its line and a remedy. Exit code 0 when there is none, 2 otherwise.
    """
    from makespan.scenario import check as find_problems

    problems = find_problems(scenario)
    if as_json:
        emit_json({"scenario": str(scenario), "problems": [asdict(problem) for problem in problems]})
    elif problems:
        click.echo(str(ScenarioError(str(scenario), problems)), err=True)
    else:
        click.echo(f"{scenario}: no problems")
    return EXIT_USER if problems else EXIT_OK


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default="scenario.yaml")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
def init(path: Path, force: bool, as_json: bool) -> None:
    """Write a commented starter scenario to PATH (default: scenario.yaml)."""
    from makespan.scenario import starter

    if path.is_dir():
        raise usage_problem("PATH", f"'{path}', a folder", "a file name", f"write: makespan init {path}/scenario.yaml")
    if path.exists() and not force:
        raise usage_problem("PATH", f"'{path}', which exists", "a new file name", "name another file, or add --force")
    if not path.parent.is_dir():
        raise usage_problem("PATH", f"'{path}'", "a file in an existing folder", f"make the folder {path.parent} first")
    write_text(path, starter(), "PATH")
    if as_json:
        emit_json({"written": str(path)})
    else:
        click.echo(f"wrote {path}\nnext:  makespan plan {path}")


@click.command()
@click.option("--result", "of_result", is_flag=True, help="The schema of result.json instead of scenario files.")
@json_option
def schema(of_result: bool, as_json: bool) -> None:
    """Print a JSON Schema: of scenario files (for editors), or with --result of result.json."""
    del as_json  # a schema is JSON either way
    if of_result:
        from makespan.report import result_schema

        emit_json(result_schema())
    else:
        from makespan.scenario import json_schema

        emit_json(json_schema())
