"""Which layouts are looked at: the candidate sizes of each dimension, and their product as arrays.

The product is taken dimension by dimension with NumPy; `reference.py` walks the same space in plain loops and is the
oracle. Whether a layout is legal and fits is not decided here: `step` gives every layout its status, in one rule order,
so that a search can say how many layouts each rule rejects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makespan.specs.hardware import ClusterSpec
from makespan.specs.layout import Recompute, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.search import SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step.legality import END_SLOTS

IntArray = NDArray[np.int64]

COLUMNS = ("tp", "cp", "pp", "vpp", "ep", "micro_batch", "recompute", "sharding", "dp")

LARGEST_MICRO_BATCH = 16
LARGEST_THIN_MICRO_BATCH = 4
MOST_THIN_CHUNKS = 3
SHORTEST_SEQUENCE_PER_CP_RANK = 1024
"""Context parallelism below this many tokens a rank is not looked at: its ring is bound by latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Ascending candidate values of every dimension but dp, which follows from the others."""

    tp: tuple[int, ...]
    cp: tuple[int, ...]
    pp: tuple[int, ...]
    vpp: tuple[int, ...]
    ep: tuple[int, ...]
    micro_batch: tuple[int, ...]
    recompute: tuple[int, ...]
    sharding: tuple[int, ...]


def divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending.

    Examples
    --------
    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))


def powers_of_two(largest: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to `largest`."""
    return tuple(1 << k for k in range(max(largest, 1).bit_length()))


def fewest_parts(whole: int, most: int) -> tuple[int, ...]:
    """The smallest number of parts for each size of the largest part, up to `most` parts.

    Splitting 10 layers over 6, 7, 8 or 9 stages leaves 2 on the longest, as 5 stages do: only 5 is kept. More stages
    than that make the pipeline longer and no stage shorter, so they never run faster.

    Examples
    --------
    >>> fewest_parts(10, 10)
    (1, 2, 3, 4, 5, 10)
    """
    kept, last = [], math.inf
    for parts in range(1, min(whole, most) + 1):
        largest = -(-whole // parts)
        if largest < last:
            kept.append(parts)
            last = largest
    return tuple(kept)


def candidates(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, constraints: SearchConstraints
) -> Candidates:
    """Candidate values of every dimension under the constraints; a fixed dimension has one.

    tp : powers of two and divisors of the heads, within the scale-up domain.
    cp : powers of two that leave each rank `SHORTEST_SEQUENCE_PER_CP_RANK` tokens.
    Without `thorough`: powers of two for tp, fewer micro-batch sizes, ZeRO-1 or -3; and see
    `pipelines`.

    pp : `fewest_parts` of the layers.   vpp : divisors of the longest stage's layers are enough; see `product`.
    ep : divisors of the experts.   micro_batch : powers of two.
    """
    size = cluster.num_accelerators
    domain = min(cluster.accelerator.scale_up_domain_size, size)
    tp = {t for t in (*powers_of_two(domain), *divisors(model.num_heads)) if t <= domain}
    cp = [c for c in powers_of_two(size) if c == 1 or config.seq_len // c >= SHORTEST_SEQUENCE_PER_CP_RANK]
    pp = fewest_parts(model.num_layers, size)
    experts = model.moe.num_experts if model.moe else 1
    micro_batch = powers_of_two(min(config.global_batch, LARGEST_MICRO_BATCH))
    recompute, sharding = [Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL], list(Sharding)
    if not constraints.thorough:
        tp &= set(powers_of_two(domain))
        micro_batch = powers_of_two(min(config.global_batch, LARGEST_THIN_MICRO_BATCH))
        sharding = [Sharding.ZERO1, Sharding.ZERO3]
    return Candidates(
        tp=_fixed(constraints.tp, sorted(tp)),
        cp=_fixed(constraints.cp, cp),
        pp=_fixed(constraints.pp, pp),
        vpp=_fixed(constraints.vpp, range(1, model.num_layers + 1)),
        ep=_fixed(constraints.ep, divisors(experts)),
        micro_batch=_fixed(constraints.micro_batch, micro_batch),
        recompute=_fixed(
            None if constraints.recompute is None else int(Recompute.parse(constraints.recompute)), recompute
        ),
        sharding=_fixed(
            None if constraints.sharding is None else int(Sharding[constraints.sharding.upper()]), sharding
        ),
    )


def _fixed(value: int | None, otherwise: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(v) for v in otherwise) if value is None else (value,)


def pipelines(choice: Candidates, num_layers: int, *, thorough: bool) -> list[tuple[int, int]]:
    """(pp, vpp) pairs: for each pp, the fewest chunks for each size of the longest chunk; all of them if vpp is fixed."""
    pairs = []
    for pp in choice.pp:
        per_stage = -(-num_layers // pp)
        if len(choice.vpp) == 1:
            pairs.append((pp, choice.vpp[0]))
        elif pp == 1:
            pairs.append((1, 1))
        else:
            # Embedding and head may each take a layer's place, no more (see `step.legality`).
            chunks = tuple(v for v in fewest_parts(per_stage, per_stage) if v == 1 or pp * v <= num_layers + END_SLOTS)
            if not thorough and len(chunks) > MOST_THIN_CHUNKS:
                # No interleaving, the finest, and one between: the step time moves smoothly with vpp.
                chunks = (chunks[0], chunks[len(chunks) // 2], chunks[-1])
            pairs += [(pp, vpp) for vpp in chunks]
    return pairs


def product(
    model: ModelSpec, config: StepConfig, cluster: ClusterSpec, constraints: SearchConstraints
) -> dict[str, IntArray]:
    """Every layout of the space, a column a dimension (`COLUMNS`), each of shape (layouts,).

    dp follows: `widest` uses as many accelerators as whole replicas allow (a multiple of what ep needs); `leanest` is
    the smallest dp that needs no more micro-batches, so it runs as fast and leaves accelerators over as spares. Layouts
    that would leave more than 1 - `min_used_fraction` of the cluster idle are dropped, unless the batch has no work for
    more, or dp is fixed.
    """
    choice = candidates(model, config, cluster, constraints)
    pairs = np.array(pipelines(choice, model.num_layers, thorough=constraints.thorough), dtype=np.int64)
    axes = [choice.tp, choice.cp, range(len(pairs)), choice.ep, choice.micro_batch, choice.recompute, choice.sharding]
    grid = np.meshgrid(*(np.asarray(axis, dtype=np.int64) for axis in axes), indexing="ij")
    tp, cp, pair, ep, micro_batch, recompute, sharding = (axis.ravel() for axis in grid)
    pp, vpp = pairs[pair, 0], pairs[pair, 1]
    per_replica = tp * cp * pp
    widest, leanest = dp_choices(per_replica, cp, ep, micro_batch, config.global_batch, cluster.num_accelerators)
    if constraints.dp is not None:
        widest = leanest = np.full_like(tp, constraints.dp)

    def is_kept(dp: IntArray) -> NDArray[np.bool_]:
        no_more_work = dp * micro_batch >= config.global_batch
        enough = (per_replica * dp >= constraints.min_used_fraction * cluster.num_accelerators) | no_more_work
        return np.asarray((dp >= 1) & (enough | (constraints.dp is not None)))

    first, second = np.flatnonzero(is_kept(widest)), np.flatnonzero((leanest != widest) & is_kept(leanest))
    rows = np.concatenate([first, second])
    columns = (tp, cp, pp, vpp, ep, micro_batch, recompute, sharding)
    kept = {name: column[rows] for name, column in zip(COLUMNS, columns, strict=False)}
    return kept | {"dp": np.concatenate([widest[first], leanest[second]])}


def dp_choices(
    per_replica: IntArray, cp: IntArray, ep: IntArray, micro_batch: IntArray, global_batch: int, size: int
) -> tuple[IntArray, IntArray]:
    """The widest and the leanest dp (see `product`); 0 where not one replica fits. Arrays of one shape."""
    unit = ep // np.gcd(ep, cp)
    batches = _ceil(global_batch, micro_batch)
    # A replica beyond the batch would have nothing to do.
    widest = np.minimum(size // per_replica, np.maximum(batches // unit, 1) * unit) // unit * unit
    rounds = _ceil(batches, np.maximum(widest, 1))
    leanest = np.minimum(_ceil(_ceil(batches, rounds), unit) * unit, widest)
    return np.maximum(widest, 0), np.where(widest > 0, leanest, 0)


def _ceil(a: IntArray | int, b: IntArray) -> IntArray:
    return -(-a // b)
