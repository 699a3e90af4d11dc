"""The best few thousand layouts of a search as columns: for a CSV file and for a data frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

from makespan.scenario import value_of_code, word_of
from makespan.specs.layout import Layout
from makespan.specs.search import Objective, SearchResult
from makespan.specs.step import StepEstimate

SIZES = tuple(f.name for f in fields(Layout))
FIGURES = ("time_s", "memory_bytes", "num_accelerators")
OBJECTIVE_COLUMN = {
    Objective.TIME: "objective_s",
    Objective.COST: "objective_accelerator_s",
    Objective.ENERGY: "objective_j",
}
"""Name, with its unit, of the column that the order follows."""


def search_columns(result: SearchResult) -> dict[str, list[Any]]:
    """The best layouts of a search, best first: a list of plain values for each column, kinds as words.

    Every field of `Layout`, `time_s` [s], `memory_bytes` of the fullest accelerator [B], `num_accelerators`, and the
    objective with its unit in the name. Where the search kept no columns, those of `top`.
    """
    columns = {name: values.tolist() for name, values in result.columns.items()} or _of_top(result.top)
    found: dict[str, list[Any]] = {}
    for name in SIZES:
        if name not in columns:
            continue
        words = {code: _plain(word_of(value_of_code(name, code))) for code in set(columns[name])}
        found[name] = [words[code] for code in columns[name]]
    for name in FIGURES:
        if name in columns:
            found[name] = columns[name]
    if "objective" in columns:
        found[OBJECTIVE_COLUMN[result.objective]] = columns["objective"]
    return found


def _plain(word: str) -> int | str:
    return int(word) if word.isdigit() else word


def _of_top(top: Iterable[StepEstimate]) -> dict[str, list[Any]]:
    estimates = list(top)
    columns: dict[str, list[Any]] = {
        name: [int(getattr(estimate.layout, name)) for estimate in estimates] for name in SIZES
    }
    columns["time_s"] = [estimate.time_s for estimate in estimates]
    columns["memory_bytes"] = [estimate.memory.total_bytes for estimate in estimates]
    columns["num_accelerators"] = [estimate.num_accelerators for estimate in estimates]
    return columns


def search_csv(results: Mapping[str, SearchResult]) -> str:
    """The columns of searches as CSV with a header, a row a layout; `results` by precision, which is the first column."""
    by_precision = {precision: search_columns(result) for precision, result in results.items()}
    names = list(dict.fromkeys(name for columns in by_precision.values() for name in columns))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["precision", *names])
    for precision, columns in by_precision.items():
        for row in zip(*(columns[name] for name in names), strict=True):
            writer.writerow([precision, *row])
    return out.getvalue()


def search_frame(result: SearchResult) -> Any:
    """The best layouts of a search as a pandas data frame, best first: the columns of `search_columns`.

    Raises
    ------
    ImportError : pandas is not installed; makespan does not need it otherwise.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise ImportError(
            "search_frame needs pandas, which makespan does not install: pip install pandas; without it "
            "SearchResult.columns holds the same as NumPy arrays"
        ) from error
    return pandas.DataFrame(search_columns(result))
