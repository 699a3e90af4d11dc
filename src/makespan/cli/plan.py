"""`makespan plan`: the main job."""

from __future__ import annotations

import datetime as dt
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from makespan.cli.options import console, emit_json, json_option, parse_date, usage_problem
from makespan.errors import EXIT_INFEASIBLE, EXIT_OK
from makespan.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@click.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option(
    "--replicates", type=click.IntRange(1, 1_000_000), help="Number of replicates (default: the scenario's, or 1,000)."
)
@click.option("--seed", type=click.IntRange(0), help="Seed of the random draws (default: the scenario's, or 0).")
@click.option(
    "--by", "by", metavar="DATE", help="A deadline: print the odds of it and the cheapest changes that raise them."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Run folder (default: runs/NAME of the scenario file)."
)
@json_option
def plan(
    scenario: Path, replicates: int | None, seed: int | None, by: str | None, output: Path | None, as_json: bool
) -> int:
    """Plan every option of SCENARIO: completion date with odds, cost, power, and what holds it back.

    Writes a run folder with result.json, report.html, the resolved scenario and a manifest. The folder appears complete
    or not at all. Exit code 0 when at least one option can finish, 3 when none can.
    """
    from makespan.scenario import load

    deadline = parse_date(by, "--by")
    resolved = load(scenario)
    if deadline is not None:
        if deadline <= resolved.as_of:
            raise usage_problem(
                "--by", f"'{deadline}'", f"a date after the scenario's as_of, {resolved.as_of}", "give a later date"
            )
        horizon = resolved.as_of + dt.timedelta(seconds=resolved.horizon_s)
        if deadline > horizon:
            raise usage_problem(
                "--by",
                f"'{deadline}'",
                f"a date within the scenario's horizon, {horizon}",
                "give an earlier date, or lengthen 'horizon' in the scenario",
            )
        resolved = replace(resolved, deadline_s=_seconds(resolved.as_of, deadline))
    folder = output if output is not None else Path("runs") / scenario.stem
    _check_place(folder)

    from makespan.compare import changes
    from makespan.report import result, terminal, write_run
    from makespan.study import plan as make_plan

    with _progress(quiet=as_json) as progress:
        answer = make_plan(resolved, num_replicates=replicates, seed=seed, progress=progress)
        if answer.scenario.deadline_s is not None:
            progress("changes that would help")
            answer = replace(answer, changes=changes(answer))
        progress("report")
        data = result(answer)
        write_run(answer, folder, data)
    if as_json:
        emit_json(data)
    else:
        terminal(answer, console())
        click.echo(f"\nreport: {folder / 'report.html'}")
    return EXIT_OK if any(option.feasible for option in answer.options) else EXIT_INFEASIBLE


def _check_place(folder: Path) -> None:
    """Refuse a place for the run folder before anything is computed."""
    from makespan.report.folder import check_place

    check_place(folder)
    above = next(parent for parent in folder.absolute().parents if os.path.lexists(parent))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        kind = "a folder that cannot be written" if above.is_dir() else "no folder"
        raise usage_problem(
            "run folder", f"'{above}', {kind}", "a place that can be written", "choose another folder with -o", "MS901"
        )


def _seconds(as_of: dt.date, day: dt.date) -> float:
    return (day - as_of).days * DAY_S


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A spinner with the current piece of work on standard error; nothing where that is no terminal."""
    err = console(stderr=True)
    if quiet or not err.is_terminal:
        yield lambda _: None
        return
    with err.status("reading the scenario") as status:
        yield lambda text: status.update(text)
