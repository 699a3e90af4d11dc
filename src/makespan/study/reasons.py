"""Why an option cannot be done, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from makespan.specs.campaign import CampaignResult, RateTable
from makespan.specs.plan import PoolResult
from makespan.specs.supply import OptionSpec
from makespan.uncertainty import Distribution, Streams


def pools_without_layout(
    option: OptionSpec, pools: Sequence[PoolResult], tables: Sequence[RateTable | None]
) -> tuple[str, ...]:
    """For each pool that nothing can run on: what stopped it, and how near the nearest layout came."""
    reasons: list[str] = []
    for spec, pool, table in zip(option.pools, pools, tables, strict=True):
        if table is not None:
            continue
        if not pool.levels:
            reasons.append(f"{spec.place}: no accelerator is ever usable before the horizon")
            continue
        found = pool.searches[-1]
        if found.num_legal == 0:
            reasons.append(
                f"{spec.place}: no layout of the sizes that are fixed goes on {pool.levels[-1]:,} accelerators"
            )
            continue
        tally = ", ".join(f"{count:,} {status.name.lower()}" for status, count in found.infeasible.items() if count)
        reasons.append(f"{spec.place}: none of {found.num_legal:,} layouts fits ({tally})")
        if found.nearest is not None:
            layout, missing_bytes = found.nearest
            reasons.append(f"{spec.place}: the nearest, {layout}, lacks {missing_bytes / 2**30:.1f} GiB an accelerator")
    return tuple(reasons)


def never_done(campaign: CampaignResult, ready_s: Distribution, streams: Streams) -> tuple[str, ...]:
    """Why no replicate is done, where layouts fit; nothing where one is."""
    if np.isfinite(campaign.release_s).any():
        return ()
    if np.min(streams.draw(ready_s)) >= campaign.horizon_s:
        return ("data and recipe are ready only after the horizon",)
    began = int(np.isfinite(campaign.first_training_s).sum())
    if began == 0:
        return ("the run never gets accelerators enough for a layout that fits",)
    count = len(campaign.release_s)
    return (f"the run is done before the horizon in no replicate (it begins in {began:,} of {count:,})",)
