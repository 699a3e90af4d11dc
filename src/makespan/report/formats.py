"""Numbers as people read them: dates, money, energy, power, durations, shares. SI in, text out.

Every page and table goes through here, so that a figure reads the same wherever it is printed. `None`, `nan` and
`inf` are "never" for a date and a dash for anything else. `assets/report.js` has the same rules for tooltips, and a
browser test holds the two together.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence

from makespan.units import DAY_S, GWH_J, HOUR_S, MINUTE_S, QUANTITIES, YEAR_S, UnitError, parse

DASH = "–"
NEVER = "never"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _missing(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def significant(value: float, digits: int = 3) -> str:
    """At least `digits` significant digits, thousands separated; whole digits are never rounded away.

    >>> significant(0.12345), significant(61.24), significant(99.96), significant(123456.7)
    ('0.123', '61.2', '100', '123,457')
    """
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    rounded = round(value, decimals)
    if rounded and math.floor(math.log10(abs(rounded))) > math.floor(math.log10(abs(value))):
        decimals = max(0, decimals - 1)
    return f"{rounded:,.{decimals}f}"


def _scaled(value: float, scales: Sequence[tuple[float, str]]) -> tuple[str, str]:
    """The number and the unit: the largest unit in which it does not round to less than 1."""
    for factor, unit in scales:
        if abs(value) / factor >= 0.9995:
            return significant(value / factor), unit
    factor, unit = scales[-1]
    return significant(value / factor), unit


def date(iso: str | dt.date | None) -> str:
    """An ISO date as "17 Feb 2025"; "never" for none.

    >>> date("2025-02-17"), date(None)
    ('17 Feb 2025', 'never')
    """
    if iso is None:
        return NEVER
    day = dt.date.fromisoformat(iso) if isinstance(iso, str) else iso
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def date_range(low: str | None, high: str | None) -> str:
    """Two ISO dates as a range; the year once where it is the same.

    >>> date_range("2025-01-03", "2025-02-17"), date_range("2024-12-24", None)
    ('3 Jan – 17 Feb 2025', '24 Dec 2024 – never')
    """
    if low is None:
        return NEVER
    if high is None or low[:4] != high[:4]:
        return f"{date(low)} – {date(high)}"
    return f"{date(low)[:-5]} – {date(high)}"


def money(usd: float | None) -> str:
    """USD as "$612M" or "$4.10B".

    >>> money(612.4e6), money(4.1e9), money(999.9e6), money(-35e3), money(None)
    ('$612M', '$4.10B', '$1.00B', '−$35.0k', '–')
    """
    if usd is None or _missing(usd):
        return DASH
    if abs(usd) < 0.5:
        return "$0"
    text, unit = _scaled(abs(usd), ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, "")))
    return f"{'−' if usd < 0 else ''}${text}{unit}"


def energy(joule: float | None) -> str:
    """Joule as "512 GWh" (MWh below one, kWh below that).

    >>> energy(512.3 * 3.6e12), energy(12_345 * 3.6e12), energy(3.6e9)
    ('512 GWh', '12,345 GWh', '1.00 MWh')
    """
    if joule is None or _missing(joule):
        return DASH
    if joule == 0:
        return "0 GWh"
    text, unit = _scaled(joule, ((GWH_J, "GWh"), (GWH_J / 1e3, "MWh"), (GWH_J / 1e6, "kWh")))
    return f"{text} {unit}"


def power(watt: float | None) -> str:
    """Watt as "143 MW" (kW below one, W below that).

    >>> power(143.2e6), power(7.5e5), power(0)
    ('143 MW', '750 kW', '0 MW')
    """
    if watt is None or _missing(watt):
        return DASH
    if watt == 0:
        return "0 MW"
    text, unit = _scaled(watt, ((1e6, "MW"), (1e3, "kW"), (1.0, "W")))
    return f"{text} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds in the unit a person would use, from milliseconds to years.

    >>> duration(83 * 86400), duration(4.256), duration(0.0042), duration(5400), duration(4 * 31557600.0)
    ('83 days', '4.26 s', '4.20 ms', '1.50 h', '4.00 years')
    """
    if seconds is None or _missing(seconds):
        return DASH
    size = abs(seconds)
    sign = "−" if seconds < 0 else ""
    if size == 0:
        return "0 s"
    if 9.95 * DAY_S <= size < 2 * YEAR_S:
        return f"{sign}{size / DAY_S:,.0f} days"
    scales = ((2 * YEAR_S, "years"), (2 * DAY_S, "days"), (HOUR_S, "h"), (MINUTE_S, "min"), (1.0, "s"), (1e-3, "ms"))
    for factor, unit in scales:
        if size >= 0.9995 * factor:
            divisor = {"years": YEAR_S, "days": DAY_S}.get(unit, factor)
            return f"{sign}{significant(size / divisor)} {unit}"
    return f"{sign}{significant(size * 1e6)} µs"


def days(seconds: float | None) -> str:
    """Whole days: "12 days", "1 day", "under a day".

    >>> days(12.4 * 86400), days(86400), days(3600), days(None)
    ('12 days', '1 day', 'under a day', '–')
    """
    if seconds is None or _missing(seconds):
        return DASH
    number = round(abs(seconds) / DAY_S)
    if number == 0:
        return "under a day"
    return f"{number:,} day{'s' if number != 1 else ''}"


def share(fraction: float | None) -> str:
    """A share as per cent; the ends say when they are not quite reached.

    >>> share(0.824), share(0.004), share(0.998), share(0), share(1), share(None)
    ('82 %', '<1 %', '>99 %', '0 %', '100 %', '–')
    """
    if fraction is None or _missing(fraction):
        return DASH
    if 0 < fraction < 0.005:
        return "<1 %"
    if 0.995 <= fraction < 1:
        return ">99 %"
    return f"{fraction * 100:.0f} %"


def odds(fraction: float | None, num_replicates: int) -> str:
    """A probability counted over replicates; "0 of 200" is no proof of never, so the ends carry a bound.

    >>> odds(0.824, 200), odds(0.0, 200), odds(1.0, 200), odds(1.0, 1), odds(None, 200)
    ('82 %', '<1 %', '>99 %', '100 %', '–')
    """
    if fraction is None or _missing(fraction):
        return DASH
    if num_replicates >= 100 and fraction in (0.0, 1.0):
        return "<1 %" if fraction == 0 else ">99 %"
    return share(fraction)


def percent(fraction: float | None, digits: int = 1) -> str:
    """A share with decimals, for efficiencies.

    >>> percent(0.3817), percent(None)
    ('38.2 %', '–')
    """
    return DASH if fraction is None or _missing(fraction) else f"{fraction * 100:.{digits}f} %"


def count(number: float | None) -> str:
    """A whole number with its thousands separated.

    >>> count(100_000), count(1e6 + 0.4), count(None)
    ('100,000', '1,000,000', '–')
    """
    return DASH if number is None or _missing(number) else f"{number:,.0f}"


def size(num_bytes: float | None) -> str:
    """Bytes as "62.1 GB" (decimal).

    >>> size(62.1e9), size(8.0e10), size(1.5e6)
    ('62.1 GB', '80.0 GB', '1.50 MB')
    """
    if num_bytes is None or _missing(num_bytes):
        return DASH
    text, unit = _scaled(num_bytes, ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")))
    return f"{text} {unit}"


def scientific(value: float | None, digits: int = 3) -> str:
    """A very large number such as operations: "3.60e26".

    >>> scientific(3.6e26), scientific(None)
    ('3.60e26', '–')
    """
    return DASH if value is None or _missing(value) else f"{value:.{digits - 1}e}".replace("e+", "e")


def plain(value: float | None) -> str:
    """A number whose unit is not known here: separated thousands, or powers of ten where it is far from 1.

    >>> plain(0.05), plain(24000), plain(3.6e26), plain(0), plain(2.4e-9)
    ('0.0500', '24,000', '3.60e26', '0', '2.40e-9')
    """
    if value is None or _missing(value):
        return DASH
    if value != 0 and not 1e-3 <= abs(value) < 1e9:
        return scientific(value).replace("e-0", "e-")
    return significant(value)


def in_unit_of(value: float, written: str, as_of: dt.date) -> str:
    """An SI value in the unit in which a text of the same quantity is written; a date for a date.

    `written` is the text of a fact or of a rule ("3 d (0.5 d to 14 d)"). A value stays SI when no unit is known, or when
    it is so far from what is written that it must be another quantity made from it (a price times a size, say).

    >>> day = dt.date(2024, 7, 10)
    >>> in_unit_of(259200.0, "7 d (1 d to 14 d)", day), in_unit_of(3.6e26, "4e26 FLOP", day)
    ('3.00 d', '3.60e26 FLOP')
    >>> in_unit_of(0.05, "10 %", day), in_unit_of(5e-9, "4.3e-4/d", day), in_unit_of(864000.0, "2024-07-22", day)
    ('5.00 %', '4.32e-4/d', '20 Jul 2024')
    >>> in_unit_of(24000.0, "16000", day), in_unit_of(1.1, "", day), in_unit_of(0.6, "46 kUSD/MW/month", day)
    ('24,000', '1.10', '0.600')
    """
    if not math.isfinite(value):
        return DASH
    if re.match(r"\d{4}-\d\d-\d\d$", written):
        return date(as_of + dt.timedelta(seconds=value))
    found = re.match(r"([\d.,_]+(?:[eE][+-]?\d+)?)(\s*)([^\d\s(][^(]*?)?\s*(?:\(|$)", written)
    if found is None or not found[3]:
        return plain(value)
    amount, space, unit = found.groups()
    for quantity in QUANTITIES:
        try:
            stated, factor = parse(f"{amount}{space}{unit}", quantity), parse(f"1{space}{unit}", quantity)
        except UnitError:
            continue
        if factor > 0 and 1e-3 < value / (stated or factor) < 1e3:
            return f"{plain(value / factor)}{space}{unit}"
    return plain(value)


def gib(num_bytes: float | None) -> str:
    """Bytes of memory in GiB, the unit in which accelerators are sold ("80 GB" is 80 GiB).

    >>> gib(80 * 2**30), gib(None)
    ('80.0 GiB', '–')
    """
    return DASH if num_bytes is None or _missing(num_bytes) else f"{num_bytes / 2**30:,.1f} GiB"


def mass(kilogram: float | None) -> str:
    """Kilogram as tonnes or thousands of them.

    >>> mass(123.4e6), mass(5e5), mass(None)
    ('123 kt', '500 t', '–')
    """
    if kilogram is None or _missing(kilogram):
        return DASH
    text, unit = _scaled(kilogram, ((1e6, "kt"), (1e3, "t")))
    return f"{text} {unit}"


def large(number: float | None) -> str:
    """A large count in words.

    >>> large(154.2e6), large(2.5e9), large(9000), large(None)
    ('154 million', '2.50 billion', '9,000', '–')
    """
    if number is None or _missing(number):
        return DASH
    if abs(number) < 0.9995e6:
        return count(number)
    text, unit = _scaled(number, ((1e9, "billion"), (1e6, "million")))
    return f"{text} {unit}"


def write(value: float | None, kind: str) -> str:
    """A value in one of the formats above, by name.

    >>> write(5.9e8, "money"), write(None, "energy")
    ('$590M', '–')
    """
    return _BY_NAME[kind](value)


def span(band: Mapping[str, float | None], kind: str) -> str:
    """P10 to P90 of a band in one of the formats above; a unit that both ends share is written once.

    >>> span({"p10": 5.9e8, "p50": 6.1e8, "p90": 6.6e8}, "money"), span({"p10": 9.5e8, "p90": 1.2e9}, "money")
    ('$590–660M', '$950M – $1.20B')
    >>> span({"p10": 170e6, "p90": 192e6}, "power"), span({"p10": 0.877, "p90": 0.922}, "percent")
    ('170–192 MW', '87.7–92.2 %')
    >>> span({"p10": 0.877, "p90": None}, "percent"), span({"p10": 5, "p90": 5}, "count")
    ('87.7 % or more', '5')
    """
    low, high = write(band["p10"], kind), write(band["p90"], kind)
    if low == high:
        return low
    if band["p90"] is None:
        return f"{low} or more"
    (number, unit), (_, other) = (re.fullmatch(r"(.*?[\d.,]*)(\D*)", text).groups() for text in (low, high))  # type: ignore[union-attr]
    if unit != other or low.startswith("−"):
        return f"{low} – {high}"
    return f"{number}–{high.removeprefix('$')}"


_BY_NAME = {
    "money": money,
    "energy": energy,
    "power": power,
    "percent": percent,
    "duration": duration,
    "count": count,
    "large": large,
}
