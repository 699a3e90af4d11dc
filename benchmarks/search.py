"""How fast the layout search is, on the space that search_space.yaml fixes.

    python benchmarks/search.py [--repeats 5] [--write benchmarks/results/search_<hardware>_<yyyymm>.md]

Searches: seconds of `search` for each run and number of accelerators, the first call of the process apart, then the median.
Layouts a second: blocks of neighbouring layouts as the search works them out (`blocks.work_out`), on as many threads; every
layout gets a time, a memory and a status. Scalar reference: `step_estimate` of layouts out of the same blocks, in the same
process. Curve: thirty cluster sizes from 8 to 1,000,000. Memory: the peak of the whole process.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from makespan import catalog
from makespan.search import search
from makespan.search.blocks import Wanted, joined, work_out
from makespan.search.bounds import factors
from makespan.search.engine import WORKERS, hunt
from makespan.search.neighbours import neighbourhoods
from makespan.search.problem import Problem
from makespan.search.scaling import scaling_curve
from makespan.search.space import space_of
from makespan.specs.hardware import ClusterSpec
from makespan.specs.search import Objective, SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, step_estimate
from makespan.step.arrays import COLUMNS
from makespan.step.memory import with_optimizer

SPACE = Path(__file__).parent / "search_space.yaml"
NUM_LAYOUTS = 1 << 22
"""Layouts whose rate is measured."""
NUM_SCALAR = 300
"""Layouts worked out one by one."""


def problem_of(space: dict[str, Any], name: str, size: int) -> tuple[Problem, SearchConstraints]:
    """One run of the file on one number of accelerators."""
    run = space["runs"][name]
    cluster = ClusterSpec(
        name=f"{size:,} {space['accelerator']}",
        accelerator=catalog.accelerator(space["accelerator"]).spec,
        node=catalog.node(space["node"]).spec,
        fabric=catalog.fabric(space["fabric"]).spec,
        num_accelerators=size,
    )
    model, profile = catalog.model(name).spec, catalog.framework(space["framework"]).spec
    config = StepConfig(global_batch=run["global_batch"], seq_len=run["seq_len"], precision=run["precision"])
    constraints = SearchConstraints(
        min_used_fraction=space["min_used_fraction"], memory_headroom=space["memory_headroom"]
    )
    problem = Problem(
        model=model,
        config=config,
        cluster=cluster,
        profile=profile,
        space=space_of(model, config, cluster, profile, constraints),
        objective=Objective.TIME,
    )
    return problem, constraints


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds of a call, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def searches(space: dict[str, Any], repeats: int) -> list[str]:
    """A line for each run and number of accelerators."""
    lines = [
        "| run | accelerators | first call, s | median, s | worked out | excluded by proof |",
        "|---|---|---|---|---|---|",
    ]
    for name in space["runs"]:
        for size in space["accelerators"]:
            problem, constraints = problem_of(space, name, size)
            runs = [timed(lambda p=problem, c=constraints: search(*p.specs, c, top=10)) for _ in range(repeats + 1)]
            seconds, found = [run[0] for run in runs], runs[-1][1]
            lines.append(
                f"| {name} | {size:,} | {seconds[0]:.2f} | {statistics.median(seconds[1:]):.2f} "
                f"| {found.num_layouts:,} | {found.num_excluded:,} |"
            )
    return lines


def rates(space: dict[str, Any], name: str, repeats: int) -> list[str]:
    """Layouts a second in blocks, and one by one, of one run."""
    problem, constraints = problem_of(space, name, space["accelerators"][-1])
    problem = replace(problem, config=with_optimizer(problem.config, problem.profile))
    limit = problem.cluster.accelerator.hbm_bytes * (1.0 - constraints.memory_headroom)
    found = hunt(problem, limit, top=10, threshold=1.05 * search(*problem.specs, constraints).best.time_s)
    further = found.done[0]
    groups = neighbourhoods(problem, factors(problem), found.done, NUM_LAYOUTS, lambda: further)
    jobs = [job for group in groups for job in group]
    wanted = Wanted(limit_bytes=limit, near=found.threshold, most_kept=4096, front_s=0.0)

    def everything() -> list[Any]:
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(lambda job: work_out(problem, *job, wanted), jobs))

    runs = [timed(everything) for _ in range(repeats)]
    number = sum(block.num_layouts for block in runs[-1][1])
    rate = number / statistics.median(seconds for seconds, _ in runs)
    kept = joined([replace_near(problem, job, wanted) for job in jobs[:20]])
    some = np.random.default_rng(0).permutation(len(kept["time_s"]))[:NUM_SCALAR]
    rows = LayoutArrays(**{column: kept[column][some] for column in COLUMNS})
    layouts = [rows.row(place) for place in range(len(some))]
    one_by_one = [timed(lambda: [step_estimate(*problem.specs, layout).time_s for layout in layouts]) for _ in range(3)]
    equal = np.array_equal(one_by_one[-1][1], kept["time_s"][some])
    each = statistics.median(seconds for seconds, _ in one_by_one) / len(layouts)
    return [
        f"{name}: {number:,} layouts in blocks, {rate / 1e6:.1f} million a second on {WORKERS} threads; one by one "
        f"{each * 1e3:.2f} ms each; ratio {rate * each:,.0f}; times of {len(layouts)} equal to the last digit: {equal}"
    ]


def replace_near(problem: Problem, job: Any, wanted: Wanted) -> dict[str, Any]:
    """A few feasible layouts of a block, whatever their time."""
    return work_out(problem, *job, replace(wanted, near=np.inf, most_kept=64)).kept


def curve(space: dict[str, Any], name: str) -> str:
    """Seconds of a scaling curve."""
    problem, constraints = problem_of(space, name, 1_000_000)
    sizes = np.unique(np.geomspace(8, 1_000_000, 31).astype(int) // 8 * 8).tolist()
    seconds, points = timed(lambda: scaling_curve(*problem.specs, constraints, sizes, tokens=15e12))
    return f"{name}: scaling curve over {len(points)} sizes from {sizes[0]:,} to {sizes[-1]:,}: {seconds:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    space = YAML(typ="safe").load(SPACE)
    lines = [
        "# Layout search",
        "",
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}.",
        "",
    ]
    lines += [*searches(space, arguments.repeats), ""]
    for name in space["runs"]:
        lines += [*rates(space, name, arguments.repeats), ""]
    for name in space["runs"]:
        lines += [curve(space, name), ""]
    lines.append(f"Peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB.")
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
