"""`makespan search --scale`: the best layout on every size of a cluster; `--ramp`: time to a budget on this one."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from makespan.cli.options import console, emit_json, usage_problem, write_text
from makespan.cli.progress import working
from makespan.errors import EXIT_INFEASIBLE, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from makespan.cli.cluster_options import Machine
    from makespan.specs.search import (
        CriticalBatchLaw,
        HowFar,
        RampStage,
        ScalingPoint,
        SearchConstraints,
        TrainTime,
    )
    from makespan.specs.training import StepConfig


CURVE_RULE = (
    "curve: every size takes its layout from the thin space, with nothing in host memory unless --fix offload=... asks for it; "
    "a search of one size looks at the whole space"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The run that is scaled, and what stood in for options that were left out.

    max_batch : sequences.   power_limit_w : `inf` without a limit. [W]
    """

    tokens: float
    law: CriticalBatchLaw | None
    ramp: tuple[RampStage, ...]
    max_batch: int | None
    power_limit_w: float
    rules: tuple[str, ...]


def read_run(
    machine: Machine,
    config: StepConfig,
    *,
    tokens: float | None,
    max_batch: str | None,
    ramp: str | None,
    batch_law: str | None,
    power_limit: str | None,
    rules: Sequence[str],
) -> Run:
    """Budget, ramp and law of the critical batch as given, or by the rules for what is left out. Raises ScenarioError."""
    from makespan.scenario import parse_batch_law, parse_max_batch, parse_power_limit, parse_ramp, usual_tokens

    said = list(rules)
    if tokens is None:
        usual = usual_tokens(machine.day)
        tokens = float(usual.value)
        said += [] if usual.sentence in said else [usual.sentence]
    length = config.seq_len
    most = None if max_batch is None else parse_max_batch(max_batch, seq_len=length)
    law = parse_batch_law(batch_law, machine.day)
    if batch_law is None and law is not None:
        said.append(f"critical batch: the law {law.name}")
    return Run(
        tokens=tokens,
        law=law,
        ramp=() if ramp is None else parse_ramp(ramp, seq_len=length, max_batch=most),
        max_batch=most,
        power_limit_w=math.inf if power_limit is None else parse_power_limit(power_limit),
        rules=tuple(said),
    )


def read_sizes(machine: Machine, text: str) -> tuple[int, ...]:
    """Sizes of `--scale`, in whole nodes."""
    from makespan.scenario import parse_sizes

    return parse_sizes(text, per_node=machine.cluster.node.accelerators_per_node)


def check_plot(place: str | None) -> None:
    """Refuse a place that cannot be before anything is searched."""
    if place is None:
        return
    path = Path(place)
    if not place.strip() or path.is_dir():
        raise usage_problem("--plot", f"'{place}', a folder", "a file name", f"name a file in it: {path / 'curve.svg'}")
    if path.suffix.lower() != ".svg":
        raise usage_problem("--plot", f"'{place}'", "a file that ends in .svg", f'write "{path.stem}.svg"')
    if not path.parent.is_dir():
        raise usage_problem(
            "--plot", f"'{place}'", f"a folder that exists: there is no '{path.parent}'", "make it first"
        )


def scale(
    machine: Machine,
    config: StepConfig,
    constraints: SearchConstraints,
    sizes: tuple[int, ...],
    run: Run,
    *,
    plot: str | None,
    as_json: bool,
) -> int:
    """Search every size, print the curve, draw it; exit code 3 where nothing fits at any size."""
    from makespan.report.scaling import scaling_table
    from makespan.search.scaling import how_far, scaling_curve

    run = replace(run, rules=(*run.rules, CURVE_RULE))
    cluster = replace(machine.cluster, num_accelerators=sizes[-1])
    started = time.perf_counter()
    with working(f"searching {len(sizes)} sizes", quiet=as_json) as tell:
        points = scaling_curve(
            machine.model,
            config,
            cluster,
            machine.profile,
            constraints,
            sizes,
            tokens=run.tokens,
            law=run.law,
            max_batch=run.max_batch,
            ramp=run.ramp,
            power_limit_w=run.power_limit_w,
            progress=tell,
        )
    seconds = time.perf_counter() - started
    far = how_far(points)
    if plot is not None:
        write_text(Path(plot), _drawing(machine, config, run, points, far), "--plot")
    if as_json:
        emit_json(_curve_data(machine, config, constraints, run, points, far, seconds))
    else:
        out = console()
        out.print(scaling_table(machine.model, config, cluster, machine.profile, points, far, rules=run.rules))
    return EXIT_OK if any(point.estimate is not None for point in points) else EXIT_INFEASIBLE


def _drawing(machine: Machine, config: StepConfig, run: Run, points: Sequence[ScalingPoint], far: HowFar) -> str:
    from makespan.report.scaling_plot import scaling_svg

    title = f"{machine.model.name} on {machine.cluster.accelerator.name}, {run.tokens / 1e12:.4g}T tokens"
    subtitle = (
        f"{config.seq_len:,} tokens a sequence, reference batch {config.global_batch:,}, {config.precision}, "
        f"{machine.profile.name}, {machine.cluster.fabric.name}"
    )
    return scaling_svg(points, far, title=title, subtitle=subtitle)


def _curve_data(
    machine: Machine,
    config: StepConfig,
    constraints: SearchConstraints,
    run: Run,
    points: Sequence[ScalingPoint],
    far: HowFar,
    seconds: float,
) -> dict[str, Any]:
    from makespan.report.scaling import scaling_data
    from makespan.scenario import fixed_words

    cluster = machine.cluster
    return {
        "model": machine.model.name,
        "cluster": {
            "accelerator": cluster.accelerator.name,
            "node": cluster.node.name,
            "fabric": cluster.fabric.name,
        },
        "framework": machine.profile.name,
        "global_batch": config.global_batch,
        "seq_len": config.seq_len,
        "precision": config.precision,
        "objective": constraints.objective.value,
        "fixed": fixed_words(constraints),
        "tokens": run.tokens,
        "batch_law": None if run.law is None else run.law.name,
        "seconds": seconds,
        **scaling_data(points, far),
        "rules": list(run.rules),
    }


def ramped(machine: Machine, config: StepConfig, constraints: SearchConstraints, run: Run, *, quiet: bool) -> TrainTime:
    """Time to the budget through the ramp, on this cluster."""
    from makespan.search.batch import train_time

    with working("searching every batch of the ramp", quiet=quiet):
        return train_time(
            machine.model,
            config,
            machine.cluster,
            machine.profile,
            constraints,
            tokens=run.tokens,
            ramp=run.ramp,
            law=run.law,
        )
