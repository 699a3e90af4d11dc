"""One layout without an axis goes through the same formulas as many: the same digits, whatever the layout asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from makespan import catalog, rows
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate
from makespan.step.evaluate import RESULTS

NUM_LAYOUTS = 150


def cluster(accelerator: str, fabric: str) -> ClusterSpec:
    return ClusterSpec(
        name="test",
        accelerator=replace(catalog.accelerator(accelerator).spec, host_bytes_per_s=50e9),
        node=catalog.node("hgx-h100").spec,
        fabric=catalog.fabric(fabric).spec,
        num_accelerators=4096,
    )


def profile(name: str) -> FrameworkProfile:
    """Everything allowed, so that every formula is reached."""
    return replace(catalog.framework(name).spec, supports={})


def random_layouts(seed: int, *, mixture: bool) -> LayoutArrays:
    rng = np.random.default_rng(seed)

    def pick(*values: int) -> np.ndarray:
        return rng.choice(values, 40 * NUM_LAYOUTS)

    return LayoutArrays.build(
        tp=pick(1, 2, 4, 8),
        pp=pick(1, 2, 4, 8, 7),
        cp=pick(1, 1, 2, 4),
        dp=pick(1, 4, 8, 16, 12),
        ep=pick(1, 2, 8) if mixture else 1,
        etp=pick(1, 1, 2) if mixture else 1,
        vpp=pick(1, 1, 2, 3),
        micro_batch=pick(1, 2, 4),
        recompute=pick(0, 3, 64, 5, 56),
        sharding=pick(0, 1, 2, 3),
        sequence_parallel=pick(0, 1),
        schedule=pick(0, 0, 1, 2, 3),
        cp_kind=pick(0, 1),
        shard_size=pick(0, 0, 8),
        offload=pick(0, 0, 1, 2, 3),
        cuda_graphs=pick(0, 1, 2),
        ep_overlap=pick(0, 1),
    )


@pytest.mark.parametrize(
    ("name", "accelerator", "fabric", "framework", "precision"),
    [
        ("llama3.1-70b", "h100-sxm", "nvlink8-ib-rail", "nemo-2025", "bf16"),
        ("deepseek-v3", "b200-sxm", "nvlink8-b200-ib", "megatron-2025", "mxfp8"),
        ("nemotron-3-super-120b-a12b", "b200-sxm", "nvlink8-b200-ib", "megatron-2026", "nvfp4"),
        ("grok-2", "h100-sxm", "nvlink8-ib-rail", "megatron-2025", "fp8"),
    ],
)
def test_a_layout_alone_gives_the_digits_it_gives_among_others(name, accelerator, fabric, framework, precision):
    model = catalog.model(name).spec
    config = StepConfig(global_batch=768, seq_len=8192, precision=precision, load_imbalance=1.2)
    machine = (model, config, cluster(accelerator, fabric), profile(framework))
    drawn = random_layouts(11, mixture=model.moe is not None)
    status = evaluate(*machine, drawn).status
    runs = np.flatnonzero(np.isin(status, (0, 9)))[: NUM_LAYOUTS - 30]
    broken = np.flatnonzero(~np.isin(status, (0, 9)))[:30]
    layouts = drawn.take(np.concatenate([runs, broken]))
    together = evaluate(*machine, layouts, detail=True)

    assert len(runs) == NUM_LAYOUTS - 30
    for row in range(len(layouts)):
        alone = evaluate(*machine, layouts.take(slice(row, row + 1)), detail=True)
        assert alone.status.tolist() == [together.status[row]]
        for column in RESULTS:
            np.testing.assert_array_equal(getattr(alone, column), getattr(together, column)[row : row + 1], column)
        for column, values in alone.detail.items():
            np.testing.assert_array_equal(values, together.detail[column][row : row + 1], column)


def test_numbers_and_arrays_of_one_go_the_same_way():
    ones = {name: np.array([value]) for name, value in {"a": 2.5, "b": -1.0}.items()}

    assert rows.maximum(2.5, -1.0) == rows.maximum(ones["a"], ones["b"])[0] == 2.5
    assert rows.minimum(2.5, -1.0) == rows.minimum(ones["a"], -1.0)[0] == -1.0
    assert rows.where(2.5 > -1.0, 1, 2) == rows.where(ones["a"] > ones["b"], 1, 2)[0] == 1
    assert rows.power(2.5, 0.3) == rows.power(ones["a"], 0.3)[0]
    assert (rows.ceiling(2.5), rows.ceiling(ones["a"]).tolist()) == (3, [3])
    assert (rows.largest([1.0, 3.0, 3.0]), rows.largest([ones["a"], ones["b"]]).tolist()) == (1, [0])
    assert (rows.filled((), 2.0), rows.filled((2,), 2.0).tolist()) == (2.0, [2.0, 2.0])
    assert rows.some(False) is False
    assert rows.some(np.array([False, True])) is True
