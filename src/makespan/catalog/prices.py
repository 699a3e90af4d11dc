"""Prices as they were seen, one dated observation a row: `data/prices.csv`."""

from __future__ import annotations

import csv
import datetime as dt
from dataclasses import dataclass
from functools import cache

from makespan.catalog import files
from makespan.provenance import Source
from makespan.units import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceObservation:
    """One price of one accelerator for one hour, as somebody printed it.

    on : the day or month the price held.   terms : `list`, `on-demand`, `reserved-1y`, `reserved-3y`, `spot`.
    low_usd_per_s, high_usd_per_s : equal for a single figure. [USD/s]
    """

    on: dt.date
    provider: str
    shape: str
    accelerator: str
    terms: str
    low_usd_per_s: float
    high_usd_per_s: float
    source: Source
    note: str


@cache
def prices(accelerator: str = "", as_of: dt.date | None = None) -> tuple[PriceObservation, ...]:
    """Dated prices, oldest first; of one accelerator if named; only those known on `as_of`."""
    text = (files.data() / "prices.csv").read_text(encoding="utf-8")
    found = []
    for row in csv.DictReader(text.splitlines()):
        on = dt.date.fromisoformat(row["on"])
        known = dt.date.fromisoformat(row["known_on"]) if row["known_on"] else on
        if (accelerator and row["accelerator"] != accelerator) or (as_of is not None and known > as_of):
            continue
        found.append(
            PriceObservation(
                on=on,
                provider=row["provider"],
                shape=row["shape"],
                accelerator=row["accelerator"],
                terms=row["terms"],
                low_usd_per_s=parse(row["low"], "money_rate"),
                high_usd_per_s=parse(row["high"] or row["low"], "money_rate"),
                source=files.source(row["source"]),
                note=row["note"],
            )
        )
    return tuple(sorted(found, key=lambda price: (price.on, price.provider, price.shape, price.terms)))
