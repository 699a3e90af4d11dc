"""Which layout: every legal one is given a time, a memory and a status by `step`; the best come out."""

from makespan.search.changes import helpful_changes
from makespan.search.engine import search

__all__ = ["helpful_changes", "search"]
