"""What `validate` answers: one record a row, arithmetic checks apart from predictions, and statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

OK = "ok"
NOT_EXPRESSIBLE = "not expressible"
INFEASIBLE = "infeasible"
STATUSES = (OK, INFEASIBLE, NOT_EXPRESSIBLE)
"""A step time was predicted; the layout breaks a rule of the model; the row cannot be put as a question to it."""

COUNTED, LORA, OTHER_MAKER, INCOMPLETE, NO_TIME = "counted", "lora", "other maker", "incomplete", "no time"
STANDINGS = (COUNTED, LORA, OTHER_MAKER, INCOMPLETE, NO_TIME)
"""In the statistics; adapters only; not an NVIDIA accelerator; a size, the precision or the architecture is missing; no
measured time. Only counted rows make figures of accuracy, the others are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """One measured run, predicted.

    status : one of `STATUSES`.   reason : what was assumed for blank cells, or why there is no prediction.
    step_time_s, low_s, high_s : prediction and its 80 % interval; None without one. [s]
    memory_gb : predicted peak on the fullest accelerator, in units of 1e9 bytes.
    published_step_time_s, published_memory_gb : as printed, or derived from printed throughput; None where not given.
    profile : framework profile of the catalog.   provenance : one of `catalog.EVIDENCE`.
    kind : `prediction` (no number measured on the run goes in).   split : `development`, `validation` or `unseen` (split.py).
    family : publisher, model and accelerator, joined by ` | `.   accelerator : label used in the summary.
    standing : one of `STANDINGS`.
    configuration : what was run, the same for every release that measured it; rows of one are weighted as one.
    groups : (kind of group, name) pairs the row belongs to: `generation`, `precision`, `architecture`, `parallelism`.
    series : what stays the same over a scaling series: all but the number of replicas.
    rivals : what rows share whose layouts are compared: release, software, model, accelerator, precision, sequence length.
    choices : (dimension, value) of the layout as a publisher chooses it: without dp and what follows from it.
    """

    id: str
    status: str
    reason: str
    family: str
    model: str
    accelerator: str
    num_accelerators: int | None
    step_time_s: float | None
    low_s: float | None
    high_s: float | None
    memory_gb: float | None
    published_step_time_s: float | None
    published_memory_gb: float | None
    profile: str
    layout: str
    provenance: str
    source: str
    split: str
    kind: str = "prediction"
    standing: str = COUNTED
    configuration: str = ""
    groups: tuple[tuple[str, str], ...] = ()
    series: str = ""
    rivals: str = ""
    choices: tuple[tuple[str, str], ...] = ()

    @property
    def error(self) -> float | None:
        """Predicted over published, less one: positive where the prediction is too slow."""
        if self.step_time_s is None or not self.published_step_time_s:
            return None
        return self.step_time_s / self.published_step_time_s - 1.0

    @property
    def memory_error(self) -> float | None:
        """Predicted over published memory, less one."""
        if self.memory_gb is None or not self.published_memory_gb:
            return None
        return self.memory_gb / self.published_memory_gb - 1.0

    @property
    def is_covered(self) -> bool | None:
        """Whether the published time lies in the 80 % interval."""
        if self.low_s is None or self.high_s is None or not self.published_step_time_s:
            return None
        return self.low_s <= self.published_step_time_s <= self.high_s


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityResult:
    """An arithmetic check: the published step time goes in, the published FLOP rate should come out.

    ours, published : model FLOP a second and accelerator. [FLOP/s]
    convention : `causal` or `full` attention, whichever is nearer; a publisher uses one of them.
    """

    id: str
    what: str
    ours: float
    published: float
    convention: str
    kind: str = "identity"

    @property
    def error(self) -> float:
        return self.ours / self.published - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Errors of a group of predictions. Shares between 0 and 1; None where the group is empty.

    group, name : what the group is of, and which: ("precision", "fp8"), ("all", "all"), ("profile", "nemo-2025").
    split : of which rows; `all` for every one.
    num : rows.   num_configurations : rows of the same configuration, over all releases, count once.
    median_absolute, p90_absolute : over configurations, of |predicted / published - 1|, where a configuration's error is
        the median of its rows'.   median_signed : of predicted / published - 1.
    coverage : share of published times inside the 80 % interval; a configuration's share is its rows' mean.
    """

    split: str
    group: str
    name: str
    num: int
    num_configurations: int
    median_absolute: float | None
    p90_absolute: float | None
    median_signed: float | None
    coverage: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How far measurements of one configuration lie apart: no prediction can be held to less.

    num : configurations measured more than once.
    median, p90 : over them, of largest over smallest published time, less 1.
    """

    num: int
    median: float | None
    p90: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePoint:
    """One size of a scaling series against its smallest.

    measured, predicted : step time over the smallest size's. [-]
    """

    series: str
    split: str
    model: str
    accelerator: str
    precision: str
    smallest: int
    num_accelerators: int
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Predicted ratio over measured ratio, less one."""
        return self.predicted / self.measured - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two layouts that one release ran on one model: their measured ratio against the predicted one.

    first, second : ids of the rows.   rivals : as in `RowResult`.   dimensions : in which the two layouts differ, dp apart.
    measured, predicted : step time of the first over the second's; sizes and batches may differ. [-]
    same_size : both ran on as many accelerators.
    """

    split: str
    rivals: str
    model: str
    accelerator: str
    first: str
    second: str
    dimensions: tuple[str, ...]
    measured: float
    predicted: float
    same_size: bool

    @property
    def error(self) -> float:
        """Logarithm of the predicted over the measured ratio. [-]"""
        return math.log(self.predicted / self.measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSpread:
    """How far predicted ratios between layouts lie from measured ones.

    name : `all`, `same size` (pairs on as many accelerators), or the dimension in which the layouts differ (others may too).
    num : pairs.   num_groups : sets of rivals; each weighs the same, whatever number of pairs it has.
    sigma : of the logarithm: weighted median of |error| over 0.6745, the median of a standard normal's. [-]
    """

    split: str
    name: str
    num: int
    num_groups: int
    sigma: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """Every row of a file, predicted and compared.

    tallies : status -> rows.   standings : standing -> rows.
    expressible : share of the rows that count, times aside, that have a prediction.
    summaries : for every split: all rows, profiles, profiles on an accelerator, and the groups of the targets.
    scaling : every size of every scaling series beyond its smallest.   spread : the noise floor.
    memory : errors of the predicted peak memory over the rows that print one.
    comparisons, comparison_spreads : between layouts of one release, and how far predicted ratios are off.
    """

    source: str
    rows: tuple[RowResult, ...]
    identities: tuple[IdentityResult, ...]
    summaries: tuple[Summary, ...]
    scaling: tuple[ScalePoint, ...]
    spread: Spread
    memory: Summary
    identity: Summary
    tallies: Mapping[str, int]
    standings: Mapping[str, int]
    expressible: float | None
    version: str
    comparisons: tuple[Comparison, ...] = ()
    comparison_spreads: tuple[ComparisonSpread, ...] = ()

    def summary(self, split: str, group: str = "all", name: str = "all") -> Summary | None:
        """One summary, or None where that group has no predictions."""
        wanted = (split, group, name)
        return next((s for s in self.summaries if (s.split, s.group, s.name) == wanted), None)

    def comparison_spread(self, split: str, name: str = "all") -> ComparisonSpread | None:
        """One spread of comparisons, or None where the split has no pairs of that name."""
        return next((s for s in self.comparison_spreads if (s.split, s.name) == (split, name)), None)
