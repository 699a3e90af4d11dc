"""Names by which people call training software: each framework profile lists those it answers to under `aliases`."""

from __future__ import annotations

import datetime as dt
import re

from makespan.catalog import files


def _plain(word: str) -> str:
    return re.sub(r"[\s_]+", "-", word.strip().lower())


def aliases() -> list[str]:
    """Every alias of any framework profile, sorted."""
    found = {str(word) for name in files.names("framework") for word in _listed(name)}
    return sorted(found)


def frameworks_called(word: str, as_of: dt.date | None = None) -> list[str]:
    """Profiles known by `as_of` that answer to a word, newest first: by name or alias, whatever its case.

    Examples
    --------
    >>> frameworks_called("Megatron-LM", dt.date(2024, 6, 1)), frameworks_called("TorchTitan")
    (['megatron-2024', 'megatron-2022'], ['torch-fsdp2'])
    """
    asked = _plain(word)
    dated = [
        (files.raw_entry("framework", name)["known_on"], name)
        for name in files.names("framework")
        if asked == name or asked in _listed(name)
    ]
    return [name for day, name in sorted(dated, reverse=True) if as_of is None or day <= as_of]


def _listed(name: str) -> list[str]:
    return list(files.raw_entry("framework", name).get("aliases", []))
