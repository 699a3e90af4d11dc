"""How layers fall on pipeline stages.

Layers go to pp * vpp chunks of ceil(layers / chunks); where that leaves slots over, the last chunk gives up layers for the
head (the usual way to balance a pipeline: 126 layers plus embedding and head on 128 slots), and the chunk before it for the
multi-token-prediction layers. All sizes broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from makespan.rows import ByKind, Rows, filled, largest, maximum, minimum, where
from makespan.specs.model import ModelSpec
from makespan.step.arrays import FloatArray, IntArray, LayoutArrays
from makespan.workload import LayerKind, layer_kinds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StagePlan:
    """Layers of each kind (in the order of `layer_kinds`), arrays of shape (layouts,).

    first : the stage with the embedding.   body : the fullest stage without head or prediction layers, the slower kind
    first.   before_last : the one before the last, with the prediction layers where they have a place of their own.
    last : the stage with the head; with one stage, everything.
    mtp_apart : the prediction layers sit before the last stage. Shape (layouts,).
    """

    first: ByKind
    body: ByKind
    before_last: ByKind
    last: ByKind
    mtp_apart: FloatArray


def _is_mixed(model: ModelSpec) -> bool:
    """Whether kinds alternate through the depth of the model, so that every stage holds them in proportion."""
    return bool(model.pattern) or (model.moe is not None and model.moe.every > 1)


def _split(layers: Rows, kinds: tuple[LayerKind, ...], model: ModelSpec, slower: IntArray) -> ByKind:
    """Layers of a stage by kind. Alternating kinds: in proportion; else as many of the slower kind as there are.

    slower : index of the slower kind, by layout.
    """
    if _is_mixed(model):
        return tuple(layers * (kind.count / model.num_layers) for kind in kinds)
    if len(kinds) == 1:
        return (layers * 1.0,)
    return tuple(
        where(slower == place, minimum(layers, kind.count), maximum(layers - (model.num_layers - kind.count), 0)) * 1.0
        for place, kind in enumerate(kinds)
    )


def _same(values: IntArray) -> IntArray:
    """The number itself where all layouts have the same one: what follows from it then has fewer axes."""
    if not isinstance(values, np.ndarray) or values.size == 0:
        return values
    first = values.flat[0]
    same: Any = first.item() if (values == first).all() else values
    found: IntArray = same
    return found


def plan_stages(model: ModelSpec, layouts: LayoutArrays, *, busy_s: ByKind) -> StagePlan:
    """Cut the layers of a model over the stages of each layout.

    Parameters
    ----------
    busy_s : time of a layer of each kind: decides which kind counts for the fullest stage. Shapes (layouts,). [s]
    """
    kinds = layer_kinds(model)
    chunks = layouts.pp * layouts.vpp
    chunk = -(-model.num_layers // chunks)
    body = minimum(chunk * layouts.vpp, model.num_layers)
    spare = chunk * chunks - model.num_layers
    to_head = minimum(spare, chunk)
    last = maximum(body - to_head, 0)
    slower = _same(largest(busy_s))
    if len(kinds) > 1 and not _is_mixed(model):
        # Leading dense layers that fit into the first chunk are in no other: the fullest of those holds mixtures alone.
        slower = _same(where(kinds[0].count <= chunk, len(kinds) - 1, slower))
    body_split = _split(body, kinds, model, slower)
    first_split, last_split = body_split, _split(last, kinds, model, slower)
    if len(kinds) > 1 and not _is_mixed(model):
        # Leading dense layers all sit on the first stage's first chunk.
        leading = where(layouts.pp > 1, minimum(kinds[0].count, chunk), kinds[0].count) * 1.0
        first_split = (leading, body - leading)
    before = body_split
    apart = filled(layouts.shape, 0.0)
    if model.mtp_layers:
        separate = (layouts.pp > 2) & (spare > to_head)
        apart = where(separate, 1.0, 0.0)
        given = minimum(spare - to_head, chunk)
        fewer = _split(maximum(body - given, 0), kinds, model, slower)
        before = tuple(
            where(separate, less + kind.mtp, full) for kind, less, full in zip(kinds, fewer, body_split, strict=True)
        )
        last_split = tuple(own + (1.0 - apart) * kind.mtp for kind, own in zip(kinds, last_split, strict=True))
    return StagePlan(
        first=first_split,
        body=body_split,
        before_last=before,
        last=last_split,
        mtp_apart=apart,
    )


def bubble_s(slot_s: FloatArray, all_stages_s: FloatArray, *, vpp: IntArray) -> FloatArray:
    """Fill and drain of 1F1B, interleaved or not: what a pipeline takes beyond its slowest stage's work. [s]

    Parameters
    ----------
    slot_s : forward and backward of one micro-batch on the slowest stage.   all_stages_s : the same over all stages. [s]

    Notes
    -----
    One passage of a micro-batch through the other stages: (T - t) / vpp, (pp - 1) t / vpp with equal stages. Exact for
    1F1B with equal stages, and for unequal ones when n >= pp; `schedules.batch_s` has the other schedules and says how far
    either is from an event simulation.

    References
    ----------
    D. Narayanan et al., arXiv:2104.04473, section 2.2.
    """
    return maximum(all_stages_s - slot_s, 0.0) / vpp
