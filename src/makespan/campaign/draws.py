"""Random numbers of the events, in blocks.

Block j of a stage holds the draws of the next `BLOCK` faults of every replicate, keyed by the stage's position, the
purpose and j. A replicate takes part in every block of a stage until it has finished it, so its j-th block is block j
whatever the other replicates do; a generator fills its rows in order, so a row does not depend on how many follow.
Draws that are left over when capacity changes in the middle of a block are dropped: gaps are exponential, and what is
left of one is as long as a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from makespan.uncertainty import Streams

    FloatArray = NDArray[np.float64]

BLOCK = 128


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventDraws:
    """Shape (rows, BLOCK) each.

    gap : until the fault, in mean gaps (exponential).   recovery : of that fault, in mean recoveries (gamma).
    luck : uniform; a fault waits for a node where it is below the odds of that.
    """

    gap: FloatArray
    recovery: FloatArray
    luck: FloatArray


def event_draws(streams: Streams, stage: int, block: int, *, num_rows: int, spread: float, waits: bool) -> EventDraws:
    """Draws of one block for the first `num_rows` replicates.

    Parameters
    ----------
    spread : coefficient of variation of a recovery; 0 makes each equal to its mean. [-]
    waits : whether `luck` is wanted; its array is empty otherwise.
    """
    shape = (num_rows, BLOCK)
    key = f"campaign/{stage}/{block}"
    gap = streams.generator(f"{key}/gap").standard_exponential(shape)
    recovery = np.ones(shape)
    if spread > 0:
        recovery = streams.generator(f"{key}/recovery").standard_gamma(spread**-2, shape) * spread**2
    luck = streams.generator(f"{key}/luck").random(shape) if waits else np.empty((num_rows, 0))
    return EventDraws(gap=gap, recovery=recovery, luck=luck)
