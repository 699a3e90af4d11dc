"""How long an estimate takes: one call of `step_estimate`, and `evaluate` a layout in a batch. On one core.

    taskset -c 0 python benchmarks/estimate.py [--repeats 7] [--write benchmarks/results/step_<hardware>_<yyyymm>.md]

Single calls: every shipped run whose layout is stated, each called `--repeats` times after a call that is not counted; the
median of a run's calls counts. Batches: legal layouts of three models, seconds of `evaluate` over rows, median of `--repeats`.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from makespan import catalog
from makespan.specs.hardware import ClusterSpec
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate, step_estimate
from makespan.validation.cells import NotExpressible
from makespan.validation.express import Case, case_of
from makespan.validation.files import read_models, read_rows

SPACE = {
    "tp": [1, 2, 4, 8],
    "cp": [1, 2, 4],
    "pp": [1, 2, 4, 6, 8, 12, 16, 24, 32],
    "dp": [4, 8, 12, 16, 24, 32, 48, 64],
    "ep": [1, 8, 16, 32],
    "micro_batch": [1, 2, 4, 8],
    "vpp": [1, 2, 3],
    "recompute": [0, 3, 64],
    "sharding": [1, 2, 3],
}
BATCHES = {
    "llama3.1-405b": ("nemo-2025", "bf16"),
    "deepseek-v3": ("megatron-2025", "fp8"),
    "nemotron-3-super-120b-a12b": ("megatron-2025", "bf16"),
}


def seconds_of(call: Callable[[], object], repeats: int) -> list[float]:
    """Wall seconds of each of some calls, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def shipped_cases() -> list[Case]:
    """Every shipped run that can be expressed and whose layout is stated."""
    models, cases = read_models(None), []
    for row in read_rows(None):
        try:
            case = case_of(row, models)
        except NotExpressible:
            continue
        if case.layout is not None:
            cases.append(case)
    return cases


def single_calls(repeats: int) -> list[str]:
    """Table lines: median, tenth and ninetieth percentile over the runs, all and by kind of model."""
    found: dict[str, list[float]] = {"all": [], "dense": [], "mixture of experts": []}
    for case in shipped_cases():
        layout = case.layout
        assert layout is not None
        times = seconds_of(
            lambda case=case, layout=layout: step_estimate(  # type: ignore[misc]
                case.model, case.config, case.cluster, case.profile, layout
            ),
            repeats,
        )
        for group in ("all", "dense" if case.model.moe is None else "mixture of experts"):
            found[group].append(1e3 * statistics.median(times))
    return [
        f"| `step_estimate`, {group} ({len(times)} runs) | {statistics.median(times):.2f} ms "
        f"| {np.quantile(times, 0.1):.2f} to {np.quantile(times, 0.9):.2f} ms |"
        for group, times in found.items()
    ]


def batches(repeats: int) -> list[str]:
    """Table lines: microseconds a legal layout, with the smallest and largest."""
    lines = []
    cluster = ClusterSpec(
        name="16,384 H100",
        accelerator=catalog.accelerator("h100-sxm").spec,
        node=catalog.node("hgx-h100").spec,
        fabric=catalog.fabric("nvlink8-ib-rail").spec,
        num_accelerators=16384,
    )
    for name, (framework, precision) in BATCHES.items():
        model, profile = catalog.model(name).spec, catalog.framework(framework).spec
        config = StepConfig(global_batch=2048, seq_len=8192, precision=precision)
        space = SPACE if model.moe is not None else SPACE | {"ep": [1], "dp": range(1, 65)}
        grid = np.meshgrid(*space.values(), indexing="ij")
        everything = LayoutArrays.build(**{key: axis.ravel() for key, axis in zip(space, grid, strict=True)})
        legal = everything.take(np.isfinite(evaluate(model, config, cluster, profile, everything).time_s))
        for what, detail in (("", False), (", with every part of time and memory", True)):
            rows = legal if not detail else legal.take(slice(0, 100_000))
            times = seconds_of(lambda: evaluate(model, config, cluster, profile, rows, detail=detail), repeats)  # noqa: B023
            each = [1e6 * seconds / len(rows) for seconds in times]
            lines.append(
                f"| `evaluate`, {len(rows):,} layouts of {name}{what} | {statistics.median(each):.2f} us "
                f"| {min(each):.2f} to {max(each):.2f} us |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = ["| what | median | spread |", "|---|--:|--:|", *single_calls(options.repeats), *batches(options.repeats)]
    sys.stdout.write("\n".join(lines) + "\n")
    if options.write:
        head = (
            "# Step estimates\n\n"
            f"`python benchmarks/estimate.py --repeats {options.repeats}` on {platform.machine()}, one of {os.cpu_count()} "
            f"cores, Python {platform.python_version()}, numpy {np.__version__}, {time.strftime('%Y-%m-%d')}.\n\n"
            "Single calls: 10th to 90th percentile over runs of the median of a run's calls. Batches: smallest to largest "
            "of the repeats, a layout.\n\n"
        )
        options.write.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
