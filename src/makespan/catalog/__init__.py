"""Sourced facts: accelerators, nodes, fabrics, models, frameworks, offers, reliability, critical batches, and rules for what is left out.

Every lookup takes `as_of`: only facts that could be known on that day are used. None means all that is known.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from makespan.catalog import files
from makespan.catalog.build import Entry, OfferSpec, ReliabilitySpec
from makespan.catalog.build import entry as _entry
from makespan.catalog.defaults import Default, defaults
from makespan.catalog.errors import CatalogError, NotYetKnown, UnknownName
from makespan.catalog.prices import PriceObservation, prices
from makespan.provenance import Kind, Source, weakest
from makespan.specs.hardware import AcceleratorSpec, FabricSpec, FrameworkProfile, NodeSpec
from makespan.specs.model import ModelSpec
from makespan.specs.search import CriticalBatchLaw

__all__ = [
    "EVIDENCE",
    "CatalogError",
    "Default",
    "Entry",
    "NotYetKnown",
    "OfferSpec",
    "PriceObservation",
    "ReliabilitySpec",
    "UnknownName",
    "accelerator",
    "batch_law",
    "defaults",
    "entry",
    "evidence",
    "fabric",
    "framework",
    "kernel_kind",
    "kinds",
    "model",
    "names",
    "node",
    "offer",
    "prices",
    "reliability",
    "sources",
    "suggest",
    "usual_fabric",
    "usual_node",
]


def kinds() -> tuple[str, ...]:
    """Kinds of entries: `accelerator`, `node`, `fabric`, `model`, `framework`, `offer`, `reliability`,
    `batch_law`."""
    return tuple(files.FOLDERS)


def names(kind: str) -> list[str]:
    """Names of one kind, sorted. Raises `UnknownName` for an unknown kind."""
    if kind not in files.FOLDERS:
        raise UnknownName("kind of entry", kind, [k for k in kinds() if k.startswith(kind[:2])])
    return list(files.names(kind))


def suggest(kind: str, name: str) -> list[str]:
    """Up to three names of that kind like `name`, nearest first."""
    return files.suggest(kind, name)


def entry(kind: str, name: str, as_of: dt.date | None = None) -> Entry[Any]:
    """An entry of any kind. Raises `UnknownName`, `NotYetKnown`."""
    return _entry(kind, name, as_of)


def accelerator(name: str, as_of: dt.date | None = None) -> Entry[AcceleratorSpec]:
    """A chip with the utilisations of its kernels. Raises `UnknownName`, `NotYetKnown`."""
    return _entry("accelerator", name, as_of)


def node(name: str, as_of: dt.date | None = None) -> Entry[NodeSpec]:
    """A server with its power. Raises `UnknownName`, `NotYetKnown`."""
    return _entry("node", name, as_of)


def fabric(name: str, as_of: dt.date | None = None) -> Entry[FabricSpec]:
    """A network by tiers. Raises `UnknownName`, `NotYetKnown`."""
    return _entry("fabric", name, as_of)


def model(name: str, as_of: dt.date | None = None) -> Entry[ModelSpec]:
    """An architecture. Raises `UnknownName`, `NotYetKnown`."""
    return _entry("model", name, as_of)


def framework(name: str, as_of: dt.date | None = None) -> Entry[FrameworkProfile]:
    """A generation of training software. Raises `UnknownName`, `NotYetKnown`."""
    return _entry("framework", name, as_of)


def offer(name: str, as_of: dt.date | None = None) -> Entry[OfferSpec]:
    """A cloud's offer. Raises `UnknownName`, `NotYetKnown`."""
    return _entry("offer", name, as_of)


def reliability(name: str, as_of: dt.date | None = None) -> Entry[ReliabilitySpec]:
    """Failures, recovery and checkpoints. Raises `UnknownName`, `NotYetKnown`."""
    return _entry("reliability", name, as_of)


def batch_law(name: str, as_of: dt.date | None = None) -> Entry[CriticalBatchLaw]:
    """A law of the critical batch. Raises `UnknownName`, `NotYetKnown`."""
    return _entry("batch_law", name, as_of)


def kernel_kind(accelerator: str, arithmetic: str, as_of: dt.date | None = None) -> Kind:
    """The weakest kind among the utilisations that a step stands on: products of its arithmetic and of 16 bits, attention.

    arithmetic : `bf16`, `fp8` or `fp4`. Raises `UnknownName`, `NotYetKnown`.
    """
    ends = [f".kernels.gemm.{name}.flop_utilisation" for name in ("bf16", arithmetic)]
    ends.append(".kernels.attention.flop_utilisation")
    facts = _entry("accelerator", accelerator, as_of).facts
    return weakest(tuple(fact for fact in facts if fact.path.endswith(tuple(ends))))


EVIDENCE = ("measured", "same family", "borrowed", "assumed")
"""What a step time stands on, strongest first: see `evidence`."""


def evidence(
    profile: FrameworkProfile, accelerator: str, precision: str, arithmetic: str, as_of: dt.date | None = None
) -> str:
    """One of `EVIDENCE` for the step times of a software on an accelerator in a precision.

    measured : runs of this software on this accelerator were.   same family : on another chip of its family (`family`).
    borrowed : neither, or in other precisions only; the kernels are known, what training adds to them is taken from other
    chips.   assumed : not even the accelerator's kernels were measured.   Raises `UnknownName`, `NotYetKnown`.
    """
    if kernel_kind(accelerator, arithmetic, as_of) is Kind.ASSUMED:
        return "assumed"
    if profile.measured_precisions and precision not in profile.measured_precisions:
        return "borrowed"
    if accelerator in profile.measured_on:
        return "measured"
    family = files.raw_entry("accelerator", accelerator)["family"]
    relatives = (files.raw_entry("accelerator", name)["family"] for name in profile.measured_on)
    return "same family" if family in relatives else "borrowed"


def usual_node(accelerator: str) -> str:
    """Name of the server an accelerator is usually sold in. Raises `UnknownName`."""
    return str(files.raw_entry("accelerator", accelerator)["usual_node"])


def usual_fabric(accelerator: str) -> str:
    """Name of the fabric such servers usually stand on. Raises `UnknownName`."""
    return str(files.raw_entry("accelerator", accelerator)["usual_fabric"])


def sources() -> Mapping[str, Source]:
    """Every source by its key. Reads the whole file: for listings, not for a plan."""
    return MappingProxyType({key: files.source(key) for key in files.source_keys()})
