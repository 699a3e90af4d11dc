"""Ratios of layouts: which rows are compared, what the error is, how a spread is weighted, and the tie that follows."""

from __future__ import annotations

import dataclasses
import math

import pytest

from makespan import catalog
from makespan.search.ties import comparison_sigma, tie_fraction
from makespan.validation import OK, RowResult
from makespan.validation.comparisons import comparisons_of, spreads_of, weighted_median
from makespan.validation.result import LORA

PROFILE = catalog.framework("megatron-2026").spec


def result(name: str, measured_s: float, predicted_s: float, **changes: object) -> RowResult:
    base = RowResult(
        id=name,
        status=OK,
        reason="",
        family="f",
        model="m",
        accelerator="a",
        num_accelerators=64,
        step_time_s=predicted_s,
        low_s=None,
        high_s=None,
        memory_gb=None,
        published_step_time_s=measured_s,
        published_memory_gb=None,
        profile="p",
        layout="",
        provenance="",
        source="",
        split="development",
        rivals="r",
        choices=(("tp", "8"), ("vpp", "1")),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_the_error_of_a_comparison_is_that_of_the_ratio():
    """Measured 10 and 8 s, predicted 12 and 10 s: 1.25 against 1.2. An error that both share cancels."""
    first = result("a", 10.0, 12.0)
    second = result("b", 8.0, 10.0, choices=(("tp", "8"), ("vpp", "2")))

    (pair,) = comparisons_of([first, second])
    assert (pair.measured, pair.predicted) == (1.25, 1.2)
    assert pair.error == pytest.approx(math.log(1.2 / 1.25))
    assert pair.dimensions == ("vpp",)
    assert pair.same_size

    slower = [dataclasses.replace(row, step_time_s=2 * (row.step_time_s or 0.0)) for row in (first, second)]
    assert comparisons_of(slower)[0].error == pytest.approx(pair.error)


def test_more_work_cancels_between_measured_and_predicted():
    first = result("a", 10.0, 12.0)
    second = result("b", 8.0, 10.0, choices=(("tp", "4"), ("vpp", "1")))
    doubled = dataclasses.replace(second, num_accelerators=32, published_step_time_s=16.0, step_time_s=20.0)

    (one,), (other,) = comparisons_of([first, second]), comparisons_of([first, doubled])
    assert other.error == pytest.approx(one.error)
    assert not other.same_size


@pytest.mark.parametrize(
    "changes",
    [
        {"rivals": "other release"},
        {"rivals": ""},
        {"choices": (("tp", "8"), ("vpp", "1"))},
        {"standing": LORA},
        {"step_time_s": None},
        {"published_step_time_s": None},
    ],
    ids=["another release", "no question", "same layout", "does not count", "not predicted", "not measured"],
)
def test_rows_that_are_no_rivals_are_not_compared(changes):
    second = dataclasses.replace(result("b", 8.0, 10.0, choices=(("tp", "4"), ("vpp", "1"))), **changes)

    assert comparisons_of([result("a", 10.0, 12.0), second]) == ()


def test_every_group_of_rivals_weighs_the_same():
    """Three layouts of one release make three pairs with errors of 0, 0.1 and 0.1; two groups of one pair have 0.2 and 0.3."""

    def group(rivals: str, errors: list[float]) -> list[RowResult]:
        return [
            result(f"{rivals}{k}", 1.0, math.exp(error), rivals=rivals, choices=(("tp", str(k)),))
            for k, error in enumerate(errors)
        ]

    rows = [*group("x", [0.0, 0.0, 0.1]), *group("y", [0.0, 0.2]), *group("z", [0.0, 0.3])]
    spreads = {spread.name: spread for spread in spreads_of(comparisons_of(rows))}

    # Weights 1/3 each up to 0.1, then 1 and 1: middles at 1/18, 3/18, 5/18, 9/18, 15/18; half the weight lies at 0.2.
    assert spreads["all"].sigma == pytest.approx(0.2 / 0.6744897501960817)
    assert (spreads["all"].num, spreads["all"].num_groups) == (5, 3)
    assert spreads["tp"] == dataclasses.replace(spreads["all"], name="tp")
    assert spreads["same size"].num == 5


def test_splits_stay_apart():
    rows = [
        result("a", 1.0, 1.0, split="development"),
        result("b", 1.0, 1.1, split="development", choices=(("tp", "4"), ("vpp", "1"))),
        result("c", 1.0, 1.0, split="validation", rivals="s"),
        result("d", 1.0, 1.3, split="validation", rivals="s", choices=(("tp", "4"), ("vpp", "1"))),
    ]
    sigmas = {spread.split: spread.sigma for spread in spreads_of(comparisons_of(rows)) if spread.name == "all"}

    assert sigmas["development"] == pytest.approx(math.log(1.1) / 0.6744897501960817)
    assert sigmas["validation"] == pytest.approx(math.log(1.3) / 0.6744897501960817)


def test_weighted_median():
    assert weighted_median([5.0], [1.0]) == 5.0
    assert weighted_median([1.0, 2.0, 3.0, 4.0], [1.0] * 4) == 2.5
    assert weighted_median([3.0, 1.0], [1.0, 9.0]) == pytest.approx(1.0, abs=0.2)


def test_a_tie_leaves_one_chance_in_ten():
    """Phi(-ln(1 + f) / s) = 10 %: worked with the error function."""
    sigma, tie = comparison_sigma(PROFILE), tie_fraction(PROFILE)
    chance = 0.5 * math.erfc(math.log1p(tie) / sigma / math.sqrt(2.0))

    assert chance == pytest.approx(0.1)
    assert tie_fraction(dataclasses.replace(PROFILE, comparison_sigma=2 * sigma)) > tie


def test_without_a_figure_two_errors_are_independent():
    unknown = dataclasses.replace(PROFILE, comparison_sigma=0.0, residual_sigma=0.1)

    assert comparison_sigma(unknown) == pytest.approx(math.hypot(0.1, 0.1))


def test_one_catalogued_figure_for_all_software():
    sigmas = {name: catalog.framework(name).spec.comparison_sigma for name in catalog.names("framework")}
    rule = catalog.defaults().spec["comparison_sigma"]

    assert set(sigmas.values()) == {rule.value.central}
    assert any(fact.path.endswith("comparison_sigma") for fact in catalog.framework("nemo-2025").facts)
