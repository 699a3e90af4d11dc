"""How many layouts a second the step room evaluates, on one core.

    taskset -c 0 python benchmarks/step.py [--repeats 5]

Seven million combinations of Llama 3.1 405B on 16,384 H100, legal or not; the figure is combinations over processor seconds of
`evaluate`, and the same for the legal ones alone.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time

import numpy as np

from makespan import catalog
from makespan.specs.hardware import ClusterSpec
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate

SPACE = {
    "tp": [1, 2, 4, 8],
    "cp": [1, 2, 4, 8],
    "pp": range(1, 64),
    "dp": range(1, 65),
    "micro_batch": [1, 2, 4, 8],
    "vpp": [1, 2, 3],
    "recompute": [0, 3, 64],
    "sharding": [1, 2, 3],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    cluster = ClusterSpec(
        name="16,384 H100",
        accelerator=catalog.accelerator("h100-sxm").spec,
        node=catalog.node("hgx-h100").spec,
        fabric=catalog.fabric("nvlink8-ib-rail").spec,
        num_accelerators=16384,
    )
    model = catalog.model("llama3.1-405b").spec
    profile = catalog.framework("nemo-2025").spec
    config = StepConfig(global_batch=2048, seq_len=8192, precision="bf16")
    grid = np.meshgrid(*SPACE.values(), indexing="ij")
    everything = LayoutArrays.build(**{name: axis.ravel() for name, axis in zip(SPACE, grid, strict=True)})
    legal = everything.take(np.isfinite(evaluate(model, config, cluster, profile, everything).time_s))
    for name, rows in (("all combinations", everything), ("legal ones", legal)):
        seconds = []
        for _ in range(repeats):
            start = time.process_time()
            evaluate(model, config, cluster, profile, rows)
            seconds.append(time.process_time() - start)
        middle = statistics.median(seconds)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f} s"
        sys.stdout.write(f"{name}: {len(rows):,} rows, {len(rows) / middle / 1e6:.2f} M/s ({spread})\n")
    sys.stdout.write(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB\n")


if __name__ == "__main__":
    main()
