"""The cost of one option: its pools added up, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from makespan.economics.build import build_cost
from makespan.economics.cash import month_edges_s, paid_once
from makespan.economics.pool import PoolCost
from makespan.economics.rent import rent_cost
from makespan.economics.usage import PoolUse, pool_uses
from makespan.specs.campaign import CampaignResult
from makespan.specs.economics import CostResult
from makespan.specs.supply import OptionSpec, RentSpec, SupplyResult
from makespan.uncertainty import Streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

COST_LINES = (
    "rent",
    "unused_commitment",
    "compute_depreciation",
    "construction_depreciation",
    "energy",
    "generation_fixed",
    "staff",
    "maintenance",
    "cost_of_capital",
    "move",
)
"""Lines of `CostResult.cost_of_model`, in print order. Every option has all of them; they add up to the total."""


def cost_of(
    option: OptionSpec,
    supplies: Sequence[SupplyResult],
    campaign: CampaignResult,
    streams: Streams,
    *,
    horizon_s: float,
) -> CostResult:
    """Money, energy and power of one option, until the release or, where there is none, the horizon.

    Parameters
    ----------
    option : pools in the order they are used.
    supplies : one per pool, same order, same replicates as `campaign`.
    campaign : what the run took of each pool (`pool_accelerator_s`, keyed by `timeline.pool`).
    streams : prices are drawn once a replicate, under the names of their distributions.
    horizon_s : cash flow covers whole months up to it. [s]

    Notes
    -----
    Rules of rent in `rent_cost`, of a site in `build_cost`; derivations in `docs/explain/economics.md`. The peak is
    the largest of the pools', since a run leaves one before it fills the next.
    """
    edges = month_edges_s(horizon_s)
    uses = pool_uses(campaign, [supply.timeline.pool for supply in supplies])
    costs: list[PoolCost] = []
    for spec, supply, use in zip(option.pools, supplies, uses, strict=True):
        if isinstance(spec, RentSpec):
            costs.append(rent_cost(spec, supply, use, streams, edges))
        else:
            costs.append(build_cost(spec, supply, use, campaign, streams, edges))
    move, move_cash = _move(option, uses, streams, edges)

    zeros = np.zeros(len(campaign.release_s))
    lines = {line: _sum([cost.lines.get(line, zeros) for cost in costs]) for line in COST_LINES}
    lines["move"] = lines["move"] + move
    capex: dict[str, FloatArray] = {}
    for cost in costs:
        for name, amount in cost.capex.items():
            capex[name] = capex.get(name, zeros) + amount
    return CostResult(
        cost_of_model_usd=_sum(list(lines.values())),
        cost_of_model=lines,
        committed_usd=_sum([cost.committed_usd for cost in costs]),
        capex_usd=_sum([zeros, *capex.values()]),
        capex=capex,
        residual_usd=_sum([cost.residual_usd for cost in costs]),
        energy_j=_sum([cost.energy_j for cost in costs]),
        it_energy_j=_sum([cost.it_energy_j for cost in costs]),
        peak_power_w=np.max([cost.peak_power_w for cost in costs], axis=0),
        it_peak_power_w=np.max([cost.it_peak_power_w for cost in costs], axis=0),
        carbon_kg=_sum([cost.carbon_kg for cost in costs]),
        cash_flow_usd=_sum([move_cash, *(cost.cash_flow_usd for cost in costs)]),
    )


def _sum(parts: list[FloatArray]) -> FloatArray:
    total: FloatArray = np.sum(parts, axis=0)
    return total


def _move(
    option: OptionSpec, uses: Sequence[PoolUse], streams: Streams, edges_s: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """What moves cost the run, and when: once for each later pool that is used after an earlier one. [USD]"""
    num_replicates = len(uses[0].until_s)
    cost = np.zeros(num_replicates)
    cash = np.zeros((num_replicates, len(edges_s) - 1))
    if option.move is None or len(uses) < 2:
        return cost, cash
    price = streams.draw(option.move.cost_usd, f"{option.name}.move.cost_usd")
    has_run = uses[0].is_used
    for use in uses[1:]:
        moved = has_run & use.is_used
        amount = np.where(moved, price, 0.0)
        cost += amount
        cash += paid_once(amount, np.where(moved, use.from_s, np.inf), edges_s)
        has_run = has_run | use.is_used
    return cost, cash
