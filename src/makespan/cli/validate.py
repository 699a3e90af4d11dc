"""`makespan validate`: accuracy, seen."""

from __future__ import annotations

from pathlib import Path

import click

from makespan.cli.options import console, emit_json, json_option, write_text

PAGE = "docs/validation.md"


@click.command()
@click.option(
    "--rows", type=click.Path(path_type=Path), help="CSV of runs in the evidence schema (docs/explain/validation.md)."
)
@click.option("--models", type=click.Path(path_type=Path), help="YAML of the architectures named in --rows.")
@click.option(
    "--write",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=PAGE,
    help=f"Also write the page to this file ({PAGE} where none is named).",
)
@json_option
def validate(rows: Path | None, models: Path | None, write: Path | None, as_json: bool) -> None:
    """Predict published runs and compare: the shipped evidence, or any file of the same schema.

    A row that cannot be expressed gets a status and a reason, never a guess.
    """
    from makespan.validation import as_data, page, summary_table
    from makespan.validation import validate as compare

    result = compare(rows, models)
    if write is not None:
        write_text(Path(write), page(result), "--write")
    if as_json:
        emit_json(as_data(result))
    else:
        console().print(summary_table(result))
