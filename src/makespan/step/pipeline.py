"""How layers fall on pipeline stages, and how long a pipelined batch takes.

Layers go to pp * vpp chunks of ceil(layers / chunks); where that leaves slots over, the last chunk gives up layers for the
head (the usual way to balance a pipeline: 126 layers plus embedding and head on 128 slots). All sizes broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from makespan.specs.model import ModelSpec
from makespan.step.arrays import BoolArray, FloatArray, IntArray, LayoutArrays
from makespan.workload import layer_counts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StagePlan:
    """Layers by stage. Shapes (layouts,).

    body_dense, body_moe : layers of the fullest stage that holds no head, the slower kind first.
    last_dense, last_moe : layers of the last stage, which holds the head, and the multi-token-prediction layers.
    chunk_layers : layers of one model chunk (a stage has vpp of them).
    """

    body_dense: IntArray
    body_moe: IntArray
    last_dense: IntArray
    last_moe: IntArray
    chunk_layers: IntArray


def plan_stages(model: ModelSpec, layouts: LayoutArrays, *, moe_is_slower: BoolArray) -> StagePlan:
    """Cut the layers of a model over the stages of each layout."""
    counts = layer_counts(model)
    chunks = layouts.pp * layouts.vpp
    chunk = -(-model.num_layers // chunks)
    body = np.minimum(chunk * layouts.vpp, model.num_layers)
    spare = chunk * chunks - model.num_layers
    last = np.maximum(body - np.minimum(spare, chunk), 0)

    def split(layers: IntArray) -> tuple[IntArray, IntArray]:
        moe = np.where(moe_is_slower, np.minimum(layers, counts.moe), np.maximum(layers - counts.dense, 0))
        return layers - moe, moe

    body_dense, body_moe = split(body)
    last_dense, last_moe = split(last)
    if model.mtp_layers:
        if counts.moe:
            last_moe = last_moe + model.mtp_layers
        else:
            last_dense = last_dense + model.mtp_layers
    return StagePlan(
        body_dense=body_dense, body_moe=body_moe, last_dense=last_dense, last_moe=last_moe, chunk_layers=chunk
    )


def pipeline_s(
    slot_s: FloatArray, all_stages_s: FloatArray, *, num_micro_batches: IntArray, vpp: IntArray
) -> FloatArray:
    """Time of a batch under 1F1B or its interleaved form. [s]

    Parameters
    ----------
    slot_s : forward and backward of one micro-batch on the slowest stage. [s]
    all_stages_s : the same summed over all stages. [s]

    Notes
    -----
    n slots of the slowest stage, and one passage of a micro-batch through the other stages to fill and drain:
    n t + (T - t) / vpp. With equal stages that is (n + (pp-1)/vpp) t. Exact for 1F1B with equal stages (checked against an
    event simulation) and for unequal ones when n >= pp; interleaving assumes n is a multiple of pp.

    References
    ----------
    D. Narayanan et al., arXiv:2104.04473, section 2.2.
    """
    return num_micro_batches * slot_s + bubble_s(slot_s, all_stages_s, vpp=vpp)


def bubble_s(slot_s: FloatArray, all_stages_s: FloatArray, *, vpp: IntArray) -> FloatArray:
    """Fill and drain: what a pipeline takes beyond its slowest stage's work. [s]"""
    return np.maximum(all_stages_s - slot_s, 0.0) / vpp


def micro_batches_in_flight(layouts: LayoutArrays, num_micro_batches: IntArray) -> FloatArray:
    """Micro-batches whose activations the first stage holds at the peak, in units of a whole stage. [-]

    pp under 1F1B; under interleaving pp * vpp + pp - 1 chunks of vpp in a stage (up to twice that where pp does not divide
    the micro-batches); never more than there are.

    References
    ----------
    V. Korthikanti et al., arXiv:2205.05198, section 4.2.3.
    """
    # A group that is no multiple of pp deep (see legality): at most 2 pp - 1 micro-batches run a chunk before the next.
    uneven = num_micro_batches % layouts.pp != 0
    group = np.where(uneven, np.minimum(2 * layouts.pp - 1, num_micro_batches), layouts.pp)
    chunks = np.where(layouts.vpp > 1, group * layouts.vpp + layouts.pp - 1, layouts.pp)
    return np.minimum(chunks / layouts.vpp, num_micro_batches)
