"""Weeks of steps: failures, recovery, checkpoints, and the answer with its ledger. Times in seconds after `as_of`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from makespan.uncertainty import Distribution

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureSpec:
    """Unplanned interruptions of a synchronous job.

    per_accelerator_s : hazard that scales with size (hardware, links). [1/s]
    per_job_s : hazard that does not (software, storage, people). [1/s]
    """

    per_accelerator_s: Distribution
    per_job_s: Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySpec:
    """From the fault to the first new step. Each is drawn anew for every failure around the replicate's mean.

    detection_s, restart_s : until noticed and located; until processes, communicators and weights are back. [s]
    restart_per_doubling_s : added per doubling of accelerators above 1,024. [s]
    spread : coefficient of variation of a single recovery. [-]
    spare_fraction : nodes kept as hot spares. [-]
    repair_s : until a failed node is back. [s]
    """

    detection_s: Distribution
    restart_s: Distribution
    restart_per_doubling_s: float
    spread: float
    spare_fraction: float
    repair_s: Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSpec:
    """Saving the state.

    interval_s : between saves; None for the optimum (Daly) of each capacity level. [s]
    blocking_s : training stops for this long at each save. [s]
    save_s : until a save is safe; work since the last safe save is lost in a failure. [s]
    """

    interval_s: float | None
    blocking_s: Distribution
    save_s: Distribution


LEDGER = (
    "productive",
    "wait_recipe",
    "wait_capacity",
    "checkpoint",
    "detection",
    "restart",
    "lost_work",
    "repair_wait",
    "reconfiguration",
    "restarted_work",
    "calendar_stage",
)
"""Lines of the ledger. They add up to the wall time from `as_of` to the release (or the horizon), to the last second."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RateTable:
    """Productive speed of a pool at each number of accelerators the run may use.

    num_accelerators : ascending levels, shape (levels,).
    flop_per_s : model FLOP a second at the level's best layout; shape (levels,) or (replicates, levels). [FLOP/s]
    """

    num_accelerators: FloatArray
    flop_per_s: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CampaignResult:
    """One option's run. Arrays have shape (replicates,); `inf` for never.

    first_training_s : first productive second.   stage_end_s : name -> end.
    ledger : line -> seconds; the lines add up to `release_s` (or `horizon_s` where never).
    delay_s : name of a cause -> seconds of wall time; also add up to it (see `campaign.attribution`).
    goodput : productive seconds over wall seconds between first training and the end of the compute stages. [-]
    accelerator_s, productive_accelerator_s : held by the run, and making progress. [s]
    progress : share of the compute budget done at `progress_times_s`, shape (replicates, T). [-]
    used : accelerators the run computes on at those times, shape (replicates, T). [-]
    pool_until_s : pool -> when the run leaves it (a move, the release, or the horizon); empty where not recorded.
    """

    horizon_s: float
    first_training_s: FloatArray
    stage_end_s: Mapping[str, FloatArray]
    pretraining_s: FloatArray
    release_s: FloatArray
    ledger: Mapping[str, FloatArray]
    delay_s: Mapping[str, FloatArray]
    goodput: FloatArray
    interruptions: FloatArray
    accelerator_s: FloatArray
    productive_accelerator_s: FloatArray
    pool_accelerator_s: Mapping[str, FloatArray]
    progress_times_s: FloatArray
    progress: FloatArray
    used: FloatArray
    checkpoint_interval_s: FloatArray
    pool_until_s: Mapping[str, FloatArray] = field(default_factory=dict)
