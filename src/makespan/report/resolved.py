"""Any spec as plain JSON data, for `resolved.json`: what the plan was made from, every rule applied."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from typing import Any


def plain_data(value: Any, leave_out: tuple[str, ...] = ()) -> Any:
    """A spec as dicts, lists, numbers and texts.

    Infinite numbers become the texts "inf" and "-inf" (JSON has none), enumerations their lower-case names, a
    distribution an object with the name of its kind. `leave_out` names fields of the outermost spec.

    >>> from makespan.uncertainty import Triangular
    >>> plain_data(Triangular(name="pue", low=1.2, mode=1.3, high=1.4))
    {'is': 'Triangular', 'name': 'pue', 'low': 1.2, 'mode': 1.3, 'high': 1.4}
    """
    if is_dataclass(value) and not isinstance(value, type):
        from makespan.uncertainty import Distribution

        head = {"is": type(value).__name__} if isinstance(value, Distribution) else {}
        return {
            **head,
            **{f.name: plain_data(getattr(value, f.name)) for f in fields(value) if f.name not in leave_out},
        }
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain_data(item) for item in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
