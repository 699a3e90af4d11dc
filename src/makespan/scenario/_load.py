"""A file, a text or a scenario with overrides -> a `Scenario`, or every problem at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from makespan.errors import Problem, ScenarioError
from makespan.provenance import Kind, Source
from makespan.scenario._context import Context
from makespan.scenario._limits import FIRST_YEAR, LAST_YEAR
from makespan.scenario._model import read_models
from makespan.scenario._names import (
    FRAMEWORKS,
    default_rule,
    first_known,
    look_up,
    newest_reliability,
    reliability_rule,
)
from makespan.scenario._options import read_observed, read_options
from makespan.scenario._override import apply_overrides
from makespan.scenario._run import read_training
from makespan.scenario._section import Section, fixed
from makespan.scenario._shape_check import check_shape
from makespan.scenario._tree import Node, alias_paths
from makespan.scenario._values import Origin, read_day
from makespan.scenario._yaml import Unreadable, compose, read_text
from makespan.specs.campaign import CheckpointSpec, FailureSpec, RecoverySpec
from makespan.specs.scenario import Scenario
from makespan.specs.search import SearchConstraints
from makespan.specs.supply import BuildSpec, OptionSpec
from makespan.specs.training import TrainingSpec
from makespan.units import DAY_S, YEAR_S

if TYPE_CHECKING:
    from makespan.specs.hardware import FrameworkProfile

HORIZON_YEARS = 5
DEFAULT_REPLICATES = 1000
DEFAULT_SEED = 0
_PEAK_OF = {"mxfp8": "fp8", "nvfp4": "fp4"}


def load(
    path_or_text: str | Path | Scenario,
    *,
    overrides: Mapping[str, str] | None = None,
    base: str | Path | None = None,
) -> Scenario:
    """The scenario of a file, or of a text that holds a line break.

    Parameters
    ----------
    path_or_text : a path; or YAML text; or a scenario, whose text and earlier overrides are used again.
    overrides : dotted path -> value as YAML text, laid over the file: {"options.0.price": "2 USD/h"}. Names work as well
        as indexes ("options.stay-at-oracle.price"), and `pools.0` of an option leads to the pool it stands for.
    base : for a text, the file it stands for: named in messages, and its folder is where `hf` paths start.

    Raises
    ------
    ScenarioError : with every problem of the file and of the overrides.
    """
    text, name, folder, earlier, problem = _source(path_or_text, base)
    if problem is not None:
        raise ScenarioError(name, [problem])
    both = {**dict(earlier), **dict(overrides or {})}
    scenario, problems = _load(text, name, folder, both)
    if scenario is None:
        raise ScenarioError(name, problems)
    return scenario


def check(path: str | Path) -> list[Problem]:
    """Every problem of a file, in its order; empty when there is none."""
    try:
        load(path)
    except ScenarioError as error:
        return list(error.problems)
    return []


def _source(
    given: str | Path | Scenario, base: str | Path | None
) -> tuple[str, str, str, tuple[tuple[str, str], ...], Problem | None]:
    """Text, name for messages, folder, earlier overrides, and the problem that stopped the reading."""
    if isinstance(given, Scenario):
        return given.text, given.path, str(Path(given.path).parent) if given.path else "", given.overrides, None
    if isinstance(given, str) and ("\n" in given or "\r" in given):
        return given, str(base or "<text>"), str(Path(base).parent) if base else "", (), None
    path = Path(given)
    try:
        return read_text(path), str(path), str(path.parent), (), None
    except Unreadable as error:
        return "", str(path), "", (), error.problem


def _load(
    text: str, name: str, folder: str, overrides: Mapping[str, str]
) -> tuple[Scenario | None, tuple[Problem, ...]]:
    ctx = Context(file=name, folder=folder)
    try:
        root, problems = compose(text)
    except Unreadable as error:
        return None, (error.problem,)
    ctx.problems += problems
    if root.mapping is None:
        ctx.report(
            "MS109",
            root,
            "file",
            found=root.describe(),
            expected="a mapping of keys to values",
            fix="start with 'makespan: 1'",
        )
        return None, ctx.sorted_problems()
    apply_overrides(ctx, root, overrides)
    ctx.alias_names = alias_paths(root)
    check_shape(ctx, root)
    scenario = _scenario(ctx, root, text, tuple(overrides.items()))
    if ctx.problems:
        return None, ctx.sorted_problems()
    assert scenario is not None, "a scenario without problems is complete"
    return scenario, ()


def _scenario(ctx: Context, root: Node, text: str, overrides: tuple[tuple[str, str], ...]) -> Scenario | None:
    from makespan.scenario._shape import ScenarioShape

    top = Section(ctx, root, ScenarioShape, (), "", Origin())
    _version(top)
    ctx.as_of_node, ctx.as_of = top.child("as_of"), _as_of(top)
    ctx.strict = top.flag("strict", False)
    _sources(top)
    horizon = top.number(
        "horizon",
        fixed(HORIZON_YEARS * YEAR_S, f"{HORIZON_YEARS} years", "runs that are not done by then count as never"),
    )
    deadline = _deadline(top, horizon)
    models = read_models(top)
    training = read_training(top, tuple(choice.model for choice in models))
    framework = _framework(top)
    constraints = _constraints(top)
    failures, recovery, checkpoints = _reliability(top)
    options = read_options(top)
    observed = read_observed(top, "observed", {option.name: option.kind for option in options} | _option_names(top))
    options = tuple(_with_observed(option, observed) for option in options)
    _impossible(top, training, options)
    if (
        ctx.problems
        or ctx.as_of is None
        or horizon is None
        or training is None
        or framework is None
        or constraints is None
    ):
        return None
    if failures is None or recovery is None or checkpoints is None or not models or not options:
        return None
    name = top.text("name") or Path(ctx.file).stem
    if not top.has("name"):
        ctx.rule("name", name, "the file's name")
    return Scenario(
        name=name,
        question=top.text("question"),
        as_of=ctx.as_of,
        deadline_s=deadline,
        horizon_s=horizon,
        seed=_integer(top, "seed", DEFAULT_SEED, "any number does; it is stored with the result"),
        num_replicates=_integer(top, "replicates", DEFAULT_REPLICATES, "enough for odds to about 2 points"),
        price_year=_integer(top, "price_year", ctx.as_of.year, "the year of as_of"),
        models=models,
        training=training,
        framework=framework,
        constraints=constraints,
        failures=failures,
        recovery=recovery,
        checkpoints=checkpoints,
        options=options,
        observed=tuple(observed.get("", ())),
        facts=tuple(ctx.facts),
        sources=tuple(ctx.used_sources.values()),
        rules=tuple(ctx.rules),
        path=ctx.file,
        text=text,
        overrides=overrides,
    )


def _integer(top: Section, key: str, default: int, why: str) -> int:
    if not top.has(key):
        top.ctx.rule(key, str(default), why)
    return top.integer(key, default)


def _version(top: Section) -> None:
    node = top.child("makespan")
    if node is not None and node.value != 1:
        top.report(
            "MS115",
            "makespan",
            found=node.describe(),
            expected="1, the version of the format this program reads",
            fix="write 'makespan: 1', or use a newer makespan",
        )


def _sources(top: Section) -> None:
    from makespan.scenario._shape import SourceShape

    for key, section in top.entries("sources", SourceShape):
        day = section.day("date")
        accessed = section.day("accessed") if section.has("accessed") else None
        if accessed is not None and day is not None and accessed < day:
            section.report(
                "MS205",
                "accessed",
                found=f"{accessed}, before its date {day}",
                expected="a date not before the publication",
                fix="check both dates",
            )
        if key in top.ctx.sources:
            continue
        top.ctx.sources[key] = Source(
            key=key,
            title=section.text("title"),
            publisher=section.text("publisher"),
            date=day or dt.date.min,
            url=section.text("url"),
            accessed=accessed,
            note=section.text("note"),
        )
        top.ctx.source_kinds[key] = (
            Kind[section.text("kind", "published").upper()] if not section.failed("kind") else Kind.PUBLISHED
        )
    # Sources too wrong to read still exist: naming them is no second mistake.
    node = top.child("sources")
    for key in (node.mapping if node is not None else None) or {}:
        top.ctx.sources.setdefault(key, Source(key=key, title="", publisher="", date=dt.date.min))


def _as_of(top: Section) -> dt.date | None:
    """The day of the plan, from which every other date is counted."""
    day = top.day("as_of")
    if day is None or FIRST_YEAR <= day.year <= LAST_YEAR:
        return day
    top.report(
        "MS204",
        "as_of",
        found=str(day),
        expected=f"a day of the years {FIRST_YEAR} to {LAST_YEAR}",
        fix="write the day on which you plan",
    )
    return None


def _deadline(top: Section, horizon: float | None) -> float | None:
    node = top.child("deadline")
    day = None if node is None else read_day(top.ctx, node, "deadline")
    if day is None:
        return None
    seconds = top.ctx.seconds(day)
    if top.ctx.as_of is not None and seconds <= 0:
        top.report(
            "MS205",
            "deadline",
            found=str(day),
            expected=f"a date after as_of, {top.ctx.as_of}",
            fix="give a later date",
        )
    elif top.ctx.as_of is not None and horizon is not None and seconds > horizon:
        top.report(
            "MS616",
            "deadline",
            found=f"{day}, {seconds / DAY_S:,.0f} days after as_of",
            expected=f"a date within the horizon of {horizon / DAY_S:,.0f} days",
            fix="lengthen `horizon`",
        )
    return seconds


def _framework(top: Section) -> FrameworkProfile | None:
    if top.failed("framework"):
        return None
    name = top.text("framework")
    if not name:
        found = first_known(top.ctx, "framework", FRAMEWORKS)
        if found is None:
            top.report(
                "MS617",
                "",
                found=f"no framework profile that was known on {top.ctx.origin}",
                expected="'framework'",
                fix="name one; see: makespan catalog list framework",
            )
            return None
        name = found
        top.ctx.rule("framework", name, "the newest software profile known on as_of")
    entry = look_up(top.ctx, "framework", name, top.child("framework") or top.node, "framework")
    return None if entry is None else entry.spec


def _constraints(top: Section) -> SearchConstraints | None:
    from makespan.scenario._shape import LayoutShape, fields_of

    if top.failed("layout"):
        return None
    layout = top.sub_or_empty("layout", LayoutShape)
    values: dict[str, Any] = {}
    for key, quantity in fields_of(LayoutShape).items():
        if key == "note" or not layout.has(key):
            continue
        if key == "ep_overlap":
            values[key] = layout.flag(key, False)
        elif quantity is None:
            values[key] = layout.text(key)
        else:
            values[key] = layout.whole(key) if quantity.whole else layout.number(key)
    if "memory_headroom" not in values:
        values["memory_headroom"] = layout.number("memory_headroom", default_rule(top.ctx, "memory_headroom"))
    if any(value is None or value == "" for value in values.values()):
        return None
    return SearchConstraints(**values)


def _reliability(top: Section) -> tuple[FailureSpec | None, RecoverySpec | None, CheckpointSpec | None]:
    from makespan.scenario._shape import CheckpointsShape, FailuresShape, RecoveryShape

    entry = newest_reliability(top.ctx)

    def rule(key: str) -> Any:
        return None if entry is None else reliability_rule(entry, key)

    failures = top.sub_or_empty("failures", FailuresShape)
    a, b = (failures.dist(key, rule(f"failures.{key}")) for key in ("per_accelerator", "per_job"))
    recovery = top.sub_or_empty("recovery", RecoveryShape)
    r = {
        key: recovery.dist(key, rule(f"recovery.{key}"))
        for key in ("detection", "restart", "restart_per_doubling", "spread", "spare_fraction", "repair")
    }
    saves = top.sub_or_empty("checkpoints", CheckpointsShape)
    interval: float | None = None
    node = saves.child("interval")
    optimal = node is None or node.value == "optimal"
    if node is None:
        top.ctx.rule("checkpoints.interval", "optimal", "Daly's optimum at each number of accelerators")
    elif not optimal:
        interval = saves.number("interval")
    blocking, save = (saves.dist(key, rule(f"checkpoints.{key}")) for key in ("blocking", "save"))
    done_failures = FailureSpec(per_accelerator_s=a, per_job_s=b) if a is not None and b is not None else None
    done_recovery = None
    if all(value is not None for value in r.values()):
        done_recovery = RecoverySpec(
            detection_s=r["detection"],  # type: ignore[arg-type]
            restart_s=r["restart"],  # type: ignore[arg-type]
            restart_per_doubling_s=r["restart_per_doubling"].central,  # type: ignore[union-attr]
            spread=r["spread"].central,  # type: ignore[union-attr]
            spare_fraction=r["spare_fraction"].central,  # type: ignore[union-attr]
            repair_s=r["repair"],  # type: ignore[arg-type]
        )
    done_saves = None
    if blocking is not None and save is not None and (optimal or interval is not None):
        done_saves = CheckpointSpec(interval_s=interval, blocking_s=blocking, save_s=save)
    return done_failures, done_recovery, done_saves


def _option_names(top: Section) -> dict[str, str]:
    """Names of options as written, also of those that could not be read."""
    node = top.child("options")
    names = [(item.mapping or {}).get("name") for item in (node.items if node is not None else None) or ()]
    return {name.value.strip(): "" for name in names if name is not None and isinstance(name.value, str)}


def _with_observed(option: OptionSpec, observed: dict[str, list[Any]]) -> OptionSpec:
    from dataclasses import replace

    extra = observed.get(option.name)
    return replace(option, observed=(*option.observed, *extra)) if extra else option


def _impossible(top: Section, training: TrainingSpec | None, options: tuple[OptionSpec, ...]) -> None:
    """Options that can never work, seen before anything is computed."""
    if training is None:
        return
    smallest = training.min_accelerators
    for option in options:
        largest = max(_most(pool) for pool in option.pools)
        if largest < smallest:
            top.report(
                "MS613",
                "run",
                found=f"min_accelerators {smallest:,}, but '{option.name}' never has more than {largest:,.0f} in one job",
                expected="a start that can be reached",
                fix="lower run.min_accelerators, or raise the count or largest_cluster",
            )
        for pool in option.pools:
            for stage in training.stages:
                if stage.step is None:
                    continue
                peak = _PEAK_OF.get(stage.step.precision, stage.step.precision)
                if peak not in pool.accelerator.peak_flop_per_s:
                    known = ", ".join(sorted(pool.accelerator.peak_flop_per_s))
                    top.report(
                        "MS408",
                        "run",
                        found=f"the stage '{stage.name}' in {stage.step.precision} on {pool.accelerator.name} ('{option.name}')",
                        expected=f"a precision it has: {known}",
                        fix="change the stage's precision, or the accelerator",
                    )


def _most(pool: Any) -> float:
    """Most accelerators that one job of a pool may ever use, in the most favourable draw."""
    from makespan.uncertainty import highest

    count = (
        float(pool.num_accelerators)
        if isinstance(pool, BuildSpec)
        else max(highest(step.num_accelerators) for step in pool.ramp)
    )
    return min(count, pool.largest_cluster) if pool.largest_cluster is not None else count
