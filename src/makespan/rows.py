"""What formulas over rows need where one row comes without an axis.

A formula here takes arrays of shape (rows,), one row a layout, or plain numbers for a single layout: NumPy takes half a
microsecond for an operation on an array of one element, Python a fortieth of that for the same one on numbers. Arithmetic
and comparisons read the same for both; the functions of this module stand for what does not. Masks of a single row are plain
truth values, so a mask is never inverted with `~`: the comparison is written the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Rows = NDArray[Any]
"""Numbers or truth values of every row."""
FloatLike = float | NDArray[np.floating[Any]]
ByKind = tuple[FloatArray, ...]
"""One entry for each kind of layer, each with a row a layout."""


def where(mask: Any, yes: Any, no: Any) -> Rows:
    """`yes` where the mask holds, else `no`; of a single truth value one of the two as it is.

    Examples
    --------
    >>> where(np.array([True, False]), 2.0, 3.0).tolist(), where(True, 2.0, 3.0)
    ([2.0, 3.0], 2.0)
    """
    if isinstance(mask, ndarray):
        return np.asarray(np.where(mask, yes, no))
    chosen: Rows = yes if mask else no
    return chosen


def maximum(one: Any, other: Any) -> Rows:
    """The larger of two, element by element."""
    if isinstance(one, ndarray) or isinstance(other, ndarray):
        return np.asarray(np.maximum(one, other))
    larger: Rows = one if one >= other else other
    return larger


def minimum(one: Any, other: Any) -> Rows:
    """The smaller of two, element by element."""
    if isinstance(one, ndarray) or isinstance(other, ndarray):
        return np.asarray(np.minimum(one, other))
    smaller: Rows = one if one <= other else other
    return smaller


def choose(which: Any, options: Sequence[Any]) -> Rows:
    """The option of each row by its place among `options`.

    Examples
    --------
    >>> choose(np.array([1, 0]), [np.array([1.0, 2.0]), 3.0]).tolist(), choose(1, [1.0, 3.0])
    ([3.0, 2.0], 3.0)
    """
    if isinstance(which, ndarray):
        return np.asarray(np.choose(which, options))
    chosen: Rows = options[which]
    return chosen


def largest(values: Sequence[Any]) -> NDArray[np.int64]:
    """Place of the largest of some values in each row; of equals the first."""
    best, place = values[0], values[0] * 0.0
    for index, value in enumerate(values[1:], start=1):
        larger = value > best
        best, place = where(larger, value, best), where(larger, index, place)
    result: Any = place
    found: NDArray[np.int64] = result
    return found


def power(base: Any, exponent: float) -> FloatArray:
    """`base ** exponent` with the same digits for a number as for an array, which `**` does not promise."""
    result: FloatArray = np.power(base, exponent)
    return result


def ceiling(value: Any) -> NDArray[np.int64]:
    """The smallest whole number that is not below a value."""
    if isinstance(value, ndarray):
        return np.ceil(value).astype(np.int64)
    number: Any = math.ceil(value)
    whole: NDArray[np.int64] = number
    return whole


def some(mask: Any) -> bool:
    """Whether a mask holds anywhere."""
    return bool(mask.any()) if isinstance(mask, ndarray) else bool(mask)


def filled(shape: tuple[int, ...], value: float) -> FloatArray:
    """The value in every row; the number itself where there is no axis."""
    if shape:
        return np.full(shape, value)
    number: Any = value
    row: FloatArray = number
    return row


def total(counts: Sequence[FloatLike], values: Sequence[FloatArray]) -> FloatArray:
    """Sum of count times value over what both list, such as the kinds of layers; rows broadcast.

    Examples
    --------
    >>> total([np.array([1.0, 2.0]), np.array([3.0, 0.0])], [np.array([10.0, 10.0]), np.array([1.0, 1.0])]).tolist()
    [13.0, 20.0]
    """
    result: FloatArray = counts[0] * values[0]
    for count, value in zip(counts[1:], values[1:], strict=True):
        result = result + count * value
    return result
