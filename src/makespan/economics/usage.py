"""When a run holds which pool, and how many accelerator-seconds of it work or wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from makespan.specs.campaign import CampaignResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

WAITING_LINES = ("checkpoint", "detection", "restart", "repair_wait", "reconfiguration")
"""Lines of the ledger in which accelerators are held but compute nothing. Lost and restarted work is computed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolUse:
    """What one run takes of one pool. Arrays of shape (replicates,).

    from_s, until_s : first and last second of use; both are the end of the run where the pool is not used. [s]
    accelerator_s : held by the run; `waiting_accelerator_s` of them compute nothing. [s]
    """

    from_s: FloatArray
    until_s: FloatArray
    accelerator_s: FloatArray
    waiting_accelerator_s: FloatArray

    @property
    def is_used(self) -> NDArray[np.bool_]:
        return self.accelerator_s > 0


def end_of_run_s(campaign: CampaignResult) -> FloatArray:
    """The release, or the horizon where there is none. [s]"""
    return np.minimum(campaign.release_s, campaign.horizon_s)


def share_of(part: FloatArray, whole: FloatArray) -> FloatArray:
    """part / whole between 0 and 1; 0 where there is no whole."""
    share: FloatArray = np.where(whole > 0, np.clip(part / np.where(whole > 0, whole, 1.0), 0.0, 1.0), 0.0)
    return share


def pool_uses(campaign: CampaignResult, pools: Sequence[str]) -> list[PoolUse]:
    """Use of each pool, in the order in which the run goes through them.

    Notes
    -----
    Waiting accelerator-seconds are the waiting lines of the ledger times the mean number of accelerators in productive
    seconds, split over the pools by what each gave. Where the campaign does not record when a pool is left
    (`pool_until_s`), the move is put where the running total of `used` reaches the pool's part.
    """
    end = end_of_run_s(campaign)
    zeros = np.zeros_like(end)
    held = [np.asarray(campaign.pool_accelerator_s.get(name, zeros), dtype=np.float64) for name in pools]
    total = np.sum(held, axis=0)
    productive_s = campaign.ledger.get("productive", zeros)
    mean_accelerators = np.where(
        productive_s > 0, campaign.productive_accelerator_s / np.where(productive_s > 0, productive_s, 1.0), 0.0
    )
    waiting_s = np.sum([campaign.ledger.get(line, zeros) for line in WAITING_LINES], axis=0)
    waiting = np.minimum(mean_accelerators * waiting_s, total)
    uses: list[PoolUse] = []
    begin = np.minimum(campaign.first_training_s, end)
    for position, name in enumerate(pools):
        if position == len(pools) - 1:
            leave = end
        elif name in campaign.pool_until_s:
            leave = np.minimum(campaign.pool_until_s[name], end)
        else:
            leave = _when_reached(campaign, share_of(np.sum(held[: position + 1], axis=0), total), end)
        leave = np.maximum(leave, begin)
        used = held[position] > 0
        uses.append(
            PoolUse(
                from_s=np.where(used, begin, end),
                until_s=np.where(used, leave, end),
                accelerator_s=held[position],
                waiting_accelerator_s=waiting * share_of(held[position], total),
            )
        )
        begin = np.where(used, leave, begin)
    return uses


def _when_reached(campaign: CampaignResult, share: FloatArray, end_s: FloatArray) -> FloatArray:
    """When the running total of `used` first reaches a share of its final value. [s]"""
    times = campaign.progress_times_s
    if len(times) < 2:
        return np.where(share > 0, end_s, 0.0)
    steps = campaign.used[:, :-1] * np.diff(times)
    running = np.concatenate([np.zeros((len(share), 1)), np.cumsum(steps, axis=1)], axis=1)
    index = np.minimum(np.sum(running < share[:, None] * running[:, -1:], axis=1), len(times) - 1)
    reached: FloatArray = np.minimum(times[index], end_s)
    return reached
