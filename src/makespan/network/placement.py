"""Where the ranks of a group sit: how many of them share each tier of the fabric.

Ranks are numbered with tensor parallelism innermost, then context, then data, then pipeline outermost; expert
parallelism re-cuts the tensor, context and data ranks with expert-tensor parallelism innermost. A group is a size and a
stride: its members are `stride` ranks apart. Accelerators are filled domain by domain in rank order.

| group | stride | size |
|---|---|---|
| tensor | 1 | tp |
| context | tp | cp |
| data (with context, as gradients are summed over both) | tp | cp * dp |
| expert tensor | 1 | etp |
| expert | etp | ep |
| expert data | etp * ep | tp * cp * dp / (ep * etp) |
| pipeline | tp * cp * dp | pp |
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makespan.rows import FloatLike, maximum, minimum
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


def members_per_tier(fabric: FabricSpec, size: IntLike, stride: IntLike) -> GroupPlacement:
    """Spread a group of `size` ranks, `stride` apart, over the tiers of a fabric. Arguments broadcast.

    Groups are taken as aligned: a domain that does not divide evenly holds the floor of its share, so a group of 16
    ranks eight apart in domains of 72 has 9 members in a domain.
    """
    count: FloatLike = size * 1.0
    members: list[FloatLike] = []
    inner: FloatLike = 1.0
    for tier in fabric.tiers[:-1]:
        reach = count if math.isinf(tier.size) else minimum(count, maximum(np.floor(tier.size / stride), 1.0))
        inner = maximum(reach, inner)
        members.append(inner)
    members.append(count)
    return GroupPlacement(size=count, members=tuple(members))
