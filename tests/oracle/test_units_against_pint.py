"""Our table of units against pint's, wherever pint knows the word."""

import pint
import pytest

from makespan.units import parse

REGISTRY = pint.UnitRegistry()
REGISTRY.define("FLOP = [flop]")
REGISTRY.define("USD = [money]")


@pytest.mark.parametrize(
    ("text", "quantity", "pint_text", "si"),
    [
        ("3.7 TB/s", "data_rate", "3.7 terabyte/s", "byte/s"),
        ("400 Gbit/s", "data_rate", "400 gigabit/s", "byte/s"),
        ("96 GiB", "data", "96 gibibyte", "byte"),
        ("247 MW", "power", "247 megawatt", "watt"),
        ("1.59 TWh", "energy", "1.59 terawatt*hour", "joule"),
        ("9.5 MMBtu", "energy", "9.5e6 british_thermal_unit", "joule"),
        ("36 weeks", "time", "36 week", "second"),
        ("18 months", "time", "18 month", "second"),
        ("2 years", "time", "2 year", "second"),
        ("989.4 TFLOP/s", "flop_rate", "989.4e12 FLOP/s", "FLOP/s"),
        ("62 USD/MWh", "energy_price", "62 USD/(megawatt*hour)", "USD/joule"),
        ("46 kUSD/MW-month", "power_rent", "46e3 USD/(megawatt*month)", "USD/joule"),
        ("0.35 kg/kWh", "carbon_intensity", "0.35 kg/(kilowatt*hour)", "kg/joule"),
        ("3400/d", "rate", "3400/day", "1/second"),
    ],
)
def test_equals_pint(text, quantity, pint_text, si):
    expected = REGISTRY.Quantity(pint_text).to(si).magnitude
    assert parse(text, quantity) == pytest.approx(expected, rel=1e-5)  # two definitions of the Btu differ by 4e-6
