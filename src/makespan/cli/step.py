"""`makespan step` and `makespan search`: one step of a model on a cluster."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from makespan.cli.options import console, emit_json, json_option, parse_date, usage_problem
from makespan.errors import EXIT_INFEASIBLE, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Callable

    from makespan.specs.hardware import ClusterSpec, FrameworkProfile
    from makespan.specs.model import ModelSpec
    from makespan.specs.step import StepEstimate
    from makespan.specs.training import StepConfig

_SHARED = [
    click.argument("model"),
    click.option("--on", "on", required=True, metavar="NxACCELERATOR", help="Cluster, such as 16384xh100-sxm."),
    click.option("--global-batch", required=True, metavar="SIZE", help='"2048" or "2048 sequences", or "16M tokens".'),
    click.option("--seq-len", required=True, type=click.IntRange(1, 100_000_000), help="Tokens in a sequence."),
    click.option(
        "--precision", default="bf16", show_default=True, type=click.Choice(["bf16", "fp16", "fp8", "mxfp8", "nvfp4"])
    ),
    click.option("--framework", default="megatron-2026", show_default=True, help="Framework profile of the catalog."),
    click.option("--as-of", metavar="DATE", help="Use only facts known by then (default: the newest)."),
    json_option,
]


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in reversed(_SHARED):
        command = decorate(command)
    return command


@click.command()
@_shared
@click.option("--layout", metavar="tp=8,pp=16,...", help="Layout; without it the best one is searched.")
@click.option("--trace", metavar="FILE", help="Write the step of one pipeline as a trace that ui.perfetto.dev opens.")
def step(
    model: str,
    on: str,
    global_batch: str,
    seq_len: int,
    precision: str,
    framework: str,
    as_of: str | None,
    as_json: bool,
    layout: str | None,
    trace: str | None,
) -> int:
    """Time and memory of one training step of MODEL.

    MODEL is a name of the catalog ('makespan catalog list model') or the path of a Hugging Face config.json.
    """
    from makespan.report import step_data, step_table
    from makespan.scenario import parse_layout
    from makespan.search import helpful_changes
    from makespan.search import search as find
    from makespan.specs.layout import LayoutStatus
    from makespan.specs.step import SearchConstraints
    from makespan.step import step_estimate

    spec, cluster, config, profile = _read(model, on, global_batch, seq_len, precision, framework, as_of)
    if layout is None:
        result = find(spec, config, cluster, profile, SearchConstraints())
        if result.best is None:
            return _nothing_fits(result, as_json)
        estimate = result.best
    else:
        chosen = parse_layout(layout, num_accelerators=cluster.num_accelerators)
        estimate = step_estimate(spec, config, cluster, profile, chosen)
    if trace is not None:
        _write_trace(trace, spec, config, cluster, profile, estimate)
    changes = helpful_changes(spec, config, cluster, profile, estimate)
    if as_json:
        emit_json(step_data(estimate, changes))
    else:
        console().print(step_table(spec, config, cluster, profile, estimate, changes))
    return EXIT_OK if estimate.status is LayoutStatus.OK else EXIT_INFEASIBLE


def _write_trace(
    path: str,
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    estimate: StepEstimate,
) -> None:
    from pathlib import Path

    from makespan.report import step_trace

    if not math.isfinite(estimate.time_s):
        raise usage_problem("--trace", str(estimate.layout), "a layout that can run", "choose another --layout")
    step_trace(Path(path), model, config, cluster, profile, estimate)
    click.echo(f"trace: {path} (open it in ui.perfetto.dev)", err=True)


@click.command()
@_shared
@click.option("--top", default=10, show_default=True, type=click.IntRange(1, 1000), help="Layouts to print.")
@click.option("--fix", metavar="tp=8,...", default="", help="Dimensions that must stay, such as tp=8,recompute=none.")
def search(
    model: str,
    on: str,
    global_batch: str,
    seq_len: int,
    precision: str,
    framework: str,
    as_of: str | None,
    as_json: bool,
    top: int,
    fix: str,
) -> int:
    """The best layouts of MODEL on a cluster, fastest first, and why the others are out.

    MODEL is a name of the catalog ('makespan catalog list model') or the path of a Hugging Face config.json.
    """
    from makespan.report import search_data, search_table
    from makespan.scenario import parse_constraints
    from makespan.search import search as find

    spec, cluster, config, profile = _read(model, on, global_batch, seq_len, precision, framework, as_of)
    result = find(spec, config, cluster, profile, parse_constraints(fix), top=top)
    if result.best is None:
        return _nothing_fits(result, as_json)
    if as_json:
        emit_json(search_data(result))
    else:
        console().print(search_table(spec, config, cluster, profile, result))
    return EXIT_OK


def _nothing_fits(result: Any, as_json: bool) -> int:
    from makespan.report import search_data, why_nothing_fits

    if as_json:
        emit_json(search_data(result))
    else:
        click.echo(why_nothing_fits(result), err=True)
    return EXIT_INFEASIBLE


def _read(
    model: str, on: str, global_batch: str, seq_len: int, precision: str, framework: str, as_of: str | None
) -> tuple[ModelSpec, ClusterSpec, StepConfig, FrameworkProfile]:
    from makespan import catalog
    from makespan.scenario import parse_batch, parse_cluster, parse_model
    from makespan.specs.training import StepConfig

    day = parse_date(as_of, "--as-of")
    spec = parse_model(model, as_of=day)
    cluster = parse_cluster(on, as_of=day)
    if framework not in catalog.names("framework"):
        near = catalog.suggest("framework", framework) or catalog.names("framework")
        raise usage_problem(
            "--framework", f"'{framework}'", "a framework profile of the catalog", f"try {', '.join(near)}"
        )
    peak = {"mxfp8": "fp8", "nvfp4": "fp4"}.get(precision, precision)
    if peak not in cluster.accelerator.peak_flop_per_s:
        known = ", ".join(sorted(cluster.accelerator.peak_flop_per_s))
        raise usage_problem(
            "--precision", f"'{precision}'", f"a precision of {cluster.accelerator.name}", f"it has {known}"
        )
    config = StepConfig(global_batch=parse_batch(global_batch, seq_len=seq_len), seq_len=seq_len, precision=precision)
    return spec, cluster, config, catalog.framework(framework, as_of=day).spec
