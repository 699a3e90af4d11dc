"""Products, casts and tensor-parallel traffic of a block: values by hand on an invented machine without latencies."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from makespan import catalog
from makespan.scenario import parse_cluster
from makespan.specs.hardware import FabricSpec, FabricTier
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays
from makespan.step.attention import tensor_parallel_traffic
from makespan.step.blocks import products
from makespan.step.kernels import CAST_BYTES, CAST_PASSES, stream_bytes_per_s
from makespan.workload import Gemm

CHIP = catalog.accelerator("h100-sxm").spec
PROFILE = replace(catalog.framework("nemo-2025").spec, tp_exposed=0.5, cast_slowdown=1.0)
MODEL = catalog.model("llama3.1-8b").spec
FABRIC = FabricSpec(
    name="ideal",
    tiers=(FabricTier(name="ideal", size=math.inf, bytes_per_s=400e9, latency_s=0.0, efficiency=1.0),),
)
CONFIG = StepConfig(global_batch=8, seq_len=4096, precision="fp8")
UP = Gemm(name="ffn_up", m=4096.0, n=7168.0, k=4096.0)
DOWN = Gemm(name="ffn_down", m=4096.0, n=4096.0, k=3584.0)


def casts(gemm: Gemm, split: float) -> tuple[float, float]:
    _, work = products((gemm,), CONFIG, CHIP, PROFILE, split=split)
    return float(work.forward_s), float(work.backward_s)


def test_what_is_gathered_is_cast_before_by_each_rank_its_part():
    """Up: the input is gathered. Down: the gradient of the output is. The other operands are each rank's own."""
    element = CAST_BYTES * CAST_PASSES["fp8"] / stream_bytes_per_s(CHIP)

    assert casts(UP, 1.0) == pytest.approx((4096 * 4096 * element, 4096 * 7168 * element))
    assert casts(UP, 4.0) == pytest.approx((4096 * 4096 * element / 4, 4096 * 7168 * element))
    assert casts(DOWN, 4.0) == pytest.approx((4096 * 3584 * element, 4096 * 4096 * element / 4))


def test_slowdown_of_a_precision_slows_its_products_alone():
    slower = replace(CHIP, kernels=replace(CHIP.kernels, training_slowdown={"fp8": 1.1}))
    head = replace(UP, quantised=False)

    def forward(gemm, chip, precision):
        work, *_ = products((gemm,), replace(CONFIG, precision=precision), chip, PROFILE)
        return float(work.forward_s)

    assert forward(UP, slower, "fp8") == pytest.approx(1.1 * forward(UP, CHIP, "fp8"))
    assert forward(UP, slower, "bf16") == forward(UP, CHIP, "bf16")
    assert forward(head, slower, "fp8") == forward(head, CHIP, "fp8")
    assert forward(replace(UP, grouped=True), slower, "fp8") == forward(replace(UP, grouped=True), CHIP, "fp8")


@pytest.mark.parametrize(
    ("precision", "sequence_parallel", "forward", "backward"),
    [("bf16", True, 4.0, 6.0), ("fp8", True, 3.0, 4.0), ("fp8", False, 4.0, 4.0)],
)
def test_gathers_travel_as_the_product_reads_them_and_sums_in_16_bits(precision, sequence_parallel, forward, backward):
    """Bytes an element of the hidden vectors: gather and reduce; in the backward the input is gathered once more."""
    cluster = replace(parse_cluster("8xh100-sxm"), fabric=FABRIC)
    keys = LayoutArrays.build(tp=4, sequence_parallel=int(sequence_parallel))
    tokens = np.array([4096.0])
    traffic = tensor_parallel_traffic(MODEL, cluster, PROFILE, keys, tokens, precision=precision)
    byte_s = 4096 * MODEL.hidden * 0.75 / 400e9

    assert float(traffic.forward_s[0]) == pytest.approx(forward * byte_s)
    assert float(traffic.backward_s[0]) == pytest.approx(backward * byte_s)
