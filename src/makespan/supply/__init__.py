"""Accelerators by date: rental ramps, construction, deliveries, commissioning and power become a `CapacityTimeline`.

activities ─┬─> halls ─┐
            │          ├─> pods installed ─> burnt in ─┐
deliveries ─┼──────────┘                               ├─> installed, powered, usable by date
            └─> power sources ─> firm power ───────────┘
"""

from __future__ import annotations

from makespan.specs.supply import BuildSpec, RentSpec, SupplyResult
from makespan.supply.build import build_supply
from makespan.supply.power import firm_power_w, runnable_accelerators
from makespan.supply.rent import rent_supply
from makespan.supply.schedule import ScheduleError, schedule_problems
from makespan.uncertainty import Streams

__all__ = ["ScheduleError", "firm_power_w", "runnable_accelerators", "schedule_problems", "supply"]


def supply(pool: RentSpec | BuildSpec, streams: Streams, *, horizon_s: float) -> SupplyResult:
    """Capacity of one pool by date, one sample a replicate.

    Parameters
    ----------
    pool : an offer to rent, or a site to build.
    streams : draws are keyed by the pool's name, so options that share a pool share its luck.
    horizon_s : what is not there by then never is: such dates are `inf`. [s]

    Raises
    ------
    ScheduleError : a site's activities wait for each other or for a name nobody has.
    """
    if isinstance(pool, RentSpec):
        return rent_supply(pool, streams, horizon_s=horizon_s)
    return build_supply(pool, streams, horizon_s=horizon_s)
