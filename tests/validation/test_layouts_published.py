"""Published layouts against the search, and how near two layouts tie, held to the ledger of the shipped evidence.

A bound says the date it last tightened. Loosening one is allowed when the reason stands beside it. The whole evidence:
`makespan validate --layouts`.
"""

from __future__ import annotations

import pytest

from makespan import catalog
from makespan.validation import ValidationResult, validate
from makespan.validation.layouts import LayoutLedger, published_layouts

EVERY = 13
"""Each thirteenth distinct run, 40 of them. The whole evidence (docs/layouts.md) takes minutes."""


@pytest.fixture(scope="module")
def shipped() -> ValidationResult:
    return validate()


@pytest.fixture(scope="module")
def sample() -> LayoutLedger:
    return published_layouts(every=EVERY)


def test_the_catalogued_tie_is_what_the_evidence_gives(shipped):
    """`comparison_sigma` of the catalog, measured again: pairs on as many accelerators, development rows."""
    spread = shipped.comparison_spread("development", "same size")
    catalogued = catalog.defaults().spec["comparison_sigma"]

    assert spread.num_groups >= 8
    assert spread.sigma == pytest.approx(catalogued.value.central, abs=0.003)  # 2026-11-23


def test_other_pairs_stay_in_the_catalogued_range(shipped):
    low, high = 0.03, 0.12  # the range of the fact
    assert catalog.defaults().spec["comparison_sigma"].fact.low == "3 %"
    assert catalog.defaults().spec["comparison_sigma"].fact.high == "12 %"
    for split in ("development", "validation"):
        assert low < shipped.comparison_spread(split).sigma < high
    # Three groups on as many accelerators in the validation rows, two of them of one kind: just outside.
    assert shipped.comparison_spread("validation", "same size").sigma < 0.13


def test_no_pair_is_counted_twice_or_crosses_the_split(shipped):
    pairs = [frozenset((pair.first, pair.second)) for pair in shipped.comparisons]
    splits = {row.id: row.split for row in shipped.rows}

    assert len(pairs) == len(set(pairs)) > 150
    assert all(splits[pair.first] == splits[pair.second] == pair.split for pair in shipped.comparisons)


def test_the_best_is_never_slower_than_the_published_layout(sample):
    assert len(sample.runs) == 40
    assert [run.id for run in sample.runs if not run.is_never_worse and not run.outside] == []


def test_published_layouts_are_among_the_ties_or_explained(sample):
    tally = sample.tally()

    # 2026-11-23: 83 % of all runs, 68 % ties. A sample of them may miss the run that makes another a recipe.
    assert sample.share() >= 0.75
    assert tally["tie"] >= 0.60 * len(sample.runs)
    assert all(run.reason is not None for run in sample.runs if run.verdict == "explained")
    assert all(run.reason is None for run in sample.runs if run.verdict in ("tie", "missed", "outside"))


def test_what_is_said_of_a_reason_holds(sample):
    """Held dimensions are as published over three runs or more; a tie is a tie; the best of a miss is faster than that."""
    for run in sample.runs:
        slower = run.time_s / run.best_time_s - 1.0
        assert (slower <= run.tie_fraction) == (run.verdict == "tie" or not run.is_never_worse)
        if run.reason is not None and run.reason.kind == "held":
            assert run.held[run.reason.dimension] * (1.0 + run.tie_fraction) >= 1.0
        if run.verdict == "missed":
            assert run.held or run.best.dp != run.layout.dp
