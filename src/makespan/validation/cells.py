"""Cells of a row: blank means unknown, junk means the row cannot be used."""

from __future__ import annotations

import math

from makespan.validation.files import Row

LARGEST_COUNT = 10**8
"""No run has had more of anything countable (accelerators, sequences, tokens of a sequence)."""


class NotExpressible(Exception):
    """Why a row cannot be put as a question to the step model."""


def number(row: Row, name: str) -> float | None:
    """A positive finite number, or None for a blank cell. Raises `NotExpressible` for anything else."""
    text = row.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise NotExpressible(f"{name}: found '{text[:40]}', no number") from None
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
