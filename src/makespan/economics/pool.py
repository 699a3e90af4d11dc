"""What one pool contributes to the cost of an option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolCost:
    """As `CostResult`, for one pool. `lines` holds what the run is charged, by line; missing lines are 0."""

    lines: Mapping[str, FloatArray]
    committed_usd: FloatArray
    capex: Mapping[str, FloatArray]
    residual_usd: FloatArray
    it_energy_j: FloatArray
    energy_j: FloatArray
    it_peak_power_w: FloatArray
    peak_power_w: FloatArray
    carbon_kg: FloatArray
    cash_flow_usd: FloatArray
