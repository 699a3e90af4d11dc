"""Options and readings that `step` and `search` share: a model, a cluster, a batch, a precision, a framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from makespan.cli.options import json_option, parse_date, usage_problem

if TYPE_CHECKING:
    import datetime as dt

    from makespan.provenance import Kind
    from makespan.specs.hardware import AcceleratorSpec, ClusterSpec, FrameworkProfile
    from makespan.specs.model import ModelSpec
    from makespan.specs.search import SearchResult
    from makespan.specs.step import StepEstimate

PRECISIONS = ("bf16", "fp16", "fp8", "mxfp8", "nvfp4")

Command = Callable[..., Any]


def machine_options(*, batch_required: bool, open_precision: bool) -> Callable[[Command], Command]:
    """The argument and the options that name a model, a cluster and a step on it.

    batch_required : whether --global-batch and --seq-len must be given.   open_precision : whether "open" is a precision.
    """
    otherwise = "" if batch_required else " Where it is left out, a rule gives it and is printed."
    precisions = ", ".join(PRECISIONS) + (', or "open" for every one that chip and software have' * open_precision)
    options = [
        click.argument("model"),
        click.option("--on", "on", required=True, metavar="NxACCELERATOR", help="Cluster, such as 16384xh100-sxm."),
        click.option(
            "--global-batch",
            required=batch_required,
            metavar="SIZE",
            help=f'"2048" or "2048 sequences", or "16M tokens".{otherwise}',
        ),
        click.option(
            "--seq-len",
            required=batch_required,
            metavar="TOKENS",
            help=f'Tokens in a sequence: "8192" or "8k", k being 1,024.{otherwise}',
        ),
        click.option(
            "--precision", default="bf16", show_default=True, metavar="NAME", help=f"Of the products: {precisions}."
        ),
        click.option(
            "--framework",
            metavar="NAME",
            help="Framework profile of the catalog (default: the newest Megatron-class one by --as-of).",
        ),
        click.option("--as-of", metavar="DATE", help="Use only facts known by then (default: the newest)."),
        json_option,
    ]

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the words of the command line name. day : of --as-of."""

    model: ModelSpec
    cluster: ClusterSpec
    profile: FrameworkProfile
    day: dt.date | None


def read_machine(model: str, on: str, framework: str | None, as_of: str | None) -> Machine:
    """Model, cluster and framework of the command line. Raises ScenarioError."""
    from makespan.scenario import parse_cluster, parse_framework, parse_model

    day = parse_date(as_of, "--as-of")
    return Machine(
        model=parse_model(model, as_of=day),
        cluster=parse_cluster(on, as_of=day),
        profile=parse_framework(framework, as_of=day),
        day=day,
    )


def read_precision(text: str, accelerator: AcceleratorSpec) -> str:
    """A precision that the accelerator has. Raises ScenarioError."""
    from makespan.scenario import suggestion

    offered = precisions_of(accelerator)
    if text not in offered:
        raise usage_problem("--precision", f"'{text}'", f"a precision of {accelerator.name}", suggestion(text, offered))
    return text


def precisions_of(accelerator: AcceleratorSpec, profile: FrameworkProfile | None = None) -> tuple[str, ...]:
    """The precisions that an accelerator has, and that the software trains in where one is given."""
    from makespan.step.kernels import ARITHMETIC
    from makespan.step.legality import has_precision

    return tuple(
        name
        for name in ARITHMETIC
        if has_precision(accelerator, name) and (profile is None or profile.supports.get(name, True))
    )


def kernel_kind(accelerator: str, precision: str, day: dt.date | None) -> Kind:
    """The weakest kind of fact behind the kernels of an accelerator in a precision."""
    from makespan import catalog
    from makespan.step.kernels import ARITHMETIC

    return catalog.kernel_kind(accelerator, ARITHMETIC[precision], day)


def evidence(profile: FrameworkProfile, accelerator: str, precision: str, day: dt.date | None) -> str:
    """What step times of a software on an accelerator in a precision stand on: one of `catalog.EVIDENCE`."""
    from makespan import catalog
    from makespan.step.kernels import ARITHMETIC

    return catalog.evidence(profile, accelerator, precision, ARITHMETIC[precision], day)


def standing_on(kind: Kind, result: SearchResult) -> SearchResult:
    """The search's estimates with the weakest kind of fact behind their kernels."""
    from dataclasses import replace

    def known(estimates: tuple[StepEstimate, ...]) -> tuple[StepEstimate, ...]:
        return tuple(replace(estimate, provenance=kind) for estimate in estimates)

    best = None if result.best is None else replace(result.best, provenance=kind)
    return replace(result, best=best, top=known(result.top), pareto=known(result.pareto))
