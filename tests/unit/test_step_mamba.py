"""Bytes, FLOP and time of the Mamba-2 kernels, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan import catalog
from makespan.specs.model import MambaSpec, ModelSpec
from makespan.step.mamba import (
    mamba_chunk_flop,
    mamba_context_bytes,
    mamba_saved_elements,
    mamba_saved_operands,
    mamba_scan,
    mamba_scan_bytes,
)

NANO = ModelSpec(
    name="Mamba layers of Nemotron 3 Nano",
    num_layers=1,
    hidden=2688,
    num_heads=32,
    num_kv_heads=2,
    head_dim=128,
    ffn_hidden=0,
    vocab=131072,
    pattern="M",
    mamba=MambaSpec(num_heads=64, head_dim=64, state=128, groups=8),
)
H100 = catalog.accelerator("h100-sxm").spec


def test_bytes_of_a_token_by_hand():
    """4096 channels, 1024 in B and C each, 1024 scores, 64 heads; the state of a chunk of 128 spread over its tokens."""
    forward, backward = mamba_scan_bytes(NANO, tokens=1.0, tp=1)

    assert forward == (18 + 12) * 4096 + 16 * 1024 + 8 * 1024 + 26 * 64
    assert backward == (48 + 34) * 4096 + 58 * 1024 + 26 * 1024 + 74 * 64


def test_a_larger_state_costs_more_for_the_states_and_the_maps_only():
    forward, _ = mamba_scan_bytes(NANO, tokens=1.0, tp=1)
    twice, _ = mamba_scan_bytes(replace(NANO, mamba=replace(NANO.mamba, state=256)), tokens=1.0, tp=1)

    assert twice - forward == 12 * 4096 + 16 * 1024


def test_several_sequences_are_copied_to_batch_first_and_back():
    one = mamba_scan_bytes(NANO, tokens=8192.0, tp=1, micro_batch=1)
    two = mamba_scan_bytes(NANO, tokens=8192.0, tp=1, micro_batch=2)

    for before, after in zip(one, two, strict=True):
        assert after - before == 8192 * 4 * (2 * 4096 + 2 * 1024 + 64 + 4096)


def test_chunk_flop_by_hand():
    forward, backward = mamba_chunk_flop(NANO, tokens=1.0, tp=1)
    scores, inside, states = 2 * 128 * 8 * 128, 128 * 4096, 2 * 4096 * 128

    assert forward == scores + inside + 2 * states
    assert backward == 3 * scores + 2 * inside + 5 * states


@given(tp=st.sampled_from([1, 2, 4, 8]), cp=st.sampled_from([1, 2, 4]), tokens=st.integers(128, 1 << 16))
def test_ranks_share_the_scan(tp, cp, tokens):
    """Cut by heads, tensor ranks move together what one would; context ranks too while each has a group of its own."""
    whole = mamba_scan_bytes(NANO, tokens=float(tokens), tp=1)
    rank = mamba_scan_bytes(NANO, tokens=tokens / cp, tp=tp, cp=cp)

    for one, part in zip(whole, rank, strict=True):
        together = part * tp * cp
        assert together == pytest.approx(one) if tp * cp <= 8 else together > one


@given(
    bandwidth=st.floats(1.0, 4.0),
    peak=st.floats(1.0, 4.0),
    slowdown=st.floats(1.0, 5.0),
    tokens=st.integers(1024, 1 << 16),
)
def test_faster_machines_never_slow_the_scan(bandwidth, peak, slowdown, tokens):
    better = replace(
        H100,
        hbm_bytes_per_s=H100.hbm_bytes_per_s * bandwidth,
        peak_flop_per_s={**H100.peak_flop_per_s, "bf16": H100.peak_flop_per_s["bf16"] * peak},
    )
    here = mamba_scan(NANO, tokens=float(tokens), tp=1, accelerator=H100, slowdown=slowdown)
    there = mamba_scan(NANO, tokens=float(tokens), tp=1, accelerator=better, slowdown=slowdown)
    bound = mamba_scan(NANO, tokens=float(tokens), tp=1, accelerator=H100)

    for ours, theirs, least in zip(here, there, bound, strict=True):
        assert theirs <= ours * (1 + 1e-12)
        assert ours == pytest.approx(slowdown * least)


def test_the_scan_is_bound_by_memory():
    """On an H100 the bytes take more than twice as long as the FLOP, so the blend is within 1 % of the bytes' time."""
    forward, backward = mamba_scan(NANO, tokens=8192.0, tp=1, accelerator=H100)
    stream = H100.hbm_bytes_per_s * H100.kernels.elementwise_hbm_utilisation
    moved = mamba_scan_bytes(NANO, tokens=8192.0, tp=1)

    assert forward == pytest.approx(moved[0] / stream, rel=0.01)
    assert backward == pytest.approx(moved[1] / stream, rel=0.01)


def test_context_ranks_exchange_projections_and_outputs():
    """z, x, outputs (4096 each), B and C (1024 each) and 64 steps in 16 bits; nothing where there is one rank."""
    tp, cp = np.array([1, 2, 2, 4]), np.array([1, 2, 8, 4])
    sent = mamba_context_bytes(NANO, tokens=1000.0, tp=tp, cp=cp)

    assert sent[0] == 0
    assert sent[1] == 2 * 1000 * (3 * 4096 + 64 + 2 * 1024) / 2
    # Four groups on a tensor rank, eight context ranks: each group goes twice.
    assert sent[2] == 2 * 1000 * ((3 * 4096 + 64) / 2 + 2 * 8 * 128)
    assert sent[3] == 2 * 1000 * ((3 * 4096 + 64) / 4 + 2 * 4 * 128)


def test_saved_elements():
    """The projection (z, x, B, C, steps), the output before and after the gate; and the second product's input."""
    assert mamba_saved_elements(NANO, 1) == 2 * 4096 + 2 * 1024 + 64 + 2 * 4096
    assert mamba_saved_elements(NANO, 4) == (4 * 4096 + 2 * 1024 + 64) / 4
    assert mamba_saved_operands(NANO, 2) == 4096 / 2
