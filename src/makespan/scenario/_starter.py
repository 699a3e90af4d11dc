"""The commented scenario that `makespan init` writes."""

from __future__ import annotations

from importlib.resources import files


def starter() -> str:
    """Text of a scenario that runs as it stands, with a comment for everything that can be changed."""
    return (files("makespan.scenario") / "starter.yaml").read_text(encoding="utf-8")
