"""A scenario after loading: every name looked up, every unit read, every rule for a missing field applied."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from makespan.provenance import Fact, Source
from makespan.specs.campaign import CheckpointSpec, FailureSpec, RecoverySpec
from makespan.specs.hardware import FrameworkProfile
from makespan.specs.model import ModelSpec
from makespan.specs.search import SearchConstraints
from makespan.specs.supply import ObservedSpec, OptionSpec
from makespan.specs.training import TrainingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """One candidate architecture and its weight: a replicate trains one of them."""

    model: ModelSpec
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleUsed:
    """A field the scenario left out, the value it got, and the rule that gave it."""

    path: str
    value: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything `study` needs. Times are seconds after `as_of`, 00:00 UTC.

    deadline_s : the date the user asked about, if any. [s]
    horizon_s : replicates that are not done by then never finish. [s]
    facts : every value from the catalog or the file that carries a source or an assumption.
    observed : what then happened, for the whole scenario (options hold their own).
    overrides : (dotted path, value as text) that were laid over `text`, in order.
    """

    name: str
    question: str
    as_of: dt.date
    deadline_s: float | None
    horizon_s: float
    seed: int
    num_replicates: int
    price_year: int
    models: tuple[ModelChoice, ...]
    training: TrainingSpec
    framework: FrameworkProfile
    constraints: SearchConstraints
    failures: FailureSpec
    recovery: RecoverySpec
    checkpoints: CheckpointSpec
    options: tuple[OptionSpec, ...]
    observed: tuple[ObservedSpec, ...]
    facts: tuple[Fact, ...]
    sources: tuple[Source, ...]
    rules: tuple[RuleUsed, ...]
    path: str = ""
    text: str = ""
    overrides: tuple[tuple[str, str], ...] = ()
