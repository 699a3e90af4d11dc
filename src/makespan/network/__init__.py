"""Collectives over a tiered fabric: how long a message takes between the ranks of a group."""

from makespan.network.collectives import (
    all_gather_s,
    all_reduce_s,
    all_to_all_s,
    distinct_destinations,
    point_to_point_s,
    reduce_scatter_s,
    ring_all_reduce_s,
)
from makespan.network.placement import GroupPlacement, members_per_tier

__all__ = [
    "GroupPlacement",
    "all_gather_s",
    "all_reduce_s",
    "all_to_all_s",
    "distinct_destinations",
    "members_per_tier",
    "point_to_point_s",
    "reduce_scatter_s",
    "ring_all_reduce_s",
]
