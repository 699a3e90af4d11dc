"""What `validate` answers: one record a row, arithmetic checks apart from predictions, and a summary."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

OK = "ok"
NOT_EXPRESSIBLE = "not expressible"
INFEASIBLE = "infeasible"
STATUSES = (OK, INFEASIBLE, NOT_EXPRESSIBLE)
"""A step time was predicted; the layout breaks a rule of the model; the row cannot be put as a question to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """One measured run, predicted.

    status : one of `STATUSES`.   reason : what was assumed for blank cells, or why there is no prediction.
    step_time_s, low_s, high_s : prediction and its 80 % interval; None without one. [s]
    memory_gb : predicted peak on the fullest accelerator, in units of 1e9 bytes.
    published_step_time_s, published_memory_gb : as printed, or derived from printed throughput; None where not given.
    profile : framework profile of the catalog.   provenance : weakest kind of fact behind the kernels.
    kind : `prediction` (no number measured on the run goes in).   split : `development`, `validation` or `unseen` (split.py).
    family : publisher, model and accelerator, joined by ` | `.   accelerator : label used in the summary.
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

    median_absolute, p90_absolute : of |predicted / published - 1|.   median_signed : of predicted / published - 1.
    coverage : share of published times inside the 80 % interval.
    """

    profile: str
    accelerator: str
    num: int
    median_absolute: float | None
    p90_absolute: float | None
    median_signed: float | None
    coverage: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """Every row of a file, predicted and compared.

    tallies : status -> rows.   summaries : per profile and accelerator, per profile, and all together (`all`).
    memory : error of the predicted peak memory over the rows that print one.
    """

    source: str
    rows: tuple[RowResult, ...]
    identities: tuple[IdentityResult, ...]
    summaries: tuple[Summary, ...]
    memory: Summary
    identity: Summary
    tallies: Mapping[str, int]
    version: str


def quantile(values: Iterable[float], share: float) -> float | None:
    """Value at a share of the ordered values, between neighbours in proportion; None for no values."""
    ordered = sorted(values)
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summarise(errors: Iterable[float], covered: Iterable[bool], *, profile: str, accelerator: str) -> Summary:
    """Statistics of signed errors."""
    signed = list(errors)
    inside = list(covered)
    absolute = [abs(error) for error in signed]
    return Summary(
        profile=profile,
        accelerator=accelerator,
        num=len(signed),
        median_absolute=quantile(absolute, 0.5),
        p90_absolute=quantile(absolute, 0.9),
        median_signed=quantile(signed, 0.5),
        coverage=sum(inside) / len(inside) if inside else None,
    )


def summaries_of(rows: Iterable[RowResult]) -> tuple[Summary, ...]:
    """All rows together, then each profile, then each profile and accelerator; groups without predictions are left out."""
    predicted = [row for row in rows if row.error is not None]

    def group(chosen: Callable[[RowResult], bool], profile: str, accelerator: str) -> Summary:
        members = [row for row in predicted if chosen(row)]
        return summarise(
            (row.error for row in members if row.error is not None),
            (row.is_covered for row in members if row.is_covered is not None),
            profile=profile,
            accelerator=accelerator,
        )

    summaries = [group(lambda _: True, "all", "all")]
    for profile in sorted({row.profile for row in predicted}):
        summaries.append(group(lambda row, p=profile: row.profile == p, profile, "all"))  # type: ignore[misc]
        for accelerator in sorted({row.accelerator for row in predicted if row.profile == profile}):
            summaries.append(
                group(
                    lambda row, p=profile, a=accelerator: row.profile == p and row.accelerator == a,  # type: ignore[misc]
                    profile,
                    accelerator,
                )
            )
    return tuple(summaries)
