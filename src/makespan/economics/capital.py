"""Straight-line depreciation and the cost of the capital that is bound, over assets put into service at several dates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def straight_line(
    age_s: FloatArray, units: FloatArray, *, life_s: float, residual_fraction: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Depreciation and bound capital of assets bought for 1 each, summed over the last axis.

    Parameters
    ----------
    age_s : time in service, 0 for not yet. [s]
    units : how many have that age; same shape as `age_s`. [-]
    life_s, residual_fraction : straight line from 1 down to the residual over the life, constant after it. [s], [-]

    Returns
    -------
    written_off : depreciation so far, in units of one asset's price. [-]
    bound : book value integrated over the time in service. [s]

    Examples
    --------
    >>> written_off, bound = straight_line(np.array([1.0, 6.0]), np.array([10.0, 1.0]), life_s=4.0)
    >>> float(written_off), float(bound)
    (3.5, 10.75)
    """
    depreciable = 1.0 - residual_fraction
    in_life = np.clip(age_s, 0.0, life_s)
    written_off = np.sum(units * depreciable * in_life / life_s, axis=-1)
    after = np.maximum(age_s - life_s, 0.0)
    bound = in_life - depreciable * in_life * in_life / (2.0 * life_s) + residual_fraction * after
    return written_off, np.sum(units * bound, axis=-1)
