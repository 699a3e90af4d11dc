"""Random numbers of the events, in blocks.

Block j of a stage holds the draws of the next `BLOCK` faults of every replicate, keyed by the stage's position, the
purpose and j. A replicate reads its row from left to right, one column a fault, and takes part in every block until it
has finished the stage; so its n-th column is the same whatever the other replicates do and however many there are (a
generator fills its rows in order). When capacity changes in the middle of a gap, what is left of that column is dropped
and the next one is read: gaps are exponential, and what is left of one is as long as a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from makespan.uncertainty import Streams

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

BLOCK = 128
LANES = 32
"""Arrays are cut to multiples of this many columns: a sum in vector registers then rounds the same way at any width."""


def whole_lanes(width: int) -> int:
    """The next multiple of `LANES`."""
    return -(-width // LANES) * LANES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventDraws:
    """What is left of a block for some replicates; shape (rows, columns) each, of which row i has `count[i]`.

    gap : until the fault, in mean gaps (exponential).   recovery : of that fault, in mean recoveries (gamma).
    luck : uniform; a fault waits for a node where it is below the odds of that. No columns where nothing waits.
    """

    gap: FloatArray
    recovery: FloatArray
    luck: FloatArray
    count: IntArray


@dataclass(slots=True, eq=False)
class EventBlock:
    """One block of a stage, for the first `num_rows` replicates.

    spread : coefficient of variation of a recovery; 0 makes each equal to its mean. [-]
    """

    streams: Streams
    key: str
    num_rows: int
    gap: FloatArray
    recovery: FloatArray
    luck: FloatArray | None = None

    @classmethod
    def drawn(cls, streams: Streams, stage: int, block: int, *, num_rows: int, spread: float) -> EventBlock:
        key, shape = f"campaign/{stage}/{block}", (num_rows, BLOCK)
        gap = streams.generator(f"{key}/gap").standard_exponential(shape)
        recovery = np.ones(shape)
        if spread > 0:
            gamma = streams.generator(f"{key}/recovery").standard_gamma(spread**-2, shape, dtype=np.float32)
            recovery = gamma.astype(np.float64) * spread**2
        return cls(streams, key, num_rows, gap, recovery)

    def take(self, rows: IntArray, cursor: IntArray, *, waits: bool) -> EventDraws:
        """The columns from each row's cursor on, moved to the left; `luck` is drawn when it is first wanted."""
        if waits and self.luck is None:
            self.luck = self.streams.generator(f"{self.key}/luck").random((self.num_rows, BLOCK))
        count = BLOCK - cursor
        luck = self.luck if waits and self.luck is not None else np.empty((self.num_rows, 0))
        if not np.any(cursor):
            return EventDraws(gap=self.gap[rows], recovery=self.recovery[rows], luck=luck[rows], count=count)
        columns = cursor[:, None] + np.arange(whole_lanes(int(count.max())))[None, :]
        columns = np.minimum(columns, BLOCK - 1)
        at = rows[:, None]
        return EventDraws(
            gap=self.gap[at, columns],
            recovery=self.recovery[at, columns],
            luck=luck[at, columns] if luck.shape[1] else luck[rows],
            count=count,
        )
