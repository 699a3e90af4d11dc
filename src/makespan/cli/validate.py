"""`makespan validate`: accuracy, seen."""

from __future__ import annotations

from pathlib import Path

import click

from makespan.cli.options import console, emit_json, json_option, write_text

PAGE = "docs/validation.md"
LAYOUTS_PAGE = "docs/layouts.md"
OWN_PAGE = "the page of what was asked"


@click.command()
@click.option(
    "--rows", type=click.Path(path_type=Path), help="CSV of runs in the evidence schema (docs/explain/validation.md)."
)
@click.option("--models", type=click.Path(path_type=Path), help="YAML of the architectures named in --rows.")
@click.option(
    "--write",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=OWN_PAGE,
    help=f"Also write the page to this file (where none is named {PAGE}, with --layouts {LAYOUTS_PAGE}).",
)
@click.option(
    "--layouts", is_flag=True, help="Search the run of every published layout: is it among the best, and if not, why."
)
@json_option
def validate(rows: Path | None, models: Path | None, write: Path | None, layouts: bool, as_json: bool) -> None:
    """Predict published runs and compare: the shipped evidence, or any file of the same schema.

    A row that cannot be expressed gets a status and a reason, never a guess.
    """
    if layouts:
        _compare_layouts(rows, models, write, as_json=as_json)
        return
    from makespan.validation import as_data, page, summary_table
    from makespan.validation import validate as compare

    result = compare(rows, models)
    if write is not None:
        write_text(_named(write, PAGE), page(result), "--write")
    if as_json:
        emit_json(as_data(result))
    else:
        console().print(summary_table(result))


def _named(write: Path, own: str) -> Path:
    """The file to write: the one that was named, or the page of what was asked."""
    return Path(own) if str(write) == OWN_PAGE else Path(write)


def _compare_layouts(rows: Path | None, models: Path | None, write: Path | None, *, as_json: bool) -> None:
    from makespan.validation.layouts import published_layouts
    from makespan.validation.layouts_page import layouts_as_data, layouts_page, layouts_table

    ledger = published_layouts(rows, models)
    if write is not None:
        write_text(_named(write, LAYOUTS_PAGE), layouts_page(ledger), "--write")
    if as_json:
        emit_json(layouts_as_data(ledger))
    else:
        console().print(layouts_table(ledger))
