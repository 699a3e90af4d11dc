"""Cells of a row: blank means unknown, a number may carry its unit, junk means the row cannot be used."""

from __future__ import annotations

import math
import re

from makespan.validation.files import Row

LARGEST_COUNT = 10**8
"""No run has had more of anything countable (accelerators, sequences, tokens of a sequence)."""

BLANK = frozenset(["", "-", "--", "?", "n/a", "na", "none stated", "not stated", "unknown", "null"])
"""What a table writes into a cell that it does not know, in lower case."""

_NUMBER = re.compile(r"[~≈]?\s*(\d+(?:,\d{3})+(?:\.\d+)?|\d*\.?\d+(?:e[+-]?\d+)?|\d+\.)\s*([a-zA-Zµ]*)$", re.IGNORECASE)
_UNITS = {
    "step_time_s": {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "min": 60.0},
    "mem_gb_reported": {"gb": 1.0, "gib": 2.0**30 / 1e9, "mb": 1e-3, "mib": 2.0**20 / 1e9},
    "seq_len": {"k": 1024.0, "tokens": 1.0},
    "tflops_per_gpu_reported": {"tflops": 1.0, "tflop": 1.0, "pflops": 1e3},
}
"""Units that a cell of a column may carry, and what they multiply by. A sequence of 8k tokens has 8,192."""


class NotExpressible(Exception):
    """Why a row cannot be put as a question to the step model."""


def text_of(row: Row, name: str) -> str:
    """A cell in lower case without the spaces around it; empty where the table says that it does not know."""
    text = (row.get(name) or "").strip().lower()
    return "" if text in BLANK else text


def number(row: Row, name: str) -> float | None:
    """A positive finite number, in the column's unit or in the one written behind it; None for a blank cell.

    Raises
    ------
    NotExpressible : for anything else.

    Examples
    --------
    >>> number({"step_time_s": "980 ms"}, "step_time_s"), number({"n_gpus": "1,024"}, "n_gpus")
    (0.98, 1024.0)
    """
    text = text_of(row, name)
    if not text:
        return None
    found = _NUMBER.match(text)
    unit = found[2].lower() if found else ""
    scale = _UNITS.get(name, {}).get(unit) if unit else 1.0
    if found is None or scale is None:
        try:
            value, scale = float(text), 1.0
        except ValueError:
            raise NotExpressible(f"{name}: found '{text[:40]}', no number") from None
    else:
        value = float(found[1].replace(",", ""))
    value *= scale
    if not math.isfinite(value) or value <= 0:
        raise NotExpressible(f"{name}: found '{text[:40]}', no positive number")
    return value


def count(row: Row, name: str) -> int | None:
    """A positive whole number, or None for a blank cell. Raises `NotExpressible` for anything else."""
    value = number(row, name)
    if value is None:
        return None
    if value != round(value) or value > LARGEST_COUNT:
        raise NotExpressible(f"{name}: found '{row[name][:40]}', no whole number up to {LARGEST_COUNT:,}")
    return round(value)


def needed_count(row: Row, name: str) -> int:
    """As `count`, for a cell that must not be blank."""
    value = count(row, name)
    if value is None:
        raise NotExpressible(f"{name} is not stated")
    return value
