"""Kernels alone: values by hand, what a term may never do, and that an entry without a term behaves as if it did not exist."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan import catalog
from makespan.specs.hardware import AcceleratorSpec, AttentionEfficiency, GemmEfficiency, KernelSpec
from makespan.step.kernels import (
    attention_forward_s,
    gemm_passes_s,
    head_factor,
    isolated_gemm_s,
    whole_waves,
    windowed_pairs,
)
from makespan.workload import Gemm

SIDES = st.integers(1, 40_000).map(float)


def chip(
    *,
    peak: float = 1e15,
    bandwidth: float = 1e30,
    multiprocessors: int = 100,
    attention: AttentionEfficiency | None = None,
    **gemm: float,
) -> AcceleratorSpec:
    """1 PFLOP/s, half of it reached, endless memory bandwidth, no overhead, unless said otherwise."""
    efficiency = GemmEfficiency(**{"flop_utilisation": 0.5, "hbm_utilisation": 0.5, "overhead_s": 0.0, **gemm})
    return AcceleratorSpec(
        name="chip",
        family="test",
        vendor="test",
        peak_flop_per_s={"bf16": peak, "fp8": 2 * peak},
        hbm_bytes=1e11,
        hbm_bytes_per_s=bandwidth,
        scale_up_domain_size=8,
        scale_up_bytes_per_s=1e11,
        scale_out_bytes_per_s=1e10,
        idle_w=100.0,
        tdp_w=700.0,
        kernels=KernelSpec(
            gemm={"bf16": efficiency, "fp8": efficiency},
            attention=attention or AttentionEfficiency(flop_utilisation=0.5),
            elementwise_hbm_utilisation=0.8,
            multiprocessors=multiprocessors,
            uneven_experts=1.1,
        ),
    )


def product_s(accelerator: AcceleratorSpec, m: float, n: float, k: float, **options: object) -> float:
    return float(isolated_gemm_s(m, n, k, accelerator=accelerator, arithmetic="bf16", **options))


def test_a_large_product_takes_its_flop_over_the_reached_rate():
    """2 * 8192^3 / (0.5 * 1e15)."""
    assert product_s(chip(), 8192, 8192, 8192) == pytest.approx(2 * 8192**3 / 5e14)


def test_small_k_costs_half_of_the_rate_at_half_k():
    assert product_s(chip(half_k=128.0), 4096, 4096, 128) == pytest.approx(2 * product_s(chip(), 4096, 4096, 128))


def test_a_product_without_flop_to_speak_of_takes_its_bytes():
    """1 x 8192 by 8192 x 8192: 2 bytes of weights each at half of 1 TB/s, and a little more."""
    accelerator = chip(bandwidth=1e12, overhead_s=3e-6)
    expected = 3e-6 + (2 * 8192 * (8192 + 1) + 2 * 8192) / 5e11

    assert product_s(accelerator, 1, 8192, 8192) == pytest.approx(expected, rel=1e-6)


def test_the_tile_that_does_not_fit_takes_a_wave_of_its_own():
    """100 multiprocessors: 101 tiles of 128 x 256 take two waves, at full weight as long as 200 tiles."""
    full = chip(wave_weight=1.0)

    assert product_s(full, 101 * 128, 256, 4096) == pytest.approx(product_s(full, 200 * 128, 256, 4096))
    assert product_s(full, 100 * 128, 256, 4096) == pytest.approx(product_s(chip(), 100 * 128, 256, 4096))


def test_a_weight_is_a_share():
    """A quarter of the time counts 200 tiles, the rest 101."""
    quarter = product_s(chip(wave_weight=0.25), 101 * 128, 256, 4096)

    assert quarter / product_s(chip(), 101 * 128, 256, 4096) == pytest.approx(0.75 + 0.25 * 200 / 101)


def test_grouped_products_count_tiles_of_every_expert():
    """50 experts of 129 rows have 100 tiles: one wave, twice the rows but one."""
    assert float(whole_waves(129.0, 256.0, 50.0, 100)) == 100 * 128 * 256


def test_no_multiprocessors_no_waves():
    stated, unstated = chip(wave_weight=0.0), chip(wave_weight=0.5, multiprocessors=0)

    assert product_s(unstated, 129, 300, 512) == product_s(stated, 129, 300, 512)


def test_few_rows_of_an_expert():
    """Half speed at half_m rows, in grouped products only."""
    plain, small = chip(), chip(half_m=64.0)

    assert product_s(small, 64, 256, 1024, grouped=True) == pytest.approx(2 * product_s(plain, 64, 256, 1024))
    assert product_s(small, 64, 256, 1024) == product_s(plain, 64, 256, 1024)


def test_three_passes_are_three_products():
    """Forward m n k; inputs m k n; weights n k m with 8 bytes of accumulator."""
    accelerator = catalog.accelerator("gb200").spec
    m, n, k = np.array([100.0, 8192.0, 333.0]), np.array([4096.0, 3072.0, 1000.0]), 7168.0
    forward, backward = gemm_passes_s(Gemm(name="x", m=m, n=n, k=k), accelerator=accelerator, arithmetic="fp8")
    use = {"accelerator": accelerator, "arithmetic": "fp8"}

    np.testing.assert_allclose(forward, isolated_gemm_s(m, n, k, **use), rtol=1e-14)
    weights = isolated_gemm_s(n, k, m, output_bytes=8.0, **use)
    np.testing.assert_allclose(backward, isolated_gemm_s(m, k, n, **use) + weights, rtol=1e-14)


def test_scalars_give_what_arrays_give():
    accelerator = catalog.accelerator("h100-sxm").spec
    one = gemm_passes_s(Gemm(name="x", m=8192.0, n=3584.0, k=8192.0), accelerator=accelerator, arithmetic="bf16")
    many = gemm_passes_s(
        Gemm(name="x", m=np.full(3, 8192.0), n=3584.0, k=8192.0), accelerator=accelerator, arithmetic="bf16"
    )

    np.testing.assert_array_equal([np.full(3, float(x)) for x in one], many)


def test_uneven_experts_cost_what_the_catalog_says():
    gemm = Gemm(name="x", m=500.0, n=1024.0, k=2048.0, copies=8.0, grouped=True)
    even = gemm_passes_s(gemm, accelerator=chip(), arithmetic="bf16")
    uneven = gemm_passes_s(gemm, accelerator=chip(), arithmetic="bf16", uneven=True)

    assert [float(u / e) for u, e in zip(uneven, even, strict=True)] == pytest.approx([1.1, 1.1])


def attention_s(accelerator: AcceleratorSpec, flop: float, **options: object) -> float:
    return float(
        attention_forward_s(flop, accelerator=accelerator, **{"seq_len": 8192.0, "head_dim": 128.0, **options})
    )


def test_causal_attention_from_queries_is_the_form_by_length():
    """2 b s^2 h d (1 + half_seq / s), whichever way it is written."""
    accelerator = chip(attention=AttentionEfficiency(flop_utilisation=0.5, half_seq=1024.0))
    flop, queries = 2.0 * 8192**2 * 32 * 128, 8192.0 * 32

    assert attention_s(accelerator, flop) == pytest.approx(flop / 5e14 * 1.125)
    assert attention_s(accelerator, flop, queries=queries) == pytest.approx(attention_s(accelerator, flop))


def test_a_ring_starts_every_query_once_a_step():
    accelerator = chip(attention=AttentionEfficiency(flop_utilisation=0.5, half_seq=1024.0))
    flop, queries = 2.0 * 8192**2 * 32 * 128 / 4, 8192.0 * 32 / 4

    by_steps = attention_s(accelerator, flop, queries=queries, steps=4.0)
    assert by_steps == pytest.approx(attention_s(accelerator, flop, seq_len=8192.0 / 4))


def test_few_blocks_pay_for_waves():
    """100 multiprocessors, 200 blocks of 128 queries: two waves; half a wave is lost."""
    accelerator = chip(attention=AttentionEfficiency(flop_utilisation=0.5, half_waves=0.5))

    assert attention_s(accelerator, 1e12, queries=200 * 128.0) == pytest.approx(1e12 / 5e14 * 1.25)


def test_exponentials_bound_narrow_heads():
    """At the head size where both take as long, the fourth-power blend is 2^(1/4); far above it nothing is lost."""
    efficiency = AttentionEfficiency(flop_utilisation=0.5, softmax_head_dim=128.0)

    assert head_factor(efficiency, 128.0) == 1.0
    assert head_factor(efficiency, 1e6) == pytest.approx(2**-0.25)
    assert head_factor(efficiency, 64.0) == pytest.approx((17 / 2) ** 0.25)


def test_a_window_is_a_tile_wider_and_never_more_than_causal():
    assert float(windowed_pairs(8192.0, 128.0)) == 256 * 8192 - 0.5 * 256**2
    assert float(windowed_pairs(1024.0, 1000.0)) == float(windowed_pairs(1024.0, 5000.0)) == 0.5 * 1024**2


@given(m=SIDES, n=SIDES, k=SIDES, more=st.floats(1.0, 8.0), grouped=st.booleans(), weight=st.floats(0, 1))
def test_a_bigger_product_never_takes_less_time(m, n, k, more, grouped, weight):
    accelerator = chip(bandwidth=3e12, wave_weight=weight, half_k=90.0, half_m=200.0, overhead_s=2e-6)
    time = product_s(accelerator, m, n, k, grouped=grouped) * (1 - 1e-12)

    assert product_s(accelerator, math.ceil(m * more), n, k, grouped=grouped) >= time
    assert product_s(accelerator, m, math.ceil(n * more), k, grouped=grouped) >= time
    assert product_s(accelerator, m, n, math.ceil(k * more), grouped=grouped) >= time
    assert product_s(accelerator, m, n, k, copies=more, grouped=grouped) >= time


@given(
    m=SIDES, n=SIDES, k=SIDES, faster=st.floats(1.0, 8.0), name=st.sampled_from(["a100-sxm-80gb", "h100-sxm", "gb300"])
)
def test_a_better_chip_never_slows_a_product(m, n, k, faster, name):
    accelerator = catalog.accelerator(name).spec
    compute = replace(accelerator, peak_flop_per_s={p: r * faster for p, r in accelerator.peak_flop_per_s.items()})
    memory = replace(accelerator, hbm_bytes_per_s=accelerator.hbm_bytes_per_s * faster)
    time = product_s(accelerator, m, n, k) * (1 + 1e-12)

    assert product_s(compute, m, n, k) <= time
    assert product_s(memory, m, n, k) <= time


@given(
    batch=st.integers(1, 64),
    length=st.integers(128, 200_000),
    more=st.integers(1, 4),
    name=st.sampled_from(["a100-sxm-80gb", "h100-sxm", "b200-sxm"]),
)
def test_longer_or_more_attention_never_takes_less_time(batch, length, more, name):
    accelerator = catalog.accelerator(name).spec

    def time(b: int, s: int) -> float:
        queries = float(b * s)
        return attention_s(accelerator, 2.0 * queries * s * 128, seq_len=float(s), queries=queries)

    assert time(batch * more, length) >= time(batch, length) * (1 - 1e-12)
    assert time(batch, length * more) >= time(batch, length) * (1 - 1e-12)


@given(m=SIDES, n=SIDES, k=SIDES, name=st.sampled_from(["a100-sxm-80gb", "h200-sxm", "b200-sxm", "b300-sxm", "mi300x"]))
def test_no_product_beats_the_two_roofs(m, n, k, name):
    accelerator = catalog.accelerator(name).spec
    roofs = (
        2 * m * n * k / accelerator.peak_flop_per_s["bf16"],
        2 * (m * k + n * k + m * n) / accelerator.hbm_bytes_per_s,
    )

    assert product_s(accelerator, m, n, k) >= max(roofs)


def test_terms_first_measured_in_2026_are_not_there_in_2024():
    """As of a day before the measurement the formula does without them, and collectives take the plain tier."""
    day = dt.date(2024, 7, 10)
    early, now = (
        catalog.accelerator("a100-sxm-80gb", day).spec.kernels,
        catalog.accelerator("a100-sxm-80gb").spec.kernels,
    )

    assert (early.gemm["bf16"].wave_weight, early.attention.half_waves, early.uneven_experts) == (0.0, 0.0, 1.0)
    assert now.gemm["bf16"].wave_weight > 0.1
    assert catalog.fabric("nvlink8-ib-rail", day).spec.tiers[0].collectives is None
    assert catalog.fabric("nvlink8-ib-rail").spec.tiers[0].collectives is not None
