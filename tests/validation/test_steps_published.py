"""The shipped evidence, predicted: errors stay inside the ledger. Identities apart from predictions.

A bound says the date it last tightened. Loosening one is allowed when the reason stands beside it. Rows of the validation
fold are judged here and used in no fit.
"""

from __future__ import annotations

import pytest

from makespan.validation import OK, ValidationResult, validate
from makespan.validation.result import COUNTED, LORA, OTHER_MAKER
from makespan.validation.statistics import of_configurations, quantile

LEDGER = {
    # (split, group, name): (median |error|, P90 |error|), each configuration once
    ("development", "all", "all"): (0.07, 0.30),  # 2026-11
    ("validation", "all", "all"): (0.05, 0.15),  # 2026-11
    ("validation", "architecture", "dense"): (0.05, 0.15),  # 2026-11
    ("validation", "parallelism", "FSDP"): (0.07, 0.20),  # 2026-11
    ("validation", "parallelism", "pipeline"): (0.06, 0.17),  # 2026-11
    ("validation", "precision", "bf16"): (0.06, 0.17),  # 2026-11
    ("validation", "precision", "fp8"): (0.06, 0.17),  # 2026-11
}

DENSE_LEDGER = {
    # profile: (median |error|, P90 |error|) of its dense configurations, both splits
    "nemo-2025": (0.04, 0.09),  # 2026-11
    "megatron-2025": (0.08, 0.22),  # 2026-11: P90 with hybrids and offloaded rows, which were not expressed before
    "fsdp-2023": (0.08, 0.18),  # 2026-11
    # 2026-11, loosened: silent rows recompute now, and the factors were chosen for rows that did not
    "jax-2024": (0.16, 0.30),
    # 2026-11, loosened: most rows are of a 500 W part; the factors are older than the terms they multiply now
    "torch-fsdp2": (0.22, 0.40),
}


@pytest.fixture(scope="module")
def shipped() -> ValidationResult:
    return validate()


def test_nearly_all_rows_that_count_are_predicted_and_the_others_say_why(shipped):
    assert shipped.expressible >= 0.95
    assert all(row.reason for row in shipped.rows if row.status != OK)
    assert {row.split for row in shipped.rows} == {"development", "validation"}
    assert shipped.standings[COUNTED] > 700
    assert shipped.standings[LORA] == 24
    assert shipped.standings[OTHER_MAKER] == 8


def test_identity_of_printed_flop_rates(shipped):
    """Printed time in, printed FLOP rate out: the operation count is the publishers' in most rows."""
    assert shipped.identity.num > 400
    assert shipped.identity.median_absolute < 0.01


def test_identity_of_repeated_measurements(shipped):
    """The noise floor of the sources: as the configurations are told apart, releases agree to a few per cent."""
    assert shipped.spread.num > 100
    assert 0.01 < shipped.spread.median < 0.025
    assert 0.05 < shipped.spread.p90 < 0.10


@pytest.mark.parametrize("key", LEDGER, ids="-".join)
def test_predictions_stay_in_the_ledger(shipped, key):
    summary = shipped.summary(*key)
    median, p90 = LEDGER[key]

    assert summary.num_configurations >= 30
    assert summary.median_absolute < median
    assert summary.p90_absolute < p90


@pytest.mark.parametrize("profile", DENSE_LEDGER)
def test_dense_predictions_stay_in_the_ledger(shipped, profile):
    rows = [
        r
        for r in shipped.rows
        if r.profile == profile and r.standing == COUNTED and ("architecture", "dense") in r.groups
    ]
    summary = of_configurations(rows, split="all", group="profile", name=profile)
    median, p90 = DENSE_LEDGER[profile]

    assert summary.num_configurations >= 20
    assert summary.median_absolute < median
    assert summary.p90_absolute < p90


@pytest.mark.parametrize("split", ["development", "validation"])
def test_ratios_between_scales_stay_in_the_ledger(shipped, split):
    errors = [abs(point.error) for point in shipped.scaling if point.split == split]

    assert len(errors) > 20
    assert quantile(errors, 0.5) < 0.03  # 2026-11


def test_a_configuration_is_in_one_split_only(shipped):
    splits: dict[str, set[str]] = {}
    for row in shipped.rows:
        if row.configuration and row.standing == COUNTED:
            splits.setdefault(row.configuration, set()).add(row.split)

    assert [name for name, both in splits.items() if len(both) > 1] == []


def test_every_printed_memory_is_compared(shipped):
    compared = [row for row in shipped.rows if row.memory_error is not None]

    assert len(compared) >= 30
    assert shipped.memory.median_absolute < 0.25  # 2026-11


def test_same_inputs_give_the_same_result(shipped):
    assert validate() == shipped
