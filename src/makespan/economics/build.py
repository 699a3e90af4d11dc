"""A site of one's own: capital, what a run uses up of it, and what running it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from makespan.economics.capital import straight_line
from makespan.economics.cash import paid_evenly, paid_once
from makespan.economics.pool import PoolCost
from makespan.economics.power import (
    energy_price_and_carbon,
    it_energy_j,
    it_peak_power_w,
    source_window_s,
)
from makespan.economics.steps import StepFunction
from makespan.economics.usage import PoolUse, end_of_run_s, share_of
from makespan.specs.campaign import CampaignResult
from makespan.specs.supply import BuildSpec, SupplyResult
from makespan.uncertainty import Streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def capital_usd(spec: BuildSpec, streams: Streams) -> dict[str, FloatArray]:
    """Capital by category: compute, construction and each lump sum, for the site at full size. [USD]"""
    costs = spec.costs
    per_accelerator = streams.draw(costs.compute_usd_per_accelerator, f"{spec.name}.compute_usd_per_accelerator")
    per_it_w = streams.draw(costs.construction_usd_per_it_w, f"{spec.name}.construction_usd_per_it_w")
    it_w = spec.num_accelerators * spec.node.provisioned_peak_per_accelerator_w
    capex = {"compute": per_accelerator * spec.num_accelerators, "construction": per_it_w * it_w}
    for name, amount in costs.extra_capex_usd.items():
        capex[name] = streams.draw(amount, f"{spec.name}.{name}")
    return capex


def build_cost(
    spec: BuildSpec,
    supply: SupplyResult,
    use: PoolUse,
    campaign: CampaignResult,
    streams: Streams,
    edges_s: FloatArray,
) -> PoolCost:
    """Money and energy of one built site.

    Notes
    -----
    With I the installed accelerator-seconds until the run leaves and U the run's, the run is charged s = U / I of

    * straight-line depreciation: compute from the day each accelerator is accepted, construction and lump sums from the
      first one;
    * the cost of capital on the book value of what is in service;
    * staff from the first accepted accelerator, upkeep of accepted ones, the fixed cost of power sources;

    and its own energy in full. Idle capacity is thus charged to nobody's run: it shows in `capex_usd`, `residual_usd`
    and the cash flow. Interest during construction, taxes and resale are left out.
    """
    costs = spec.costs
    capex = capital_usd(spec, streams)
    per_accelerator = capex["compute"] / spec.num_accelerators
    structure = np.sum([amount for name, amount in capex.items() if name != "compute"], axis=0)
    installed = StepFunction.of(supply.timeline.start_s, supply.timeline.installed)
    added = installed.additions()
    in_service = installed.first_positive_s()
    share = share_of(use.accelerator_s, installed.integral(use.until_s))
    starts = np.where(np.isfinite(supply.timeline.start_s), supply.timeline.start_s, 0.0)

    def written_off_and_bound(until_s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Depreciation of compute and of structure, and both integrals of book value. [USD], [USD s]"""
        age = np.maximum(until_s[:, None] - starts, 0.0)
        compute, compute_bound = straight_line(
            age, added, life_s=costs.compute_life_s, residual_fraction=costs.residual_fraction
        )
        site_age = _since(in_service, until_s)[:, None]
        site, site_bound = straight_line(site_age, np.ones_like(site_age), life_s=costs.construction_life_s)
        return per_accelerator * compute, structure * site, per_accelerator * compute_bound, structure * site_bound

    compute_written, site_written, compute_bound, site_bound = written_off_and_bound(use.until_s)
    end = end_of_run_s(campaign)
    compute_at_end, site_at_end, _, _ = written_off_and_bound(end)

    staff = streams.draw(costs.staff_usd_per_s, f"{spec.name}.staff_usd_per_s")
    upkeep = streams.draw(costs.maintenance_fraction_per_s, f"{spec.name}.maintenance_fraction_per_s") * per_accelerator
    price, carbon = energy_price_and_carbon(spec, supply, use, campaign, streams)
    it_energy = it_energy_j(spec.node, use)
    energy = it_energy * supply.pue
    it_peak = it_peak_power_w(spec.node, supply, use)
    cash = _construction_cash(spec, supply, capex, streams, edges_s)
    cash += _running_cash(spec, supply, end, staff=staff, upkeep=upkeep, energy_price=price, edges_s=edges_s)
    fixed_run, fixed_cash = _fixed_power(spec, supply, use, end, streams, edges_s)
    total = np.sum(list(capex.values()), axis=0)
    return PoolCost(
        lines={
            "compute_depreciation": share * compute_written,
            "construction_depreciation": share * site_written,
            "energy": energy * price,
            "generation_fixed": share * fixed_run,
            "staff": share * staff * _since(in_service, use.until_s),
            "maintenance": share * upkeep * installed.integral(use.until_s),
            "cost_of_capital": share * costs.discount_rate_per_s * (compute_bound + site_bound),
        },
        committed_usd=total,
        capex=capex,
        residual_usd=total - compute_at_end - site_at_end,
        it_energy_j=it_energy,
        energy_j=energy,
        it_peak_power_w=it_peak,
        peak_power_w=it_peak * supply.pue,
        carbon_kg=energy * carbon,
        cash_flow_usd=cash + fixed_cash,
    )


def _since(start_s: FloatArray, until_s: FloatArray) -> FloatArray:
    """Time from a start (`inf` for never) to a finite end, at least 0. [s]"""
    return until_s - np.minimum(start_s, until_s)


def _construction_cash(
    spec: BuildSpec, supply: SupplyResult, capex: dict[str, FloatArray], streams: Streams, edges_s: FloatArray
) -> FloatArray:
    """Capital by month: compute on the day its lot is delivered, the rest evenly from the start to all installed. [USD]

    Without lots, compute is paid when the first accelerator is accepted. Lots whose counts do not add up to the site
    share its whole price in proportion.
    """
    compute = capex["compute"]
    cash = np.zeros((len(compute), len(edges_s) - 1))
    ordered = sum(lot.num_accelerators for lot in spec.deliveries)
    for number, lot in enumerate(spec.deliveries):
        at_s = streams.draw(lot.at_s, f"{spec.name}.deliveries.{number}")
        cash += paid_once(compute * (lot.num_accelerators / ordered), at_s, edges_s)
    if not ordered:
        first = StepFunction.of(supply.timeline.start_s, supply.timeline.installed).first_positive_s()
        cash += paid_once(compute, first, edges_s)
    begin = streams.draw(spec.starts_s, f"{spec.name}.starts_s")
    finished = np.minimum(supply.all_installed_s, edges_s[-1])
    for name, amount in capex.items():
        if name != "compute":
            cash += paid_evenly(amount, begin, np.maximum(finished, begin), edges_s)
    return cash


def _running_cash(
    spec: BuildSpec,
    supply: SupplyResult,
    end_s: FloatArray,
    *,
    staff: FloatArray,
    upkeep: FloatArray,
    energy_price: FloatArray,
    edges_s: FloatArray,
) -> FloatArray:
    """Staff, upkeep and energy of the whole site by month, until the end of the run. [USD]

    Energy: every powered accelerator at its training mean, at the run's mean price.
    """
    installed = StepFunction.of(supply.timeline.start_s, supply.timeline.installed)
    powered = StepFunction.of(supply.timeline.start_s, supply.timeline.powered)
    usd_per_powered_s = spec.node.mean_training_per_accelerator_w * supply.pue * energy_price
    first = installed.first_positive_s()
    by_edge = [
        staff * _since(first, until) + upkeep * installed.integral(until) + usd_per_powered_s * powered.integral(until)
        for until in (np.minimum(end_s, edge) for edge in edges_s)
    ]
    return np.diff(np.stack(by_edge, axis=1), axis=1)


def _fixed_power(
    spec: BuildSpec, supply: SupplyResult, use: PoolUse, end_s: FloatArray, streams: Streams, edges_s: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fixed cost of all power sources until the run leaves, and by month until its end. [USD]"""
    until_use = np.zeros(len(end_s))
    cash = np.zeros((len(end_s), len(edges_s) - 1))
    for source in spec.power:
        rate = streams.draw(source.fixed_usd_per_s, f"{spec.name}.{source.name}.fixed_usd_per_s")
        start, until = source_window_s(source, supply, streams, spec.name)
        start = np.maximum(start, 0.0)
        until_use += rate * _since(start, np.minimum(until, use.until_s))
        stop = np.minimum(until, end_s)
        present = _since(start, stop)
        cash += paid_evenly(rate * present, np.minimum(start, stop), stop, edges_s)
    return until_use, cash
