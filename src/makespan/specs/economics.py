"""What an option costs. Arrays have shape (replicates,), money in USD of the scenario's price year."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CostResult:
    """Money, energy and power of one option.

    cost_of_model_usd : what this run is charged: its share of rent (unused commitment included) or of depreciation,
        power, staff and upkeep of an own site, until the release.
    cost_of_model : the same by line; the lines add up to it.
    committed_usd : what the option obliges to pay in all, run or no run: term of the contract, or capital.
    capex_usd : capital by category; empty for rent.
    residual_usd : book value of the own site at the release.
    energy_j, it_energy_j : at the facility meter, and its IT share, held by the run until the release. [J]
    peak_power_w, it_peak_power_w : provisioned peak at the facility meter and its IT share, largest until the release. [W]
    carbon_kg : from the energy and its sources. [kg]
    cash_flow_usd : outflow by month after `as_of`, shape (replicates, months): positive is paid.
    """

    cost_of_model_usd: FloatArray
    cost_of_model: Mapping[str, FloatArray]
    committed_usd: FloatArray
    capex_usd: FloatArray
    capex: Mapping[str, FloatArray]
    residual_usd: FloatArray
    energy_j: FloatArray
    it_energy_j: FloatArray
    peak_power_w: FloatArray
    it_peak_power_w: FloatArray
    carbon_kg: FloatArray
    cash_flow_usd: FloatArray
