"""Figures as people read them; the doctests in `formats.py` hold the plain cases, these the edges."""

import datetime as dt
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.report import formats as f

WRITERS = [
    f.money,
    f.energy,
    f.power,
    f.size,
    f.duration,
    f.days,
    f.share,
    f.percent,
    f.count,
    f.large,
    f.mass,
    f.plain,
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("value", [None, math.inf, -math.inf, math.nan])
def test_what_is_not_there_is_a_dash(write, value):
    assert write(value) == f.DASH


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (999_499_999.0, "$999M"),
        (999_600_000.0, "$1.00B"),
        (1.0, "$1.00"),
        (0.0, "$0"),
        (1e12, "$1,000B"),
        (-4.1e9, "−$4.10B"),
    ],
)
def test_money_changes_its_unit_where_rounding_would_give_a_thousand(usd, text):
    assert f.money(usd) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59.98, "1.00 min"), (59.4, "59.4 s"), (3 * 86400, "3.00 days"), (36 * 3600, "36.0 h"), (10 * 86400, "10 days"), (3 * 31557600, "3.00 years"), (0, "0 s"), (-7200, "−2.00 h")],
)  # fmt: skip
def test_durations_use_the_unit_a_person_would(seconds, text):
    assert f.duration(seconds) == text


def test_energy_is_in_gwh_and_power_in_mw_at_the_size_of_a_cluster():
    assert f.energy(5.12e15) == "1,422 GWh"
    assert f.power(149.6e6) == "150 MW"


def test_a_share_never_claims_more_than_it_knows():
    assert f.share(0.0049) == "<1 %"
    assert f.share(0.9951) == ">99 %"
    assert f.odds(1.0, 1000) == ">99 %"
    assert f.odds(0.0, 1000) == "<1 %"
    assert f.odds(0.0, 10) == "0 %"


def test_a_date_range_says_the_year_once_and_never_where_it_never_comes():
    assert f.date_range("2025-01-03", "2025-02-17") == "3 Jan – 17 Feb 2025"
    assert f.date_range("2024-12-30", "2025-01-02") == "30 Dec 2024 – 2 Jan 2025"
    assert f.date_range("2025-01-03", None) == "3 Jan 2025 – never"
    assert f.date_range(None, None) == "never"


def test_a_range_keeps_both_units_where_they_differ():
    assert f.span({"p10": 9e8, "p90": 1.1e9}, "money") == "$900M – $1.10B"
    assert f.span({"p10": 9e8, "p90": 9.5e8}, "money") == "$900–950M"
    assert f.span({"p10": None, "p90": None}, "money") == f.DASH
    assert f.span({"p10": 1.2e8, "p90": 2.5e8}, "count") == "120,000,000–250,000,000"
    assert f.span({"p10": -2e6, "p90": 3e6}, "money") == "−$2.00M – $3.00M"


def test_a_value_is_written_in_the_unit_of_its_fact():
    day = dt.date(2024, 7, 10)
    assert f.in_unit_of(12 * 86400.0, "2024-07-22", day) == "22 Jul 2024"
    assert f.in_unit_of(2.5 / 3600, "2.50 USD/h", day) == "2.50 USD/h"
    assert f.in_unit_of(0.2, "0.2 (0.1 to 0.4)", day) == "0.200"
    assert f.in_unit_of(150e6, "150 MW", day) == "150 MW"
    assert f.in_unit_of(1.5, "no number at all", day) == "1.50"
    assert f.in_unit_of(math.inf, "3 d", day) == f.DASH


@given(st.floats(1e-9, 1e30))
def test_three_significant_digits_are_within_half_a_per_cent(value):
    text = f.significant(value).replace(",", "")
    assert float(text) == pytest.approx(value, rel=5.001e-3)


@given(st.floats(1.0, 1e15), st.floats(1.0, 1e15))
def test_money_keeps_the_order_of_amounts(a, b):
    def amount(text):
        unit = {"B": 1e9, "M": 1e6, "k": 1e3}.get(text[-1], 1.0)
        return float(text.strip("$BMk").replace(",", "")) * unit

    low, high = sorted((a, b))
    assert amount(f.money(low)) <= amount(f.money(high))
