"""Energy a run draws at the facility meter, what a joule of it costs, and the peak that has to be provided for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from makespan.economics.steps import StepFunction
from makespan.economics.usage import PoolUse
from makespan.specs.campaign import CampaignResult
from makespan.specs.hardware import NodeSpec
from makespan.specs.supply import BuildSpec, PowerSource, SupplyResult
from makespan.uncertainty import Streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def it_energy_j(node: NodeSpec, use: PoolUse) -> FloatArray:
    """IT energy of the accelerators the run holds: mean draw while they compute, idle draw while they wait. [J]

    Network and storage of the nodes are included, cooling and conversion losses are not (multiply by the PUE). Hot
    spares and accelerators that the layout leaves over count as computing, which is a per cent or two too much.
    """
    working = use.accelerator_s - use.waiting_accelerator_s
    mean_w, idle_w = node.mean_training_per_accelerator_w, node.idle_per_accelerator_w
    return working * mean_w + use.waiting_accelerator_s * idle_w


def it_peak_power_w(node: NodeSpec, supply: SupplyResult, use: PoolUse) -> FloatArray:
    """Provisioned peak IT power of the pool's powered accelerators, largest until the run leaves it. [W]

    All powered accelerators count, whatever share of them the run gets: the power has to be there. 0 where unused.
    """
    powered = StepFunction.of(supply.timeline.start_s, supply.timeline.powered).largest_until(use.until_s)
    return np.where(use.is_used, powered * node.provisioned_peak_per_accelerator_w, 0.0)


def source_window_s(
    source: PowerSource, supply: SupplyResult, streams: Streams, owner: str
) -> tuple[FloatArray, FloatArray]:
    """When a source is there: not before its date, nor before the activities it waits for have ended. [s]"""
    start = streams.draw(source.from_s, f"{owner}.{source.name}.from_s")
    for activity in source.after:
        if activity in supply.milestones:
            start = np.maximum(start, supply.milestones[activity][1])
    until = np.full_like(start, np.inf)
    if source.until_s is not None:
        until = streams.draw(source.until_s, f"{owner}.{source.name}.until_s")
    return start, until


def energy_price_and_carbon(
    spec: BuildSpec, supply: SupplyResult, use: PoolUse, campaign: CampaignResult, streams: Streams
) -> tuple[FloatArray, FloatArray]:
    """Mean price and carbon of the run's energy at the facility meter, shape (replicates,). [USD/J], [kg/J]

    Notes
    -----
    At each of the campaign's sampling times the site's mean draw (all powered accelerators at their training mean,
    times the PUE) is served by the firm sources that are there, cheapest first by central price, ties as written.
    A source gives its units less the spare ones, or the share of all units that run, whichever is less. What no
    source covers is charged at the dearest one. The run's mean weighs the times by the accelerators it uses.
    Ramping limits, part-load efficiency and tariffs by hour are left out.
    """
    num_replicates = len(use.until_s)
    firm: Sequence[PowerSource] = sorted(
        (s for s in spec.power if s.firm), key=lambda s: s.energy_price_usd_per_j.central
    )
    if not firm:
        return np.zeros(num_replicates), np.zeros(num_replicates)
    times = campaign.progress_times_s
    weights = campaign.used * _overlap_s(times, use)
    weights = np.where(np.sum(weights, axis=1, keepdims=True) > 0, weights, 1.0)
    powered = StepFunction.of(supply.timeline.start_s, supply.timeline.powered)
    powered_at = np.stack([powered.at(np.full(num_replicates, t)) for t in times], axis=1)
    left_w = powered_at * spec.node.mean_training_per_accelerator_w * supply.pue[:, None]
    served_w = np.maximum(left_w, 1.0)
    left_w = served_w.copy()
    paid = np.zeros_like(left_w)
    carbon = np.zeros_like(left_w)
    for source in firm:
        start, until = source_window_s(source, supply, streams, spec.name)
        units = min(source.num_units - source.num_redundant, source.num_units * source.availability)
        capacity = streams.draw(source.capacity_w, f"{spec.name}.{source.name}.capacity_w") * units
        price = streams.draw(source.energy_price_usd_per_j, f"{spec.name}.{source.name}.energy_price")[:, None]
        present = (times[None, :] >= start[:, None]) & (times[None, :] < until[:, None])
        taken = np.where(present, np.minimum(left_w, capacity[:, None]), 0.0)
        left_w -= taken
        paid += taken * price
        carbon += taken * source.carbon_kg_per_j
    paid += left_w * price
    carbon += left_w * firm[-1].carbon_kg_per_j
    norm = np.sum(weights, axis=1)
    return np.sum(weights * paid / served_w, axis=1) / norm, np.sum(weights * carbon / served_w, axis=1) / norm


def _overlap_s(times_s: FloatArray, use: PoolUse) -> FloatArray:
    """Part of each sampling interval in which the run uses the pool, shape (replicates, T). [s]"""
    edges = np.append(times_s, times_s[-1])
    begin = np.maximum(edges[None, :-1], use.from_s[:, None])
    end = np.minimum(edges[None, 1:], use.until_s[:, None])
    overlap: FloatArray = np.where(use.is_used[:, None], np.maximum(end - begin, 0.0), 0.0)
    return overlap
