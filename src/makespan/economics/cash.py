"""Dated money: months after `as_of`, payments spread over time, present value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from makespan.units import MONTH_S, YEAR_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def month_edges_s(horizon_s: float) -> FloatArray:
    """Starts and ends of the months (a twelfth of 365.25 days) that cover the horizon, shape (months + 1,). [s]"""
    count = max(1, math.ceil(horizon_s / MONTH_S - 1e-9))
    return np.arange(count + 1, dtype=np.float64) * MONTH_S


def paid_once(amount_usd: FloatArray, at_s: FloatArray, edges_s: FloatArray) -> FloatArray:
    """A payment on one date, shape (replicates, months).

    What fell due before the first month is booked in it; what falls due after the last (or never) is left out. [USD]
    """
    months = len(edges_s) - 1
    flow = np.zeros((len(amount_usd), months))
    inside = np.isfinite(at_s) & (at_s < edges_s[-1])
    month = np.clip(np.searchsorted(edges_s, np.where(inside, at_s, 0.0), side="right") - 1, 0, months - 1)
    rows = np.flatnonzero(inside)
    flow[rows, month[rows]] = amount_usd[rows]
    return flow


def paid_evenly(amount_usd: FloatArray, from_s: FloatArray, until_s: FloatArray, edges_s: FloatArray) -> FloatArray:
    """An amount spread evenly from one date to another, shape (replicates, months).

    The part before the first month is booked in it, the part after the last is left out; where the dates coincide the
    whole falls on that day; where one is infinite nothing is paid. [USD]
    """
    known = np.isfinite(from_s) & np.isfinite(until_s)
    start = np.where(known, from_s, 0.0)
    length = np.where(known, until_s, 0.0) - start
    lump = known & (length <= 0)
    rate = np.where(known & (length > 0), amount_usd / np.where(length > 0, length, 1.0), 0.0)
    paid_by = rate[:, None] * np.clip(edges_s[None, :] - start[:, None], 0.0, np.maximum(length, 0.0)[:, None])
    paid_by[:, 0] = 0.0
    return np.diff(paid_by, axis=1) + paid_once(np.where(lump, amount_usd, 0.0), start, edges_s)


def present_value_usd(cash_flow_usd: FloatArray, discount_rate_per_s: float) -> FloatArray:
    """What a monthly outflow is worth at `as_of`. [USD]

    Parameters
    ----------
    cash_flow_usd : by month after `as_of` on the last axis; positive is paid. [USD]
    discount_rate_per_s : nominal yearly rate over the seconds of a year, as `BuildCosts` holds it. [1/s]

    Notes
    -----
    Yearly compounding, each month's money in the middle of the month. Taxes and inflation are left out.

    Examples
    --------
    >>> round(float(present_value_usd(np.array([0.0] * 12 + [100.0]), 0.09 / YEAR_S)), 2)
    91.41
    """
    flow = np.asarray(cash_flow_usd, dtype=np.float64)
    years = (np.arange(flow.shape[-1]) + 0.5) * (MONTH_S / YEAR_S)
    value: FloatArray = flow @ (1.0 + discount_rate_per_s * YEAR_S) ** -years
    return value
