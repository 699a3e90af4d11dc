"""A newer release of the same software takes less time, as far as its measured releases reach."""

from __future__ import annotations

import pytest

from makespan import catalog
from makespan.validation.software import software_of

PROFILE = catalog.framework("megatron-2025").spec


def slowdown(date: str) -> float:
    return software_of({"framework": "Megatron-Bridge/MCore", "date": date}, []).profile.gemm_slowdown


def test_a_half_year_saves_half_of_the_yearly_gain():
    assert slowdown("2026-04") / slowdown("2025-10") == pytest.approx((1.0 - PROFILE.gain_per_year) ** 0.5)


def test_before_the_first_measured_release_nothing_more_is_lost():
    assert slowdown("2025-06") == slowdown("2025-10")


def test_the_middle_of_the_releases_is_the_profile():
    earlier, later = slowdown("2025-10"), slowdown("2026-05")

    assert (earlier * later) ** 0.5 == pytest.approx(PROFILE.gemm_slowdown)
    assert later < PROFILE.gemm_slowdown < earlier


def test_software_without_a_measured_gain_does_not_age():
    early, late = (
        software_of({"framework": "NeMo/MCore", "date": date}, []).profile for date in ("2024-08", "2025-06")
    )

    assert early == late
