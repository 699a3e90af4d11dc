"""How long 1,000 replicates of a campaign take, on one core.

    taskset -c 0 python benchmarks/campaign.py [--repeats 5] [--write benchmarks/results/campaign_<hardware>_<yyyymm>.md]

Times are processor seconds of `simulate` alone, imports and the first call left out.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import time
from pathlib import Path

import numpy as np

from makespan.campaign import simulate
from makespan.specs.campaign import CampaignResult, CheckpointSpec, FailureSpec, RateTable, RecoverySpec
from makespan.specs.supply import CapacityTimeline
from makespan.specs.training import StageSpec, TrainingSpec
from makespan.uncertainty import Fixed, Streams, Uniform
from makespan.units import DAY_S, YEAR_S

FLOP_PER_S = 4e14
LEVELS = 64
JOBS = {
    "16,384 accelerators, 100 days": {"accelerators": 16_384, "days": 85},
    "100,000 accelerators, 100 days": {"accelerators": 100_000, "days": 65},
    "100,000 accelerators, 100 days, arriving in 200 lots": {"accelerators": 100_000, "days": 65, "lots": 200},
    "300,000 accelerators, 150 days": {"accelerators": 300_000, "days": 50},
    "1,000,000 accelerators, booked in expectation": {"accelerators": 1_000_000, "days": 50},
}


def campaign(*, accelerators: int, days: float, lots: int = 1, replicates: int = 1000) -> CampaignResult:
    """A run of so many productive days at full speed; 48 failures a day on 100,000 accelerators."""
    starts = np.tile(np.linspace(0, 20 * DAY_S, lots), (replicates, 1))
    usable = np.tile(np.linspace(accelerators / lots, accelerators, lots), (replicates, 1))
    timeline = CapacityTimeline(
        pool="site",
        target=accelerators,
        start_s=starts,
        installed=usable,
        powered=usable,
        usable=usable,
        power_limit_w=np.full_like(usable, np.inf),
        binding=np.where(usable < accelerators, 6, 0),
    )
    levels = np.unique(np.linspace(accelerators / 10, accelerators * 0.98, LEVELS).round())
    return simulate(
        [timeline],
        [RateTable(num_accelerators=levels, flop_per_s=levels * FLOP_PER_S)],
        None,
        TrainingSpec(
            stages=(
                StageSpec(
                    name="pretraining", kind="compute", flop=Fixed(value=accelerators * FLOP_PER_S * days * DAY_S)
                ),
                StageSpec(name="post-training", kind="calendar", duration_s=Fixed(value=30 * DAY_S), share_used=0.3),
            ),
            ready_s=Fixed(value=0.0),
            run_share=(),
            restarted_work=Fixed(value=0.0),
            execution=Uniform(name="execution", low=0.9, high=1.0),
        ),
        1.0,
        FailureSpec(per_accelerator_s=Fixed(value=48 / DAY_S / 100_000), per_job_s=Fixed(value=0.3 / DAY_S)),
        RecoverySpec(
            detection_s=Fixed(value=120.0),
            restart_s=Fixed(value=300.0),
            restart_per_doubling_s=30.0,
            spread=0.5,
            spare_fraction=0.02,
            repair_s=Fixed(value=3 * DAY_S),
        ),
        CheckpointSpec(interval_s=None, blocking_s=Fixed(value=5.0), save_s=Fixed(value=60.0)),
        [8],
        Streams(seed=1, num_replicates=replicates),
        horizon_s=5 * YEAR_S,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = ["| 1,000 replicates | faults each | days of training | median s | min to max s |", "|---|--:|--:|--:|--:|"]
    campaign(accelerators=1024, days=1.0, replicates=10)
    for name, job in JOBS.items():
        seconds = []
        for _ in range(options.repeats):
            start = time.process_time()
            result = campaign(**job)
            seconds.append(time.process_time() - start)
        lines.append(
            f"| {name} | {result.interruptions.mean():,.0f} | {result.pretraining_s.mean() / DAY_S:.0f} "
            f"| {statistics.median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} |"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    text = "\n".join(lines) + f"\n\nPeak memory of the process {peak:.0f} MB.\n"
    print(text)
    if options.write:
        head = (
            f"# Campaign\n\n`python benchmarks/campaign.py --repeats {options.repeats}` on {platform.processor() or platform.machine()}, "
            f"one core, Python {platform.python_version()}, numpy {np.__version__}.\n\n"
        )
        options.write.write_text(head + text)


if __name__ == "__main__":
    main()
