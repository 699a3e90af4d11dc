"""makespan: when will the model be trained?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from makespan.version import __version__

if TYPE_CHECKING:
    pass

_LAZY: dict[str, str] = {}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'makespan' has no attribute '{name}'")


__all__ = ["__version__"]
