"""Reading the evidence: a CSV of runs and a YAML of architectures. Wrong files are the user's to mend, wrong cells are not fatal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from makespan.errors import Problem, ScenarioError

Row = Mapping[str, str]

REQUIRED_COLUMNS = ("id", "model", "gpu", "n_gpus", "global_batch", "seq_len", "precision")
"""Without these columns a file cannot be put as a question; cells in them may be blank."""

OPTIONAL_COLUMNS = (
    "source",
    "date",
    "framework",
    "task",
    "gpus_per_node",
    "interconnect",
    "tp",
    "pp",
    "vpp",
    "cp",
    "ep",
    "etp",
    "dp",
    "sharding",
    "seq_par",
    "micro_batch",
    "recompute",
    "cuda_graphs",
    "overlap_notes",
    "step_time_s",
    "tokens_per_s_per_gpu",
    "tflops_per_gpu_reported",
    "mem_gb_reported",
    "notes",
)
"""Used where the file has them; others are ignored."""

LARGEST_FILE_BYTES = 64 * 1024 * 1024


def shipped(name: str) -> str:
    """Text of a data file inside the package."""
    return (files("makespan.validation") / "data" / name).read_text(encoding="utf-8")


def _problem(path: Path, code: str, found: str, expected: str, fix: str, line: int | None = None) -> ScenarioError:
    where = "file" if line is None else "row"
    return ScenarioError(
        str(path), [Problem(code=code, where=where, found=found, expected=expected, fix=fix, line=line)]
    )


def _text(path: Path, noun: str) -> str:
    """The text of a user's file. Raises `ScenarioError` (MS601)."""
    expected = f"a readable UTF-8 {noun}"
    try:
        if path.is_file() and path.stat().st_size > LARGEST_FILE_BYTES:
            raise _problem(path, "MS601", f"{path.stat().st_size} bytes", expected, "split it; 64 MiB is the limit")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _problem(path, "MS601", "no such file", expected, "check the path") from None
    except UnicodeDecodeError as error:
        raise _problem(
            path, "MS601", f"a byte that is no UTF-8 ({error.reason})", expected, "save it as UTF-8"
        ) from None
    except OSError as error:
        raise _problem(path, "MS601", error.strerror or "an unreadable file", expected, "check the path") from None


def read_rows(path: Path | None) -> list[Row]:
    """Rows of a CSV in the evidence schema; None for the shipped one. Cells are stripped, missing ones are empty.

    A byte-order mark, capitals in the column names, semicolons or tabs between the cells and columns that nothing uses are
    all right.

    Raises
    ------
    ScenarioError : MS601 not readable, MS602 not a table with the required columns, or without rows.
    """
    place = Path("steps.csv") if path is None else path
    text = shipped("steps.csv") if path is None else _text(place, "CSV file")
    needed = f"a CSV with the columns {', '.join(REQUIRED_COLUMNS)}"
    if "\0" in text:
        raise _problem(place, "MS602", "a binary file", needed, "export the table as CSV")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    rows: list[Row] = []
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        missing = [name for name in REQUIRED_COLUMNS if name not in header]
        if missing:
            found = f"a first line without {', '.join(missing)}"
            raise _problem(place, "MS602", found, needed, "name the columns as docs/explain/validation.md does", 1)
        doubled = sorted({name for name in header if name and header.count(name) > 1})
        if doubled:
            raise _problem(place, "MS602", f"the column {doubled[0]} twice", needed, "remove one of them", 1)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                padded = [*cells, *[""] * (len(header) - len(cells))]
                rows.append({name: cell.strip() for name, cell in zip(header, padded, strict=False)})
    except csv.Error as error:
        raise _problem(place, "MS602", str(error), needed, "export the table as CSV", reader.line_num) from None
    if not rows:
        raise _problem(place, "MS602", "no rows", needed, "add a row per measured run")
    return rows


def _delimiter(text: str) -> str:
    """Comma, semicolon or tab: the one that parts the first line into most of the required columns."""
    first = text.partition("\n")[0].lower()

    def found(mark: str) -> int:
        cells = {cell.strip().strip('"') for cell in first.split(mark)}
        return sum(name in cells for name in REQUIRED_COLUMNS)

    return max(",;\t", key=found)


def read_models(path: Path | None) -> Mapping[str, Any]:
    """Architectures by key. With a file, its keys are added to the shipped ones and replace them.

    Raises
    ------
    ScenarioError : MS601 not readable, MS603 not a YAML mapping of names to architectures.
    """
    models = dict(_shipped_models())
    if path is not None:
        models.update(_entries(_mapping(_text(path, "YAML file"), path)))
    return models


def _entries(content: dict[str, Any]) -> dict[str, Any]:
    """The mapping of names, also where it lies under one key `models`."""
    inner = content.get("models")
    if len(content) == 1 and isinstance(inner, dict) and all(isinstance(entry, dict) for entry in inner.values()):
        return {str(key): value for key, value in inner.items()}
    return content


@cache
def _shipped_models() -> Mapping[str, Any]:
    return _mapping(shipped("models.yaml"), Path("models.yaml"))


@cache
def mapping() -> Mapping[str, Any]:
    """Contents of `mapping.yaml`."""
    return _mapping(shipped("mapping.yaml"), Path("mapping.yaml"))


def _mapping(text: str, path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    expected = "a YAML mapping of model names to architectures"
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else None
        raise _problem(path, "MS603", error.problem or "broken YAML", expected, "mend the YAML", line) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise _problem(path, "MS603", f"broken YAML ({str(error)[:80]})", expected, "mend the YAML") from None
    if not isinstance(content, dict):
        raise _problem(path, "MS603", f"{type(content).__name__} at the top", expected, "write `name: {layers: ...}`")
    return {str(key): value for key, value in content.items()}


def shipped_ids() -> Sequence[str]:
    """Ids of the shipped rows: what has been seen while the profiles were made."""
    return [row["id"] for row in read_rows(None)]
