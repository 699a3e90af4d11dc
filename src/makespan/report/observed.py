"""What then happened, beside what was forecast: inside P10 to P90 or not, and by how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from makespan.report.bands import band, date_band, iso_date, number, step_sampler
from makespan.report.labels import OBSERVED, label
from makespan.specs.plan import OptionResult
from makespan.specs.scenario import Scenario
from makespan.specs.supply import ObservedSpec
from makespan.uncertainty import percentiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

COUNTS = ("installed", "powered", "usable")


def judged(scenario: Scenario, option: OptionResult | None, seen: ObservedSpec) -> dict[str, Any]:
    """One observation with its verdict.

    Returns
    -------
    dict : `verdict` is `inside`, `earlier`, `later`, `lower`, `higher`, or None where nothing was forecast.
        `off_edge` and `off_median` are observed minus the nearest end of P10 to P90 (0 inside) and minus P50; seconds
        for dates, SI for numbers, None where a percentile is never reached.
        `rank` is the share of replicates at or below the observation.
    """
    source = next((source for source in scenario.sources if source.key == seen.source), None)
    row: dict[str, Any] = {
        "what": seen.what,
        "label": label(OBSERVED, seen.what),
        "text": seen.text,
        "date": None if seen.at_s is None else iso_date(scenario.as_of, seen.at_s),
        "value": None if seen.value is None else number(seen.value),
        "identity": seen.identity,
        "source": seen.source,
        "source_title": source.title if source else "",
        "source_url": source.url if source else "",
        "forecast": None,
        "verdict": None,
        "off_edge": None,
        "off_median": None,
        "rank": None,
    }
    if option is None:
        return row
    dates = _dates(option).get(seen.what)
    if dates is not None and seen.at_s is not None:
        return {**row, "forecast": date_band(scenario.as_of, dates), **_verdict(seen.at_s, dates, "earlier", "later")}
    values = _values(option, seen)
    if values is not None and seen.value is not None:
        return {**row, "forecast": band(values), **_verdict(seen.value, values, "lower", "higher")}
    return row


def _dates(option: OptionResult) -> dict[str, FloatArray]:
    """What a dated observation may be compared with. [s]"""
    campaign = option.campaign
    supplies = [pool.supply for pool in option.pools]
    dates = {
        "first_training": campaign.first_training_s,
        "pretraining": campaign.pretraining_s,
        "completion.pretraining": campaign.pretraining_s,
        "release": campaign.release_s,
        "completion.release": campaign.release_s,
    }
    if supplies:
        dates["all_installed"] = np.maximum.reduce([supply.all_installed_s for supply in supplies])
        dates["all_powered"] = np.maximum.reduce([supply.all_powered_s for supply in supplies])
        dates["first_usable"] = np.minimum.reduce([supply.first_usable_s for supply in supplies])
    return dates


def _values(option: OptionResult, seen: ObservedSpec) -> FloatArray | None:
    """What an observed number may be compared with, SI."""
    costs, campaign = option.costs, option.campaign
    if seen.what in COUNTS and seen.at_s is not None:
        when = np.array([seen.at_s])
        total = np.zeros(len(campaign.release_s))
        for pool in option.pools:
            timeline = pool.supply.timeline
            total += step_sampler(timeline.start_s, when)(getattr(timeline, seen.what))[:, 0]
        return total
    values: dict[str, FloatArray] = {
        "cost_of_model_usd": costs.cost_of_model_usd,
        "committed_usd": costs.committed_usd,
        "capex_usd": costs.capex_usd,
        "residual_usd": costs.residual_usd,
        "energy_j": costs.energy_j,
        "it_energy_j": costs.it_energy_j,
        "peak_power_w": costs.peak_power_w,
        "it_peak_power_w": costs.it_peak_power_w,
        "carbon_kg": costs.carbon_kg,
        "goodput": campaign.goodput,
        "interruptions": campaign.interruptions,
        "accelerator_s": campaign.accelerator_s,
    }
    return values.get(seen.what)


def _verdict(observed: float, values: FloatArray, below: str, above: str) -> dict[str, Any]:
    low, middle, high = percentiles(values)
    rank = number(float(np.mean(values <= observed)))
    off_median = number(observed - middle)
    if observed < low:
        return {"verdict": below, "off_edge": number(observed - low), "off_median": off_median, "rank": rank}
    if observed > high:
        return {"verdict": above, "off_edge": number(observed - high), "off_median": off_median, "rank": rank}
    return {"verdict": "inside", "off_edge": 0, "off_median": off_median, "rank": rank}


__all__ = ["COUNTS", "judged"]
