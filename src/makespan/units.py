"""SI inside, text with a unit at the border.

`parse("400 Gbit/s", "data_rate")` is the only place a prefix is handled. A bare number where a unit
belongs is an error, so GB and GiB, bits and bytes, hours and days are never mixed by accident.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
DAY_S: Final = 86400.0
WEEK_S: Final = 7 * DAY_S
YEAR_S: Final = 365.25 * DAY_S
MONTH_S: Final = YEAR_S / 12
KWH_J: Final = 3.6e6
MWH_J: Final = 3.6e9
GWH_J: Final = 3.6e12

_DECIMAL: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY: Final = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_COUNT: Final = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}

Dimension = tuple[tuple[str, int], ...]


def _dimension(**powers: int) -> Dimension:
    return tuple(sorted((base, power) for base, power in powers.items() if power))


def _unit_table() -> dict[str, tuple[float, dict[str, int]]]:
    table: dict[str, tuple[float, dict[str, int]]] = {}

    def add(names: str, factor: float, **powers: int) -> None:
        for name in names.split():
            table[name] = (factor, powers)

    add("s sec second seconds", 1.0, time=1)
    add("ms", 1e-3, time=1)
    add("us µs", 1e-6, time=1)
    add("ns", 1e-9, time=1)
    add("min minute minutes", MINUTE_S, time=1)
    add("h hr hour hours", HOUR_S, time=1)
    add("d day days", DAY_S, time=1)
    add("week weeks wk", WEEK_S, time=1)
    add("month months", MONTH_S, time=1)
    add("year years yr", YEAR_S, time=1)
    for prefix, factor in _DECIMAL.items():
        add(f"{prefix}W", factor, energy=1, time=-1)
        add(f"{prefix}Wh", factor * HOUR_S, energy=1)
        add(f"{prefix}J", factor, energy=1)
        add(f"{prefix}B {prefix}Byte {prefix}byte", factor, data=1)
        add(f"{prefix}bit {prefix}b", factor / 8, data=1)
        add(f"{prefix}FLOP {prefix}FLOPs", factor, flop=1)
        add(f"{prefix}FLOPS {prefix}FLOP/s", factor, flop=1, time=-1)
        add(f"{prefix}USD", factor, money=1)
    add("bytes bits", 1.0, data=1)
    table["bits"] = (1 / 8, {"data": 1})
    for prefix, factor in _BINARY.items():
        add(f"{prefix}B {prefix}Byte", factor, data=1)
        add(f"{prefix}bit", factor / 8, data=1)
    add("Gbps", 1e9 / 8, data=1, time=-1)
    add("Mbps", 1e6 / 8, data=1, time=-1)
    add("Tbps", 1e12 / 8, data=1, time=-1)
    add("kUSD", 1e3, money=1)
    add("BUSD", 1e9, money=1)
    add("MMBtu", 1.05505585262e9, energy=1)
    add("t tonne tonnes", 1e3, mass=1)
    add("kg", 1.0, mass=1)
    add("g", 1e-3, mass=1)
    add("% percent", 0.01)
    add("token tokens", 1.0, token=1)
    add("sequence sequences", 1.0, sequence=1)
    for words in (
        "GPU GPUs",
        "accelerator accelerators",
        "chip chips",
        "node nodes",
        "rack racks",
        "unit units",
        "turbine turbines",
    ):
        add(words, 1.0)
    return table


_UNITS: Final = MappingProxyType(_unit_table())


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A kind of quantity a file may hold: its dimension, and how to write one."""

    name: str
    dimension: Dimension
    noun: str
    example: str
    bare_number: bool = False
    allow_count_suffix: bool = False


QUANTITIES: Final = MappingProxyType(
    {
        q.name: q
        for q in (
            Quantity(name="time", dimension=_dimension(time=1), noun="a duration", example='"30 d" or "12 h"'),
            Quantity(name="power", dimension=_dimension(energy=1, time=-1), noun="a power", example='"150 MW"'),
            Quantity(name="energy", dimension=_dimension(energy=1), noun="an energy", example='"310 GWh"'),
            Quantity(name="data", dimension=_dimension(data=1), noun="a size", example='"80 GB" or "80 GiB"'),
            Quantity(
                name="data_rate",
                dimension=_dimension(data=1, time=-1),
                noun="a bandwidth, per accelerator and one direction",
                example='"400 Gbit/s" or "50 GB/s"',
            ),
            Quantity(name="flop", dimension=_dimension(flop=1), noun="a number of operations", example='"3.8e25 FLOP"'),
            Quantity(
                name="flop_rate",
                dimension=_dimension(flop=1, time=-1),
                noun="a rate of operations",
                example='"989.4 TFLOP/s"',
            ),
            Quantity(
                name="money", dimension=_dimension(money=1), noun="an amount of money", example='"$10B" or "300 MUSD"'
            ),
            Quantity(
                name="money_rate",
                dimension=_dimension(money=1, time=-1),
                noun="a price per time",
                example='"2.50 USD/h" (per accelerator) or "40 MUSD/year"',
            ),
            Quantity(
                name="energy_price",
                dimension=_dimension(money=1, energy=-1),
                noun="a price of energy",
                example='"62 USD/MWh"',
            ),
            Quantity(
                name="power_price",
                dimension=_dimension(money=1, energy=-1, time=1),
                noun="a price of capacity",
                example='"11.7 USD/W" or "11.7 MUSD/MW"',
            ),
            Quantity(
                name="power_rent",
                dimension=_dimension(money=1, energy=-1),
                noun="a rent of capacity per time",
                example='"46 kUSD/MW/month"',
            ),
            Quantity(
                name="carbon_intensity",
                dimension=_dimension(mass=1, energy=-1),
                noun="a carbon intensity",
                example='"0.35 kg/kWh"',
            ),
            Quantity(name="rate", dimension=_dimension(time=-1), noun="a rate", example='"3400/d" or "4.2e-3/d"'),
            Quantity(
                name="tokens",
                dimension=_dimension(token=1),
                noun="a number of tokens",
                example='"15.6T" or "15.6T tokens"',
                allow_count_suffix=True,
            ),
            Quantity(
                name="count",
                dimension=_dimension(),
                noun="a whole number",
                example='"100000" or "100k"',
                bare_number=True,
                allow_count_suffix=True,
            ),
            Quantity(
                name="fraction",
                dimension=_dimension(),
                noun="a share between 0 and 1, or a percentage",
                example='"0.85" or "85 %"',
                bare_number=True,
            ),
            Quantity(name="factor", dimension=_dimension(), noun="a plain number", example='"1.2"', bare_number=True),
        )
    }
)

_NUMBER: Final = r"[+-]?(?:\d{1,3}(?:[_,]\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?|[+-]?\.\d+(?:[eE][+-]?\d+)?"
_TEXT: Final = re.compile(rf"^\s*(?P<usd>\$)?\s*(?P<number>{_NUMBER})\s*(?P<unit>.*?)\s*$")


class UnitError(ValueError):
    """A text is not the quantity that was expected; the message says what was and how to write it."""


def _parse_unit(text: str) -> tuple[float, Dimension]:
    factor, powers = 1.0, dict[str, int]()
    for position, part in enumerate(text.replace("per ", "/").replace("·", "*").replace("-", "*").split("/")):
        sign = 1 if position == 0 else -1
        for name in filter(None, (p.strip() for p in part.split("*"))):
            if name not in _UNITS:
                raise UnitError(f"unknown unit '{name}'")
            unit_factor, unit_powers = _UNITS[name]
            factor *= unit_factor**sign
            for base, power in unit_powers.items():
                powers[base] = powers.get(base, 0) + sign * power
    return factor, _dimension(**powers)


def parse(value: str | int | float, quantity: str) -> float:
    """The SI value of a text such as "150 MW", "400 Gbit/s", "$10B", "30 d", "85 %" or "15.6T".

    Parameters
    ----------
    value : text with a unit; a bare number only where the quantity has no unit.
    quantity : a key of `QUANTITIES`, which fixes the dimension.

    Raises
    ------
    UnitError : the text is no number, its unit is missing, unknown, or of another dimension.

    Examples
    --------
    >>> parse("150 MW", "power"), parse("400 Gbit/s", "data_rate"), parse("$10B", "money")
    (150000000.0, 50000000000.0, 10000000000.0)
    >>> parse("46 kUSD/MW/month", "power_rent") == 46e3 / (1e6 * MONTH_S)
    True
    >>> parse(400, "data_rate")
    Traceback (most recent call last):
    makespan.units.UnitError: found 400 (no unit); expected a bandwidth, per accelerator and one direction, such as "400 Gbit/s" or "50 GB/s"
    """
    kind = QUANTITIES[quantity]
    expected = f"expected {kind.noun}, such as {kind.example}"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnitError(f"found {value!r}; {expected}")
    if not isinstance(value, str):
        if not kind.bare_number:
            raise UnitError(f"found {value!r} (no unit); {expected}")
        return _finite(float(value), value, expected)
    match = _TEXT.match(value)
    if match is None:
        raise UnitError(f"found '{value}'; {expected}")
    number = float(match["number"].replace(",", "").replace("_", ""))
    unit = match["unit"]
    factor, dimension = 1.0, _dimension()
    if match["usd"]:
        suffix, _, rest = unit.partition("/")
        multiplier = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "bn": 1e9, "billion": 1e9, "million": 1e6}.get(
            suffix.strip()
        )
        if multiplier is None:
            raise UnitError(f"found '{value}'; {expected}")
        factor = multiplier
        unit = "USD" + (f"/{rest}" if rest else "")
    elif kind.allow_count_suffix:
        word, _, rest = unit.partition(" ")
        if word in _COUNT:
            factor, unit = _COUNT[word], rest.strip()
    try:
        unit_factor, dimension = _parse_unit(unit)
    except UnitError as error:
        raise UnitError(f"found '{value}' ({error}); {expected}") from None
    if not unit and not kind.bare_number and not kind.allow_count_suffix:
        raise UnitError(f"found '{value}' (no unit); {expected}")
    if dimension != kind.dimension and not (not dimension and kind.allow_count_suffix):
        raise UnitError(f"found '{value}'; {expected}")
    return _finite(number * factor * unit_factor, value, expected)


def _finite(number: float, value: object, expected: str) -> float:
    if number - number != 0.0:
        raise UnitError(f"found '{value}', which is no finite number; {expected}")
    return number
