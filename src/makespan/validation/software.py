"""Which framework profile predicts a row, and how that software reads its words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from makespan import catalog
from makespan.specs.hardware import FrameworkProfile
from makespan.specs.layout import Recompute, Sharding
from makespan.step.features import everything
from makespan.validation.cells import NotExpressible, text_of
from makespan.validation.files import Row, mapping

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_RELEASE = re.compile(r"\b(?:v|r|release )?(2[2-9])\.(0[1-9]|1[0-2])\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """The rule of `mapping.yaml` that a row's framework falls under, resolved.

    kind : `megatron`, `fsdp` or `jax`.   interleaves : a blank `vpp` may mean one layer a chunk.
    shards : blank `tp` and `pp` mean 1.   selective : what the word alone means in `recompute`.
    sharding, recompute, recompute_latent : for blank cells; the last one for models with latent attention.
    recompute_to_fit : for blank cells, where the estimate without it is far beyond the memory; None for no such rule.
    switches : names of what the row switched on in the profile.
    variants : names of what else tells its configuration from another's.
    """

    profile: FrameworkProfile
    kind: str
    interleaves: bool
    shards: bool
    selective: Recompute
    sharding: Sharding
    recompute: Recompute
    recompute_latent: Recompute
    recompute_to_fit: Recompute | None
    switches: tuple[str, ...]
    variants: tuple[str, ...]


def date_of(row: Row) -> str:
    """ISO date of a row, as far as it is known: of its cell, or of the release that its software or source names.

    Examples
    --------
    >>> date_of({"date": "2026-04"}), date_of({"date": "Aug 2025"}), date_of({"framework": "Megatron-Bridge 26.02"})
    ('2026-04', '2025-08', '2026-02')
    """
    text = text_of(row, "date")
    if found := re.search(r"\b(20\d\d)[-/.](0[1-9]|1[0-2])(?:[-/.]([0-3]\d))?", text):
        return "-".join(part for part in found.groups() if part)
    if found := re.search(r"\b(20\d\d)\b", text):
        month = next((n + 1 for n, name in enumerate(_MONTHS) if name in text), 6)
        return f"{found[1]}-{month:02d}"
    for column in ("framework", "source"):
        if found := _RELEASE.search(row.get(column) or ""):
            return f"20{found[1]}-{found[2]}"
    return ""


def memory_kind(row: Row) -> str:
    """Which peak a row prints: `allocated` (tensors), `reserved` (the allocator) or `device`; allocated unless it says.

    Examples
    --------
    >>> memory_kind({"framework": "torchtitan FSDP2"}), memory_kind({"notes": "GiB allocated, reserved 69.3"})
    ('reserved', 'allocated')
    """
    for rule in mapping()["memory_kinds"]:
        if re.search(rule["match"], row.get(rule["column"]) or "", re.IGNORECASE):
            return str(rule["kind"])
    return "allocated"


def software_of(row: Row, notes: list[str]) -> Software:
    """The first rule that fits the framework's name and date, with the first of its profiles that the catalog has.

    Raises
    ------
    NotExpressible : the catalog has none of them.
    """
    text, date = text_of(row, "framework"), date_of(row)
    known = catalog.names("framework")
    for rule in mapping()["rules"]:
        if rule["match"] and not re.search(rule["match"], text, re.IGNORECASE):
            continue
        if "before" in rule and not (date and date < str(rule["before"])):
            continue
        chosen = next((name for name in rule["profiles"] if name in known), None)
        if chosen is None:
            continue
        if not text:
            notes.append(f"framework not stated: {chosen}")
        elif not rule.get("known", True):
            notes.append(f"framework '{text[:40]}' taken for {chosen}")
        return _resolved(row, rule, catalog.framework(chosen).spec, notes)
    raise NotExpressible("the catalog has no framework profile for this software")


def _resolved(row: Row, rule: Mapping[str, Any], profile: FrameworkProfile, notes: list[str]) -> Software:
    blank = rule["blank"]
    profile, switches = _switched(_as_released(date_of(row), profile), row)
    if not rule.get("known", True):
        # The profile lends its factors; what a team's own software can run is not known, but the row did run.
        profile = dataclasses.replace(profile, supports=everything(profile))
    notes += switches
    variants = tuple(
        rule["name"]
        for rule in mapping()["variants"]
        if re.search(rule["match"], row.get("notes") or "", re.IGNORECASE)
    )
    recompute = Recompute.parse(blank["recompute"])
    latent, to_fit = blank.get("recompute_latent"), blank.get("recompute_to_fit")
    return Software(
        profile=profile,
        kind=rule["class"],
        interleaves=bool(rule.get("interleaves")),
        shards=bool(rule.get("shards")),
        selective=Recompute.parse(rule["selective"]),
        sharding=Sharding[blank["sharding"].upper()],
        recompute=recompute,
        recompute_latent=Recompute.parse(latent) if latent else recompute,
        recompute_to_fit=Recompute.parse(to_fit) if to_fit else None,
        switches=switches,
        variants=variants,
    )


KERNEL_SLOWDOWNS = ("gemm_slowdown", "attention_slowdown", "elementwise_slowdown", "cast_slowdown")
"""Factors that better kernels of a newer release lower."""


def _year(date: str) -> float:
    year, month, *_ = (*date.split("-"), "06")
    return int(year) + (int(month) - 0.5) / 12.0


def _as_released(date: str, profile: FrameworkProfile) -> FrameworkProfile:
    """The profile at the date of a row's release, as far as its measured releases reach; unchanged without a date."""
    if not (date and profile.gain_per_year and profile.released):
        return profile
    first, last = _year(profile.released[0]), _year(profile.released[-1])
    age = min(max(_year(date), first), last) - 0.5 * (first + last)
    factor = (1.0 - profile.gain_per_year) ** age
    return dataclasses.replace(profile, **{name: getattr(profile, name) * factor for name in KERNEL_SLOWDOWNS})


def _switched(profile: FrameworkProfile, row: Row) -> tuple[FrameworkProfile, tuple[str, ...]]:
    """The profile with what the row says beyond its layout switched on, and the names of that."""
    names = []
    for switch in mapping()["switches"]:
        if re.search(switch["match"], row.get(switch["column"]) or "", re.IGNORECASE):
            changes = {name: getattr(profile, name) * factor for name, factor in switch["times"].items()}
            profile = dataclasses.replace(profile, **changes)
            names.append(switch["name"])
    return profile, tuple(names)
