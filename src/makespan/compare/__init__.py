"""Plans side by side: what a change would do, on the same random draws."""

from makespan.compare.changes import changes

__all__ = ["changes"]
