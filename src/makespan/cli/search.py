"""`makespan search`: the best layouts of a model on a cluster."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from makespan.cli.cluster_options import (
    Machine,
    kernel_kind,
    machine_options,
    precisions_of,
    read_machine,
    read_precision,
    standing_on,
)
from makespan.cli.options import console, emit_json, usage_problem, write_text
from makespan.cli.progress import working
from makespan.cli.scale import check_plot, ramped, read_run, read_sizes, scale
from makespan.errors import EXIT_INFEASIBLE, EXIT_OK, ScenarioError

if TYPE_CHECKING:
    from makespan.report import SearchAnswer
    from makespan.specs.search import HardwareWorth, SearchConstraints, SearchResult, TrainTime
    from makespan.specs.training import StepConfig

OPEN = "open"
TO_STANDARD_OUTPUT = "-"

PRECISION_WARNING = (
    "precision changes what is learnt, not only how fast; the search knows the speed of each precision, and nothing of "
    "the loss"
)


@click.command()
@machine_options(batch_required=False, open_precision=True)
@click.option("--tokens", metavar="BUDGET", help='Of the whole run, "15T" or "3.8e25 FLOP": how long it takes.')
@click.option("--max-batch", metavar="SIZE", help="Largest batch, written as --global-batch is.")
@click.option("--objective", default="time", show_default=True, metavar="NAME", help="Least time, cost or energy.")
@click.option("--fix", metavar="tp=8,ep=8", default="", help="Dimensions that must stay, such as tp=8,recompute=none.")
@click.option("--top", default=10, show_default=True, type=click.IntRange(1, 1000), help="Layouts to print.")
@click.option(
    "--csv", "csv_file", metavar="FILE", help='The best few thousand layouts as CSV; "-" for standard output.'
)
@click.option("--memory-headroom", metavar="5%", help="Share of the memory that must stay free.  [default: 5%]")
@click.option(
    "--min-used",
    metavar="90%",
    help="Least share of the accelerators, or of the replicas that the batch can feed, that must be used.  [default: 90%]",
)
@click.option("--power-limit", metavar='"100 MW"', help="IT power for nodes, network and storage; fewer may run.")
@click.option("--thin", is_flag=True, help="A thinner space: quicker, and rarely worse by more than a per cent or two.")
@click.option("--worth", is_flag=True, help="Also what 10 % more of each property of the hardware would save.")
@click.option(
    "--ramp", metavar="4M@0,16M@1T", help="Batches by trained tokens: also the time to the budget through them."
)
@click.option("--batch-law", metavar="NAME", help='Law of the critical batch, of the catalog, or "none".')
@click.option("--scale", "sizes", metavar="8..1000000:30", help="In place of one size: the curve over so many sizes.")
@click.option("--plot", metavar="FILE.svg", help="Draw the curve of --scale.")
def search(
    model: str,
    on: str,
    global_batch: str | None,
    seq_len: str | None,
    precision: str,
    framework: str | None,
    as_of: str | None,
    as_json: bool,
    tokens: str | None,
    max_batch: str | None,
    objective: str,
    fix: str,
    top: int,
    csv_file: str | None,
    memory_headroom: str | None,
    min_used: str | None,
    power_limit: str | None,
    thin: bool,
    worth: bool,
    ramp: str | None,
    batch_law: str | None,
    sizes: str | None,
    plot: str | None,
) -> int:
    """The best layouts of MODEL on a cluster, why each has its rank, and why the others are out.

    MODEL is a name of the catalog ('makespan catalog list model') or the path of a Hugging Face config.json.
    """
    from makespan.report.search_answer import few_used
    from makespan.scenario import parse_constraints
    from makespan.specs.training import StepConfig

    machine = read_machine(model, on, framework, as_of)
    constraints = parse_constraints(
        fix, memory_headroom=memory_headroom, min_used=min_used, objective=objective, thorough=not thin
    )
    size = read_batch(machine, global_batch, seq_len, tokens=tokens, max_batch=max_batch)
    names, left_out = _precisions(precision, machine)
    rules = [*size.rules, *left_out, *_usual(machine, on, framework)]
    configs = [StepConfig(global_batch=size.global_batch, seq_len=size.seq_len, precision=name) for name in names]
    _refuse_mixtures(sizes, plot, ramp=ramp, batch_law=batch_law, worth=worth, csv_file=csv_file, precision=precision)
    run = None
    if sizes is not None or ramp is not None:
        run = read_run(
            machine,
            configs[0],
            tokens=size.tokens,
            max_batch=max_batch,
            ramp=ramp,
            batch_law=batch_law,
            power_limit=power_limit,
            rules=rules,
        )
    if sizes is not None and run is not None:
        levels = read_sizes(machine, sizes)
        check_plot(plot)
        largest = replace(machine.cluster, num_accelerators=levels[-1])
        _refuse_contradictions(replace(machine, cluster=largest), configs[0], constraints)
        return scale(machine, configs[0], constraints, levels, run, plot=plot, as_json=as_json)
    asked = machine.cluster.num_accelerators
    machine, warnings = _powered(machine, power_limit)
    warnings += [PRECISION_WARNING] if precision == OPEN else []
    _refuse_contradictions(machine, configs[0], constraints)
    _check_csv(csv_file, as_json)

    started = time.perf_counter()
    with working(f"searching layouts on {machine.cluster.num_accelerators:,} accelerators", quiet=as_json):
        found = tuple((config, _search(machine, config, constraints, top)) for config in configs)
    seconds = time.perf_counter() - started
    answer = _answer(machine, found, constraints, top=top, seconds=seconds, asked=asked, warnings=warnings, rules=rules)
    answer = replace(answer, tokens=None if run else size.tokens, rules=tuple(rules if run is None else run.rules))
    answer = replace(answer, warnings=(*answer.warnings, *few_used(answer)))
    if csv_file is not None:
        _write_csv(csv_file, found)
    if not any(result.best for _, result in found):
        return _tell_nothing_fits(answer, as_json)
    if csv_file != TO_STANDARD_OUTPUT:
        trained = None if run is None else ramped(machine, configs[0], constraints, run, quiet=as_json)
        _print(answer, as_json, _worth(answer, as_json) if worth else None, trained)
        if not as_json:
            _print_step(answer, model, on, as_of)
    return EXIT_OK


def _refuse_mixtures(sizes: str | None, plot: str | None, **options: Any) -> None:
    """Options that do not go together. Raises ScenarioError."""
    if sizes is None:
        if plot is not None:
            raise usage_problem(
                "--plot", f"'{plot}'", "--scale beside it, which gives the curve", "add --scale 8..1000000:30"
            )
        if options["batch_law"] is not None and options["ramp"] is None:
            expected = "--scale or --ramp beside it, where batches differ"
            raise usage_problem("--batch-law", f"'{options['batch_law']}'", expected, "leave it out")
    elif options["worth"] or options["csv_file"] is not None:
        found = "--worth" if options["worth"] else "--csv"
        raise usage_problem(found, "--scale as well", "one size, as without --scale", "ask twice")
    if (sizes is not None or options["ramp"] is not None) and options["precision"] == OPEN:
        raise usage_problem("--precision", "'open'", "one precision for a run", "name it")


def _powered(machine: Machine, limit: str | None) -> tuple[Machine, list[str]]:
    """The part of the cluster that a power limit can run, and what to say of it."""
    from makespan.scenario import parse_power_limit
    from makespan.search.scaling import powered

    if limit is None:
        return machine, []
    cluster, watts = machine.cluster, parse_power_limit(limit)
    each_w = cluster.node.provisioned_peak_per_accelerator_w
    number = powered(cluster, watts)
    if number < 1:
        expected = f"at least {each_w / 1e3:.2f} kW, what one accelerator in {cluster.node.name} needs"
        raise usage_problem("--power-limit", f"'{limit}'", expected, "raise the limit")
    if number >= cluster.num_accelerators:
        return machine, []
    said = (
        f"{limit} of IT power at {each_w:,.0f} W an accelerator ({cluster.node.name}, network and storage included) "
        f"feeds {number:,} of the {cluster.num_accelerators:,} accelerators"
    )
    return replace(machine, cluster=replace(cluster, num_accelerators=number)), [said]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSize:
    """What a step holds. rules : sentences on what nobody gave.   tokens : of the run, where they were given."""

    global_batch: int
    seq_len: int
    rules: tuple[str, ...]
    tokens: float | None


def read_batch(
    machine: Machine, global_batch: str | None, seq_len: str | None, *, tokens: str | None, max_batch: str | None
) -> StepSize:
    """Batch and sequence length as given, or by the rules for what is left out. Raises ScenarioError."""
    from makespan.scenario import (
        parse_batch,
        parse_budget,
        parse_max_batch,
        parse_seq_len,
        rounded_batch,
        usual_batch,
        usual_seq_len,
        usual_tokens,
    )

    rules = []
    if seq_len is None:
        by_rule = usual_seq_len(machine.model)
        length = by_rule.value
        rules.append(by_rule.sentence)
    else:
        length = parse_seq_len(seq_len)
    batch = None if global_batch is None else parse_batch(global_batch, seq_len=length)
    most = None if max_batch is None else parse_max_batch(max_batch, seq_len=length, global_batch=batch)
    budget = None if tokens is None else parse_budget(tokens, machine.model, seq_len=length)
    if batch is None:
        if budget is None:
            usual = usual_tokens(machine.day)
            budget = float(usual.value)
            rules.append(usual.sentence)
        by_rule = usual_batch(machine.model, seq_len=length, tokens=budget, as_of=machine.day, max_batch=most)
        batch = by_rule.value
        rules.append(by_rule.sentence)
    if global_batch is not None and (said := rounded_batch(global_batch, batch, length)):
        rules.append(said)
    given = budget if tokens is not None else None
    if given is not None and given < batch * length:
        raise usage_problem(
            "--tokens",
            f"'{tokens}', {given:,.4g} tokens",
            f"at least one step: {batch:,} x {length:,} are {batch * length:,} tokens",
            "raise it, or lower --global-batch",
        )
    return StepSize(global_batch=batch, seq_len=length, rules=tuple(rules), tokens=given)


def _precisions(text: str, machine: Machine) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The precisions to try, one or all that chip and software have; and what to say of those that are not."""
    from makespan.step.estimate import ALIKE

    accelerator, profile = machine.cluster.accelerator, machine.profile
    both = precisions_of(accelerator, profile)
    if text == OPEN:
        if not both:
            expected = f"a precision that {accelerator.name} and {profile.name} both have"
            raise usage_problem("--precision", "'open'", expected, "choose another --framework")
        alike = [name for name in both if ALIKE.get(name) in both]
        said = [f"precision: {name} was not tried, as its kernels take the time of {ALIKE[name]}'s" for name in alike]
        return tuple(name for name in both if name not in alike), tuple(said)
    name = read_precision(text, accelerator)
    if name not in both:
        expected = f"a precision that {profile.name} trains in"
        raise usage_problem(
            "--precision", f"'{name}'", expected, f"choose from: {', '.join(both)}, or another --framework"
        )
    return (name,), ()


def _usual(machine: Machine, on: str, framework: str | None) -> list[str]:
    """What stood in for a framework, a node and a fabric that were not named."""
    cluster = machine.cluster
    name = machine.profile.name
    rules = (
        [] if framework == name else [f"framework: {name}, the newest {framework or 'Megatron-class'} profile known"]
    )
    fabric = "" if "/" in on else f" and {cluster.fabric.name}"
    return [*rules, f"cluster: {cluster.node.name}{fabric}, usual for {cluster.accelerator.name}"]


def _refuse_contradictions(machine: Machine, config: StepConfig, constraints: SearchConstraints) -> None:
    from makespan.scenario import contradictions

    problems = contradictions(machine.model, config, machine.cluster, machine.profile, constraints)
    if problems:
        raise ScenarioError("command line", problems)


def _search(machine: Machine, config: StepConfig, constraints: SearchConstraints, top: int) -> SearchResult:
    from makespan.search import search as find

    kind = kernel_kind(machine.cluster.accelerator.name, config.precision, machine.day)
    return standing_on(kind, find(machine.model, config, machine.cluster, machine.profile, constraints, top=top))


def _answer(
    machine: Machine,
    found: Sequence[tuple[StepConfig, SearchResult]],
    constraints: SearchConstraints,
    *,
    top: int,
    seconds: float,
    asked: int | None = None,
    warnings: Sequence[str] = (),
    rules: Sequence[str] = (),
) -> SearchAnswer:
    from makespan.report import SearchAnswer
    from makespan.report.search_answer import Found
    from makespan.scenario import fixed_words

    return SearchAnswer(
        model=machine.model,
        cluster=machine.cluster,
        profile=machine.profile,
        constraints=constraints,
        found=tuple(Found(config=config, result=result) for config, result in found),
        top=top,
        seconds=seconds,
        asked=asked,
        fixed=fixed_words(constraints),
        rules=tuple(rules),
        warnings=tuple(warnings),
    )


def _worth(answer: SearchAnswer, as_json: bool) -> tuple[HardwareWorth, ...]:
    """What a better cluster would save of the best layout's step."""
    from makespan.report.search_answer import ranked
    from makespan.search.worth import hardware_worth

    best = ranked(answer)[0]
    with working("searching on better clusters", quiet=as_json):
        return hardware_worth(
            answer.model, best.config, answer.cluster, answer.profile, answer.constraints, best.estimate
        )


def _print(
    answer: SearchAnswer, as_json: bool, worths: Sequence[HardwareWorth] | None, trained: TrainTime | None
) -> None:
    from makespan.report import search_data, search_table
    from makespan.report.scaling import train_time_data, train_time_table
    from makespan.report.worth import worth_data, worth_table

    if as_json:
        more: dict[str, Any] = {} if worths is None else {"worth": worth_data(worths)}
        more |= {} if trained is None else {"training": train_time_data(trained)}
        emit_json(search_data(answer) | more)
        return
    out = console()
    out.print(search_table(answer))
    if trained is not None:
        out.print()
        out.print("The whole run, through the ramp of batches", style="bold")
        out.print(train_time_table(trained))
    if worths is not None:
        out.print()
        out.print(worth_table(worths, objective=answer.constraints.objective))


def _print_step(answer: SearchAnswer, model: str, on: str, as_of: str | None) -> None:
    """The command that looks closer at the best layout, as one line to be pasted: the terminal may wrap it, we do not."""
    from makespan.report.search_answer import ranked
    from makespan.scenario import layout_words

    best = ranked(answer)[0]
    config = best.config
    _, slash, fabric = on.partition("/")
    cluster = f"{answer.cluster.num_accelerators}x{answer.cluster.accelerator.name}{slash}{fabric.strip()}"
    words = ["makespan", "step", model, "--on", cluster, "--global-batch", str(config.global_batch)]
    words += ["--seq-len", str(config.seq_len), "--precision", config.precision]
    words += ["--framework", answer.profile.name] + ([] if as_of is None else ["--as-of", as_of])
    words += ["--layout", layout_words(best.estimate.layout)]
    out = console()
    out.print("closer look:", style="dim")
    out.print(shlex.join(words), style="dim", markup=False, soft_wrap=True)


def nothing_fits(
    machine: Machine,
    found: Sequence[tuple[StepConfig, SearchResult]],
    constraints: SearchConstraints,
    as_json: bool,
) -> int:
    """Say why no layout fits, and give the exit code."""
    return _tell_nothing_fits(_answer(machine, found, constraints, top=1, seconds=0.0), as_json)


def _tell_nothing_fits(answer: SearchAnswer, as_json: bool) -> int:
    """Which constraint emptied the search, on standard error or as JSON."""
    from makespan.report import search_data, why_nothing_fits
    from makespan.search.emptied import why_empty

    config, near = answer.found[0].config, answer.nearest
    with working("searching what keeps everything out", quiet=as_json):
        emptied = why_empty(answer.model, config, answer.cluster, answer.profile, answer.constraints, nearest=near)
    answer = replace(answer, emptied=emptied)
    if as_json:
        emit_json(search_data(answer))
    else:
        click.echo(why_nothing_fits(answer), err=True)
    return EXIT_INFEASIBLE


def _check_csv(place: str | None, as_json: bool) -> None:
    """Refuse a place that cannot be before anything is searched."""
    if place is None:
        return
    if place == TO_STANDARD_OUTPUT:
        if as_json:
            raise usage_problem("--csv", "'-' and --json", "one of them on standard output", "name a file for --csv")
        return
    path = Path(place)
    if not place.strip() or path.is_dir():
        raise usage_problem(
            "--csv", f"'{place}', a folder", "a file name", f"name a file in it: {path / 'layouts.csv'}"
        )
    if not path.parent.is_dir():
        raise usage_problem(
            "--csv", f"'{place}'", f"a folder that exists: there is no '{path.parent}'", "make it first"
        )


def _write_csv(place: str, found: Sequence[tuple[StepConfig, SearchResult]]) -> None:
    from makespan.report import search_csv

    text = search_csv({config.precision: result for config, result in found})
    if place == TO_STANDARD_OUTPUT:
        click.echo(text, nl=False)
    else:
        write_text(Path(place), text, "--csv")
