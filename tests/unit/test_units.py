"""Text with a unit becomes SI; anything doubtful is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.units import DAY_S, MONTH_S, QUANTITIES, YEAR_S, UnitError, parse


@pytest.mark.parametrize(
    ("text", "quantity", "expected"),
    [
        ("150 MW", "power", 150e6),
        ("1.39kW", "power", 1390.0),
        ("310 GWh", "energy", 310e9 * 3600),
        ("80 GB", "data", 80e9),
        ("80 GiB", "data", 80 * 2**30),
        ("400 Gbit/s", "data_rate", 50e9),
        ("400 Gbps", "data_rate", 50e9),
        ("50 GB/s", "data_rate", 50e9),
        ("989.4 TFLOP/s", "flop_rate", 989.4e12),
        ("3.6e26 FLOP", "flop", 3.6e26),
        ("30 d", "time", 30 * DAY_S),
        ("6 months", "time", 6 * MONTH_S),
        ("5 years", "time", 5 * YEAR_S),
        ("$10B", "money", 10e9),
        ("$ 269k", "money", 269e3),
        ("24 MUSD", "money", 24e6),
        ("2.50 USD/h", "money_rate", 2.5 / 3600),
        ("$2.50/h", "money_rate", 2.5 / 3600),
        ("62 USD/MWh", "energy_price", 62 / 3.6e9),
        ("11.7 USD/W", "power_price", 11.7),
        ("11.7 MUSD/MW", "power_price", 11.7),
        ("46 kUSD/MW-month", "power_rent", 46e3 / 1e6 / MONTH_S),
        ("0.35 kg/kWh", "carbon_intensity", 0.35 / 3.6e6),
        ("3400/d", "rate", 3400 / DAY_S),
        ("3 %/year", "rate", 0.03 / YEAR_S),
        ("15.6T", "tokens", 15.6e12),
        ("15.6T tokens", "tokens", 15.6e12),
        ("100k", "count", 100e3),
        ("100,000", "count", 100e3),
        (100_000, "count", 100e3),
        ("85 %", "fraction", 0.85),
        (0.85, "fraction", 0.85),
    ],
)
def test_reads(text, quantity, expected):
    assert parse(text, quantity) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        (400, "data_rate"),
        ("400", "data_rate"),
        ("400 GB", "data_rate"),
        ("150 mw", "power"),
        ("150 MWh", "power"),
        ("ten MW", "power"),
        ("", "power"),
        ("nan MW", "power"),
        ("1e999 MW", "power"),
        (float("inf"), "count"),
        (True, "count"),
        (None, "count"),
        ("$10B", "power"),
        ("2.50", "money_rate"),
        ("2.50 EUR/h", "money_rate"),
        ("30", "time"),
        ("5 GPUs/parsec", "rate"),
    ],
)
def test_refuses_with_an_example(text, quantity):
    with pytest.raises(UnitError, match="expected") as caught:
        parse(text, quantity)
    assert QUANTITIES[quantity].noun in str(caught.value)


@given(st.text(max_size=30), st.sampled_from(sorted(QUANTITIES)))
def test_any_text_is_a_number_or_a_unit_error(text, quantity):
    try:
        assert isinstance(parse(text, quantity), float)
    except UnitError:
        pass
