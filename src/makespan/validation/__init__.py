"""Published runs against predictions: how far to trust a step time."""

from __future__ import annotations

from makespan.validation.engine import compare_row, validate
from makespan.validation.page import as_data, page, summary_table
from makespan.validation.result import (
    INFEASIBLE,
    NOT_EXPRESSIBLE,
    OK,
    IdentityResult,
    RowResult,
    ScalePoint,
    Spread,
    Summary,
    ValidationResult,
)
from makespan.validation.split import family_of, fold_of, split_of

__all__ = [
    "INFEASIBLE",
    "NOT_EXPRESSIBLE",
    "OK",
    "IdentityResult",
    "RowResult",
    "ScalePoint",
    "Spread",
    "Summary",
    "ValidationResult",
    "as_data",
    "compare_row",
    "family_of",
    "fold_of",
    "page",
    "split_of",
    "summary_table",
    "validate",
]
