"""Where the ranks of a group sit: how many of them share each tier of the fabric.

Ranks are numbered innermost dimension first, as `RankOrder` says; expert parallelism re-cuts the ranks of one pipeline
stage, in the order of their numbers, with expert-tensor parallelism innermost. A group is a size and a stride: its members
are `stride` ranks of their stage apart. Accelerators are filled domain by domain in rank order.

| group | size | stride: tp-cp-dp-pp | tp-cp-pp-dp | tp-dp-cp-pp |
|---|---|---|---|---|
| tensor | tp | 1 | 1 | 1 |
| context | cp | tp | tp | tp * dp |
| data (with context, as gradients are summed over both) | cp * dp | tp | tp | tp |
| expert tensor | etp | 1 | 1 | 1 |
| expert | ep | etp | etp | etp |
| expert data | tp * cp * dp / (ep * etp) | etp * ep | etp * ep | etp * ep |
| pipeline | pp | tp * cp * dp | tp * cp | tp * cp * dp |

With the pipeline inside data parallelism the ranks of a stage are not neighbours: they come in blocks of tp * cp, one
block in pp (`stage_ranks_held`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makespan.rows import FloatLike, maximum, minimum, where
from makespan.specs.hardware import FabricSpec

IntLike = int | NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlacement:
    """A group on a fabric.

    size : ranks.   members : for each tier, ranks of the group that are reachable through it (non-decreasing, the last
    is `size`).
    """

    size: FloatLike
    members: tuple[FloatLike, ...]


def stage_ranks_held(domain: float, *, block: IntLike, spacing: IntLike) -> FloatLike:
    """How many ranks of one pipeline stage a domain holds that come in blocks, with those of other stages between. [-]

    Parameters
    ----------
    domain : accelerators. [-]
    block : neighbours of one stage. [-]
    spacing : a block of the stage in so many; 1 where all ranks of a stage are neighbours. [-]

    Notes
    -----
    Rank q of a stage is rank (q // block) * block * spacing + p * block + q % block of the cluster, p the stage. Domains are
    taken as aligned: one that holds several rounds of blocks, but not a whole number of them, counts the whole rounds.

    Examples
    --------
    Blocks of 8, four stages: a domain of 72 holds two whole rounds of 32 ranks, so 16 ranks of a stage.

    >>> float(stage_ranks_held(72, block=8, spacing=4)), float(stage_ranks_held(8, block=8, spacing=4))
    (16.0, 8.0)
    """
    rounds = np.floor(domain / (block * spacing))
    return where(spacing > 1, minimum(domain, maximum(block, block * rounds)), domain)


def members_per_tier(
    fabric: FabricSpec, size: IntLike, stride: IntLike, *, block: IntLike = 1, spacing: IntLike = 1
) -> GroupPlacement:
    """Spread a group of `size` ranks, `stride` apart, over the tiers of a fabric. Arguments broadcast.

    `block` and `spacing` tell how the ranks of one stage, which `stride` counts, are spread (`stage_ranks_held`); without
    them they are neighbours.

    Groups are taken as aligned: a domain that does not divide evenly holds the floor of its share, so a group of 16
    ranks eight apart in domains of 72 has 9 members in a domain.
    """
    count: FloatLike = size * 1.0
    together = isinstance(spacing, int) and spacing == 1
    members: list[FloatLike] = []
    inner: FloatLike = 1.0
    for tier in fabric.tiers[:-1]:
        if math.isinf(tier.size):
            reach = count
        else:
            held = tier.size if together else stage_ranks_held(tier.size, block=block, spacing=spacing)
            reach = minimum(count, maximum(np.floor(held / stride), 1.0))
        inner = maximum(reach, inner)
        members.append(inner)
    members.append(count)
    return GroupPlacement(size=count, members=tuple(members))
