"""Which results no other beats in every respect."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pareto_front(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of the rows of `costs`, shape (points, objectives), that no other row dominates; smaller is better.

    A row dominates another when it is nowhere larger and somewhere smaller. Of equal rows the first is kept. Ascending
    in the first objective.

    Examples
    --------
    >>> pareto_front(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 1.0], [1.0, 5.0]])).tolist()
    [0, 2]
    """
    order = np.lexsort(tuple(costs[:, column] for column in reversed(range(costs.shape[1]))))
    front: list[int] = []
    kept = np.empty((0, costs.shape[1]))
    for index in order:
        row = costs[index]
        # Rows come in lexical order, so no later one can dominate a kept one.
        if len(front) and np.any(np.all(kept <= row, axis=1)):
            continue
        front.append(int(index))
        kept = np.vstack([kept, row])
    return np.array(front, dtype=np.int64)
