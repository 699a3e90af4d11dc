"""Which results no other beats in every respect."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray


def pareto_front(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of the rows of `costs`, shape (points, 3), that no other row dominates; smaller is better.

    A row dominates another when it is nowhere larger and somewhere smaller. Of equal rows the first is kept. Ascending
    in the first column.

    Notes
    -----
    Rows are taken in lexical order, so a later one can never dominate an earlier one. Of the rows kept so far only a
    staircase matters: third column ascending, second descending. One binary search a row.

    Examples
    --------
    >>> pareto_front(np.array([[1.0, 5.0, 1.0], [2.0, 5.0, 1.0], [3.0, 1.0, 1.0], [1.0, 5.0, 1.0]])).tolist()
    [0, 2]
    """
    order = np.lexsort((costs[:, 2], costs[:, 1], costs[:, 0]))
    front: list[int] = []
    thirds: list[float] = []
    seconds: list[float] = []
    for index, second, third in zip(order.tolist(), costs[order, 1].tolist(), costs[order, 2].tolist(), strict=True):
        place = bisect_right(thirds, third)
        if place and seconds[place - 1] <= second:
            continue
        front.append(index)
        start = bisect_left(thirds, third)
        stop = start
        while stop < len(seconds) and seconds[stop] >= second:
            stop += 1
        thirds[start:stop] = [third]
        seconds[start:stop] = [second]
    return np.array(front, dtype=np.int64)
