"""Published layouts against the search, and how near two layouts tie, held to the ledger of the shipped evidence.

A bound says the date it last tightened. Loosening one is allowed when the reason stands beside it. The whole evidence:
`makespan validate --layouts`.
"""

from __future__ import annotations

import pytest

from makespan import catalog
from makespan.validation import ValidationResult, validate
from makespan.validation.layouts import LayoutLedger, published_layouts

EVERY = 5
"""Each fifth distinct run: a hundred of them."""


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
