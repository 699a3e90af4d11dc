"""`makespan step`: one training step of a model on a cluster."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from makespan.cli.cluster_options import (
    evidence,
    kernel_kind,
    machine_options,
    read_machine,
    read_precision,
    standing_on,
)
from makespan.cli.options import console, emit_json, usage_problem
from makespan.cli.progress import working
from makespan.errors import EXIT_INFEASIBLE, EXIT_OK

if TYPE_CHECKING:
    from makespan.cli.cluster_options import Machine
    from makespan.provenance import Kind
    from makespan.specs.search import SearchConstraints
    from makespan.specs.step import StepEstimate
    from makespan.specs.training import StepConfig


@click.command()
@machine_options(batch_required=True, open_precision=False)
@click.option("--layout", metavar="tp=8,pp=16,...", help="Layout; without it the best one is searched.")
@click.option("--trace", metavar="FILE", help="Write the step of one pipeline as a trace that ui.perfetto.dev opens.")
def step(
    model: str,
    on: str,
    global_batch: str,
    seq_len: str,
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
    from makespan.scenario import parse_batch, parse_layout, parse_seq_len
    from makespan.search import helpful_changes
    from makespan.specs.layout import LayoutStatus
    from makespan.specs.search import SearchConstraints
    from makespan.specs.training import StepConfig
    from makespan.step import step_estimate

    machine = read_machine(model, on, framework, as_of)
    spec, cluster, profile = machine.model, machine.cluster, machine.profile
    length = parse_seq_len(seq_len)
    precision = read_precision(precision, cluster.accelerator)
    config = StepConfig(global_batch=parse_batch(global_batch, seq_len=length), seq_len=length, precision=precision)
    kind = kernel_kind(cluster.accelerator.name, precision, machine.day)
    if layout is None:
        found = _best(machine, config, SearchConstraints(), kind, as_json)
        if found is None:
            return EXIT_INFEASIBLE
        estimate = found
    else:
        chosen = parse_layout(layout, num_accelerators=cluster.num_accelerators)
        estimate = step_estimate(spec, config, cluster, profile, chosen, provenance=kind)
    if trace is not None:
        _write_trace(trace, machine, config, estimate)
    changes = helpful_changes(spec, config, cluster, profile, estimate)
    known = evidence(profile, cluster.accelerator.name, precision, machine.day)
    if as_json:
        reason = why_not(spec, config, cluster, profile, estimate.layout, estimate.status)
        emit_json(step_data(estimate, changes, reason=reason, evidence=known))
    else:
        console().print(step_table(spec, config, cluster, profile, estimate, changes, evidence=known))
    return EXIT_OK if estimate.status is LayoutStatus.OK else EXIT_INFEASIBLE


def _best(
    machine: Machine, config: StepConfig, constraints: SearchConstraints, kind: Kind, as_json: bool
) -> StepEstimate | None:
    """The best layout; None, once that is told, where nothing fits."""
    from makespan.cli.search import nothing_fits
    from makespan.search import search

    with working("searching the fastest layout", quiet=as_json):
        result = search(machine.model, config, machine.cluster, machine.profile, constraints, top=1, front=False)
    result = standing_on(kind, result)
    if result.best is None:
        nothing_fits(machine, ((config, result),), constraints, as_json)
    return result.best


def _write_trace(path: str, machine: Machine, config: StepConfig, estimate: StepEstimate) -> None:
    from pathlib import Path

    from makespan.report import step_trace, why_not

    model, cluster, profile = machine.model, machine.cluster, machine.profile
    if not math.isfinite(estimate.time_s):
        reason = why_not(model, config, cluster, profile, estimate.layout, estimate.status)
        raise usage_problem(
            "--trace", f"{estimate.layout}: {reason}", "a layout that can run", "choose another --layout"
        )
    step_trace(Path(path), model, config, cluster, profile, estimate)
    click.echo(f"trace: {path} (open it in ui.perfetto.dev)", err=True)
