"""What happens over time: capacity, power and progress with bands, and the build as a Gantt chart."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from makespan.report.bands import KEYS, curve_band, iso_date, number, step_sampler, time_grid
from makespan.specs.plan import OptionResult
from makespan.specs.supply import SupplyResult
from makespan.uncertainty import percentiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def common_grid(options: Sequence[OptionResult], horizon_s: float) -> FloatArray:
    """Times at which every option is drawn: until the last likely event of any option, or the horizon. [s]"""
    ends: list[float] = [0.0]
    for option in options:
        if not np.isfinite(percentiles(option.campaign.release_s)[1]) and np.any(option.campaign.progress > 0.0):
            return time_grid(horizon_s)  # it trains, but not to the end: shown to where the simulation stops
        dates = [option.campaign.release_s, *(pool.supply.all_powered_s for pool in option.pools)]
        for values in dates:
            ends += [value for value in percentiles(values) if np.isfinite(value)]
    end_s = min(max(ends) * 1.03, horizon_s) if max(ends) > 0 else horizon_s
    return time_grid(end_s)


def option_curves(option: OptionResult, times_s: FloatArray) -> dict[str, Any]:
    """Bands at `times_s`, each {p10, p50, p90} of lists, for one option.

    installed, powered : accelerators over all pools.   usable : in one job, of the pool that has most.
    used : accelerators that the run computes on.   progress : share of the compute budget done.
    power_w : provisioned peak of the powered accelerators at the facility meter, over all pools. [W]
    power_limit_w : firm power of the option's own sites at the facility meter; None for pools at somebody else's. [W]
    """
    replicates = len(option.campaign.release_s)
    shape = (replicates, len(times_s))
    installed, powered, usable, demand = (np.zeros(shape) for _ in range(4))
    limits: list[FloatArray] = []
    for pool, spec in zip(option.pools, option.option.pools, strict=True):
        timeline = pool.supply.timeline
        sample = step_sampler(timeline.start_s, times_s)
        installed += sample(timeline.installed)
        here = sample(timeline.powered)
        powered += here
        usable = np.maximum(usable, sample(timeline.usable))
        demand += here * spec.node.provisioned_peak_per_accelerator_w * pool.supply.pue[:, None]
        limit = sample(timeline.power_limit_w)
        if np.isfinite(limit).all():
            limits.append(limit)
    return {
        "installed": curve_band(installed),
        "powered": curve_band(powered),
        "usable": curve_band(usable),
        "used": curve_band(_previous(option.campaign.progress_times_s, option.campaign.used, times_s)),
        "power_w": curve_band(demand),
        "power_limit_w": curve_band(np.add.reduce(limits)) if limits else None,
        "progress": curve_band(_linear(option.campaign.progress_times_s, option.campaign.progress, times_s)),
    }


def _previous(known_s: FloatArray, values: FloatArray, times_s: FloatArray) -> FloatArray:
    """Values that hold until the next known time, read at other times; 0 before the first."""
    if len(known_s) == 0:
        return np.zeros((values.shape[0], len(times_s)))
    index = np.searchsorted(known_s, times_s, side="right") - 1
    read = values[:, np.maximum(index, 0)]
    return np.where(index[None, :] < 0, 0.0, read)


def _linear(known_s: FloatArray, values: FloatArray, times_s: FloatArray) -> FloatArray:
    """Values between known times on a straight line; the end values outside."""
    if len(known_s) == 0:
        return np.zeros((values.shape[0], len(times_s)))
    right = np.clip(np.searchsorted(known_s, times_s, side="right"), 1, max(len(known_s) - 1, 1))
    if len(known_s) == 1:
        return np.repeat(values[:, :1], len(times_s), axis=1)
    left = right - 1
    weight = np.clip((times_s - known_s[left]) / (known_s[right] - known_s[left]), 0.0, 1.0)
    return np.asarray(values[:, left] * (1 - weight) + values[:, right] * weight)


def gantt(as_of: dt.date, supply: SupplyResult) -> list[dict[str, Any]]:
    """Every milestone with its start and end as date percentiles and how often it was on the critical path."""
    rows: list[tuple[float, dict[str, Any]]] = []
    criticality: Mapping[str, float] = supply.criticality
    for name, (start, end) in supply.milestones.items():
        starts, ends = percentiles(start), percentiles(end)
        row = {
            "name": name,
            "start": {key: iso_date(as_of, value) for key, value in zip(KEYS, starts, strict=True)},
            "end": {key: iso_date(as_of, value) for key, value in zip(KEYS, ends, strict=True)},
            "criticality": number(criticality[name]) if name in criticality else None,
        }
        rows.append((starts[1], row))
    rows.sort(key=lambda item: item[0])
    return [row for _, row in rows]
