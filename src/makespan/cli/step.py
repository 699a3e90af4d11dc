"""`makespan step` and `makespan search`: one step of a model on a cluster."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from makespan.cli.options import console, emit_json, json_option, parse_date, usage_problem
from makespan.errors import EXIT_INFEASIBLE, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Callable

    from makespan.provenance import Kind
    from makespan.specs.hardware import ClusterSpec, FrameworkProfile
    from makespan.specs.model import ModelSpec
    from makespan.specs.search import SearchResult
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
    click.option(
        "--framework", help="Framework profile of the catalog (default: the newest Megatron-class one by --as-of)."
    ),
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
    framework: str | None,
    as_of: str | None,
    as_json: bool,
    layout: str | None,
    trace: str | None,
) -> int:
    """Time and memory of one training step of MODEL.

    MODEL is a name of the catalog ('makespan catalog list model') or the path of a Hugging Face config.json.
    """
    from makespan.report import step_data, step_table, why_not
    from makespan.scenario import parse_layout
    from makespan.search import helpful_changes
    from makespan.search import search as find
    from makespan.specs.layout import LayoutStatus
    from makespan.specs.search import SearchConstraints
    from makespan.step import step_estimate

    spec, cluster, config, profile, kind = _read(model, on, global_batch, seq_len, precision, framework, as_of)
    if layout is None:
        result = _standing_on(kind, find(spec, config, cluster, profile, SearchConstraints()))
        if result.best is None:
            return _nothing_fits(result, as_json)
        estimate = result.best
    else:
        chosen = parse_layout(layout, num_accelerators=cluster.num_accelerators)
        estimate = step_estimate(spec, config, cluster, profile, chosen, provenance=kind)
    if trace is not None:
        _write_trace(trace, spec, config, cluster, profile, estimate)
    changes = helpful_changes(spec, config, cluster, profile, estimate)
    if as_json:
        reason = why_not(spec, config, cluster, profile, estimate.layout, estimate.status)
        emit_json(step_data(estimate, changes, reason=reason, evidence=_evidence(profile, cluster, precision, as_of)))
    else:
        known = _evidence(profile, cluster, precision, as_of)
        console().print(step_table(spec, config, cluster, profile, estimate, changes, evidence=known))
    return EXIT_OK if estimate.status is LayoutStatus.OK else EXIT_INFEASIBLE


def _evidence(profile: FrameworkProfile, cluster: ClusterSpec, precision: str, as_of: str | None) -> str:
    from makespan import catalog
    from makespan.step.kernels import ARITHMETIC

    day = parse_date(as_of, "--as-of")
    return catalog.evidence(profile, cluster.accelerator.name, precision, ARITHMETIC[precision], day)


def _write_trace(
    path: str,
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    profile: FrameworkProfile,
    estimate: StepEstimate,
) -> None:
    from pathlib import Path

    from makespan.report import step_trace, why_not

    if not math.isfinite(estimate.time_s):
        reason = why_not(model, config, cluster, profile, estimate.layout, estimate.status)
        raise usage_problem(
            "--trace", f"{estimate.layout}: {reason}", "a layout that can run", "choose another --layout"
        )
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
    framework: str | None,
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

    spec, cluster, config, profile, kind = _read(model, on, global_batch, seq_len, precision, framework, as_of)
    result = _standing_on(kind, find(spec, config, cluster, profile, parse_constraints(fix), top=top))
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


def _standing_on(kind: Kind, result: SearchResult) -> SearchResult:
    """The search's estimates with the weakest kind of fact behind their kernels."""
    from dataclasses import replace

    def known(estimates: tuple[StepEstimate, ...]) -> tuple[StepEstimate, ...]:
        return tuple(replace(estimate, provenance=kind) for estimate in estimates)

    best = None if result.best is None else replace(result.best, provenance=kind)
    return replace(result, best=best, top=known(result.top), pareto=known(result.pareto))


def _read(
    model: str, on: str, global_batch: str, seq_len: int, precision: str, framework: str | None, as_of: str | None
) -> tuple[ModelSpec, ClusterSpec, StepConfig, FrameworkProfile, Kind]:
    from makespan import catalog
    from makespan.scenario import parse_batch, parse_cluster, parse_framework, parse_model
    from makespan.specs.training import StepConfig
    from makespan.step.kernels import ARITHMETIC
    from makespan.step.legality import has_precision

    day = parse_date(as_of, "--as-of")
    spec = parse_model(model, as_of=day)
    cluster = parse_cluster(on, as_of=day)
    profile = parse_framework(framework, as_of=day)
    offered = [name for name in ARITHMETIC if has_precision(cluster.accelerator, name)]
    if precision not in offered:
        known = ", ".join(offered)
        raise usage_problem(
            "--precision", f"'{precision}'", f"a precision of {cluster.accelerator.name}", f"choose from: {known}"
        )
    config = StepConfig(global_batch=parse_batch(global_batch, seq_len=seq_len), seq_len=seq_len, precision=precision)
    return spec, cluster, config, profile, catalog.kernel_kind(cluster.accelerator.name, ARITHMETIC[precision], day)
