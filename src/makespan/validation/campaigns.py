"""Shipped records of whole campaigns: failures and goodput of long runs, accelerator-hours of published models."""

from __future__ import annotations

import csv
import io

from makespan.validation.files import shipped


def campaign_records() -> list[dict[str, str]]:
    """Long runs with their interruptions and goodput as printed, each with its source. Blank: the source does not say."""
    return list(csv.DictReader(io.StringIO(shipped("campaigns.csv"))))


def accelerator_hours() -> list[dict[str, str]]:
    """Published models with the accelerator-hours they took.

    `implied_utilisation` is 6 * active parameters * tokens over hours at the dense bf16 peak: no attention, no
    recomputation; FP8 runs too are held against the bf16 peak. [-]
    """
    return list(csv.DictReader(io.StringIO(shipped("accelerator_hours.csv"))))


def implied_utilisation(record: dict[str, str]) -> float:
    """As the record's own column, computed. [-]

    Examples
    --------
    >>> llama = next(r for r in accelerator_hours() if r["model"] == "Llama 3.1 405B")
    >>> round(implied_utilisation(llama), 3), llama["implied_utilisation"]
    (0.346, '0.346')
    """
    flop = 6 * float(record["params_active_B"]) * 1e9 * float(record["tokens_T"]) * 1e12
    return flop / (float(record["accel_hours"]) * 3600 * float(record["peak_bf16_dense_tflops"]) * 1e12)
