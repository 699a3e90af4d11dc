"""A rented pool: what its contract costs, and what of it one run is charged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from makespan.economics.cash import paid_evenly, paid_once
from makespan.economics.pool import PoolCost
from makespan.economics.power import it_energy_j, it_peak_power_w
from makespan.economics.steps import StepFunction
from makespan.economics.usage import PoolUse, share_of
from makespan.specs.supply import RentSpec, SupplyResult
from makespan.uncertainty import Streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def rent_cost(spec: RentSpec, supply: SupplyResult, use: PoolUse, streams: Streams, edges_s: FloatArray) -> PoolCost:
    """Money and energy of one rented pool.

    Notes
    -----
    With R(a, b) the reserved accelerator-seconds between two dates, U the run's, p the price, y the take-or-pay share,
    the contract runs from its first capacity t0 to `stop`, the later of the minimum term and the run's last use:

    * rent = p U;
    * s = U / R(first use, last use), the run's share of the pool while it trains;
    * unused commitment = s (y p R(outside the use, t0 to stop) + what is missing to `commitment_usd`): capacity reserved
      before the first and after the last use is paid for by those who used the contract, in the proportion of their use.
      Inside the window the rest of the pool is other work's, and so is its bill;
    * committed = max(y p R(t0, t0 + term), `commitment_usd`), due whether anything runs or not.

    A contract that is never delivered costs nothing. Interest on the rent, early termination and resale are left out.
    """
    price = streams.draw(spec.price_usd_per_accelerator_s, f"{spec.name}.price_usd_per_accelerator_s")
    reserved = StepFunction.of(supply.timeline.start_s, supply.timeline.installed)
    first = reserved.first_positive_s()
    is_delivered = np.isfinite(first)
    begin = np.where(is_delivered, first, 0.0)
    last_use = np.where(use.is_used, use.until_s, begin)
    term_end = begin + np.where(is_delivered, spec.term_s, 0.0)
    stop = np.where(is_delivered, np.maximum(term_end, last_use), 0.0)

    used = np.where(is_delivered, use.accelerator_s, 0.0)
    in_window = np.where(use.is_used, reserved.between(np.maximum(use.from_s, begin), last_use), 0.0)
    share = share_of(used, in_window)
    outside = np.maximum(reserved.between(first, stop) - np.maximum(in_window, used), 0.0)
    obliged = price * spec.take_or_pay * reserved.between(first, term_end)
    floor = np.where(is_delivered, spec.commitment_usd, 0.0)
    above_obliged = price * (1.0 - spec.take_or_pay) * used
    contract = price * spec.take_or_pay * reserved.between(first, stop) + above_obliged
    shortfall = np.maximum(floor - contract, 0.0)

    cash = np.zeros((len(price), len(edges_s) - 1))
    before = np.zeros(len(price))
    for month, edge in enumerate(edges_s[1:]):
        so_far = reserved.between(first, np.minimum(stop, edge))
        cash[:, month] = price * spec.take_or_pay * (so_far - before)
        before = so_far
    cash += paid_evenly(above_obliged, np.maximum(use.from_s, begin), last_use, edges_s)
    cash += paid_once(shortfall, stop, edges_s)

    it_energy = it_energy_j(spec.node, use)
    it_peak = it_peak_power_w(spec.node, supply, use)
    return PoolCost(
        lines={
            "rent": price * used,
            "unused_commitment": share * (price * spec.take_or_pay * outside + shortfall),
        },
        committed_usd=np.maximum(obliged, floor),
        capex={},
        residual_usd=np.zeros(len(price)),
        it_energy_j=it_energy,
        energy_j=it_energy * supply.pue,
        it_peak_power_w=it_peak,
        peak_power_w=it_peak * supply.pue,
        carbon_kg=it_energy * supply.pue * spec.carbon_kg_per_j,
        cash_flow_usd=cash,
    )
