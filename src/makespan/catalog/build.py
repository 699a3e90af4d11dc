"""From the file of an entry to the spec that formulas take."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Generic, TypeVar

from makespan.catalog import files
from makespan.catalog.errors import CatalogError, NotYetKnown
from makespan.catalog.facts import Reader
from makespan.provenance import Fact
from makespan.specs.campaign import CheckpointSpec, FailureSpec, RecoverySpec
from makespan.specs.hardware import (
    AcceleratorSpec,
    AttentionEfficiency,
    CollectiveEfficiency,
    FabricSpec,
    FabricTier,
    FrameworkProfile,
    GemmEfficiency,
    KernelSpec,
    NodeSpec,
)
from makespan.specs.model import MambaSpec, MlaSpec, ModelSpec, MoeSpec
from makespan.specs.search import CriticalBatchLaw, LossLaw
from makespan.uncertainty import Distribution

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[T]):
    """One entry of the catalog as it was known on the day that was asked for.

    facts : every fact behind `spec`.   file : where they stand.   known_on : first day on which the entry was public.
    """

    name: str
    kind: str
    spec: T
    facts: tuple[Fact, ...]
    file: str
    note: str
    known_on: dt.date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilitySpec:
    """What is assumed of failures, recovery and checkpoints together."""

    failures: FailureSpec
    recovery: RecoverySpec
    checkpoints: CheckpointSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSpec:
    """A cloud's offer: names of what it rents, and its terms. `scenario` makes a `RentSpec` of it.

    list_price_usd_per_accelerator_s : as printed, on demand. [USD/s]
    discount : off the list price under a large commitment. [-]
    price_usd_per_accelerator_s : expected under contract. [USD/s]
    largest_cluster : accelerators in one fabric; None where no limit is published. [-]
    term_s : usual minimum term. [s]   take_or_pay : share of the price due for unused reserved capacity. [-]
    available_fraction : of the reserved accelerators that are healthy at a time. [-]
    """

    name: str
    provider: str
    shape: str
    place: str
    accelerator: str
    node: str
    fabric: str
    list_price_usd_per_accelerator_s: float
    discount: Distribution
    price_usd_per_accelerator_s: Distribution
    largest_cluster: int | None
    term_s: float
    take_or_pay: float
    available_fraction: Distribution
    delivery_probability: float
    pue: Distribution


def build_accelerator(r: Reader) -> AcceleratorSpec:
    """Chip, memory, links, power, and utilisations of its kernels."""
    gemm = {}
    for precision in r.keys("kernels.gemm"):
        path = f"kernels.gemm.{precision}"
        gemm[precision] = GemmEfficiency(
            flop_utilisation=r.number(f"{path}.flop_utilisation", "fraction"),
            hbm_utilisation=r.number(f"{path}.hbm_utilisation", "factor"),
            overhead_s=r.number(f"{path}.overhead", "time"),
            half_k=r.number(f"{path}.half_k", "factor", 0.0),
            half_m=r.number(f"{path}.half_m", "factor", 0.0),
            wave_weight=r.if_known(f"{path}.wave_weight", "fraction", 0.0),
        )
    return AcceleratorSpec(
        name=r.name,
        family=r.text("family"),
        vendor=r.text("vendor"),
        peak_flop_per_s={p: r.number(f"peak.{p}", "flop_rate") for p in r.keys("peak")},
        hbm_bytes=r.number("hbm", "data"),
        hbm_bytes_per_s=r.number("hbm_bandwidth", "data_rate"),
        scale_up_domain_size=round(r.number("scale_up_domain_size", "count")),
        scale_up_bytes_per_s=r.number("scale_up_bandwidth", "data_rate"),
        scale_out_bytes_per_s=r.number("scale_out_bandwidth", "data_rate"),
        host_bytes_per_s=r.if_known("host_bandwidth", "data_rate", 0.0),
        idle_w=r.number("idle_power", "power"),
        tdp_w=r.number("tdp", "power"),
        kernels=KernelSpec(
            gemm=gemm,
            attention=AttentionEfficiency(
                flop_utilisation=r.number("kernels.attention.flop_utilisation", "fraction"),
                half_seq=r.number("kernels.attention.half_seq", "factor", 0.0),
                half_head_dim=r.number("kernels.attention.half_head_dim", "factor", 0.0),
                softmax_head_dim=r.if_known("kernels.attention.softmax_head_dim", "factor", 0.0),
                half_waves=r.if_known("kernels.attention.half_waves", "factor", 0.0),
            ),
            elementwise_hbm_utilisation=r.number("kernels.elementwise.hbm_utilisation", "fraction"),
            multiprocessors=round(r.if_known("kernels.multiprocessors", "count", 0.0)),
            uneven_experts=r.if_known("kernels.uneven_experts", "factor", 1.0),
            training_slowdown={
                precision: r.if_known(f"kernels.training_slowdown.{precision}", "factor", 1.0)
                for precision in r.keys("kernels.training_slowdown")
            },
        ),
    )


def build_node(r: Reader) -> NodeSpec:
    """One server: four kinds of power, and its share of network and storage."""
    return NodeSpec(
        name=r.name,
        accelerator=r.text("accelerator"),
        accelerators_per_node=round(r.number("accelerators_per_node", "count")),
        nameplate_w=r.number("nameplate", "power"),
        provisioned_peak_w=r.number("provisioned_peak", "power"),
        mean_training_w=r.number("mean_training", "power"),
        idle_w=r.number("idle", "power"),
        network_storage_w=r.number("network_storage", "power"),
        cooling=r.text("cooling", "air"),
    )


COLLECTIVES = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all")


def build_collectives(r: Reader, path: str) -> CollectiveEfficiency | None:
    """Measured times of collectives; None where a tier has none or they were not known yet."""
    if not r.has(path) or not r.is_known(f"{path}.launch"):
        return None
    return CollectiveEfficiency(
        launch_s=r.number(f"{path}.launch", "time"),
        hop_s=r.number(f"{path}.hop", "time"),
        ramp_s=r.number(f"{path}.ramp", "time"),
        ramp_exponent=r.number(f"{path}.ramp_exponent", "fraction"),
        efficiency={kind: r.number(f"{path}.efficiency.{kind}", "fraction") for kind in COLLECTIVES},
        own_part_saved={kind: r.number(f"{path}.own_part_saved.{kind}", "fraction") for kind in COLLECTIVES},
    )


def build_fabric(r: Reader) -> FabricSpec:
    """Tiers in the order of the file, from the scale-up domain out."""
    tiers = tuple(
        FabricTier(
            name=tier,
            size=float("inf")
            if r.text(f"tiers.{tier}.size") == "unbounded"
            else r.number(f"tiers.{tier}.size", "count"),
            bytes_per_s=r.number(f"tiers.{tier}.bandwidth", "data_rate"),
            latency_s=r.number(f"tiers.{tier}.latency", "time"),
            efficiency=r.number(f"tiers.{tier}.efficiency", "fraction"),
            oversubscription=r.number(f"tiers.{tier}.oversubscription", "factor", 1.0),
            in_network_reduction=bool(r.has(f"tiers.{tier}.in_network_reduction"))
            and r.text(f"tiers.{tier}.in_network_reduction") == "True",
            collectives=build_collectives(r, f"tiers.{tier}.collectives"),
        )
        for tier in r.keys("tiers")
    )
    return FabricSpec(name=r.name, tiers=tiers)


def build_model(r: Reader) -> ModelSpec:
    """The architecture, under one fact; published parameter counts stand beside it as facts of their own."""
    node = r.node("architecture")
    if not isinstance(node, Mapping):
        raise r.wrong("architecture", "is missing")
    values: dict[str, Any] = dict(node)
    allowed = {f.name for f in fields(ModelSpec)} - {"name"}
    if set(values) - allowed:
        raise r.wrong("architecture", f"has unknown fields {sorted(set(values) - allowed)}")
    text = ", ".join(f"{key} {value}" for key, value in values.items() if not isinstance(value, Mapping))
    cite = dict(r.node("cite"))
    r.keep("architecture", {"value": text, **cite})
    for name in r.keys("published"):
        r.number(f"published.{name}", "count")
    if "mla" in values:
        values["mla"] = MlaSpec(**values["mla"])
    if "moe" in values:
        values["moe"] = MoeSpec(**values["moe"])
    if "mamba" in values:
        values["mamba"] = MambaSpec(**values["mamba"])
    return ModelSpec(name=r.name, **values)


PLAIN_LISTS = ("measured_on", "measured_precisions", "released")
"""Fields of a framework profile that list names or dates."""


def build_framework(r: Reader) -> FrameworkProfile:
    """Factors of one generation of training software. A field `x_s` stands in the file as `x` with a unit of time."""
    values: dict[str, Any] = {}
    for f in fields(FrameworkProfile):
        required = f.default is MISSING and f.default_factory is MISSING
        if f.name in ("name", "supports", "largest_measured", "attention_lag", *PLAIN_LISTS):
            continue
        key, quantity = f.name, "factor"
        for suffix, unit in (("_s", "time"), ("_bytes", "data")):
            if f.name.endswith(suffix):
                key, quantity = f.name.removesuffix(suffix), unit
        key = f.name if r.has(f.name) else key
        if required or r.has(key):
            values[f.name] = r.number(key, quantity)
    for name in PLAIN_LISTS:
        if r.has(name):
            listed = r.node(name)
            values[name] = tuple(str(item) for item in (listed.split() if isinstance(listed, str) else listed))
    if r.has("largest_measured"):
        values["largest_measured"] = round(float(r.node("largest_measured")))
    if r.has("attention_lag"):
        values["attention_lag"] = {key: r.number(f"attention_lag.{key}", "factor") for key in r.keys("attention_lag")}
    if "comparison_sigma" not in values:
        values["comparison_sigma"] = _default_comparison_sigma(r)
    supports = {key: bool(r.node(f"supports.{key}")) for key in r.keys("supports")}
    return FrameworkProfile(name=r.name, supports=supports, **values)


def _default_comparison_sigma(r: Reader) -> float:
    """The figure of `defaults.yaml`, over all software: no single profile has enough layouts of one release to compare."""
    name = "defaults.yaml"
    rules = Reader(
        kind="default",
        name="defaults",
        raw=files.raw_file(name),
        file=f"catalog/data/{name}",
        prefix="defaults",
        as_of=r.as_of,
    )
    sigma = rules.number("rules.comparison_sigma", "fraction")
    r.facts += rules.facts
    return sigma


def build_reliability(r: Reader) -> ReliabilitySpec:
    """Failures, recovery and checkpoints."""
    return ReliabilitySpec(
        failures=FailureSpec(
            per_accelerator_s=r.distribution("failures.per_accelerator", "rate"),
            per_job_s=r.distribution("failures.per_job", "rate"),
        ),
        recovery=RecoverySpec(
            detection_s=r.distribution("recovery.detection", "time"),
            restart_s=r.distribution("recovery.restart", "time"),
            restart_per_doubling_s=r.number("recovery.restart_per_doubling", "time"),
            spread=r.number("recovery.spread", "factor"),
            spare_fraction=r.number("recovery.spare_fraction", "fraction"),
            repair_s=r.distribution("recovery.repair", "time"),
        ),
        checkpoints=CheckpointSpec(
            interval_s=r.number("checkpoints.interval", "time") if r.has("checkpoints.interval") else None,
            blocking_s=r.distribution("checkpoints.blocking", "time"),
            save_s=r.distribution("checkpoints.save", "time"),
        ),
    )


def build_offer(r: Reader) -> OfferSpec:
    """Shape, prices and terms of a cloud's offer."""
    largest = r.number("largest_cluster", "count") if r.has("largest_cluster") else None
    return OfferSpec(
        name=r.name,
        provider=r.text("provider"),
        shape=r.text("shape"),
        place=r.text("place") or r.text("provider"),
        accelerator=r.text("accelerator"),
        node=r.text("node"),
        fabric=r.text("fabric"),
        list_price_usd_per_accelerator_s=r.number("list_price", "money_rate"),
        discount=r.distribution("discount", "fraction"),
        price_usd_per_accelerator_s=r.distribution("price", "money_rate"),
        largest_cluster=None if largest is None else round(largest),
        term_s=r.number("term", "time"),
        take_or_pay=r.number("take_or_pay", "fraction"),
        available_fraction=r.distribution("available_fraction", "fraction"),
        delivery_probability=r.number("delivery_probability", "fraction", 1.0),
        pue=r.distribution("pue", "factor"),
    )


def build_batch_law(r: Reader) -> CriticalBatchLaw:
    """A law of the critical batch; with `loss` where it goes by the loss."""
    loss = None
    if r.has("loss"):
        loss = LossLaw(**{f.name: r.number(f"loss.{f.name}", "factor") for f in fields(LossLaw)})
    return CriticalBatchLaw(
        name=r.name,
        coefficient=r.number("coefficient", "factor"),
        exponent=r.number("exponent", "factor"),
        overhead_fraction=r.number("overhead_fraction", "factor"),
        spread=r.number("spread", "factor"),
        spread_per_decade=r.number("spread_per_decade", "factor"),
        fitted_tokens=r.number("fitted_tokens", "tokens"),
        loss=loss,
    )


BUILDERS: Mapping[str, Callable[[Reader], Any]] = {
    "accelerator": build_accelerator,
    "node": build_node,
    "fabric": build_fabric,
    "model": build_model,
    "framework": build_framework,
    "offer": build_offer,
    "reliability": build_reliability,
    "batch_law": build_batch_law,
}


@cache
def entry(kind: str, name: str, as_of: dt.date | None) -> Entry[Any]:
    """An entry as known on `as_of`. Raises `UnknownName`, `NotYetKnown`, `CatalogError`."""
    raw = files.raw_entry(kind, name)
    folder = files.FOLDERS[kind]
    public: dt.date | None = raw.get("known_on")
    if public is None:
        raise CatalogError(f"catalog/data/{folder}/{name}.yaml: known_on is missing")
    if as_of is not None and public > as_of:
        raise NotYetKnown(kind, name, "the entry", public, as_of)
    file = f"catalog/data/{folder}/{name}.yaml"
    reader = Reader(kind=kind, name=name, raw=raw, file=file, prefix=f"{folder}.{name}", as_of=as_of)
    try:
        spec = BUILDERS[kind](reader)
    except TypeError as error:
        raise CatalogError(f"{file}: {error}") from error
    return Entry(
        name=name,
        kind=kind,
        spec=spec,
        facts=tuple(reader.facts),
        file=file,
        note=reader.text("note").strip(),
        known_on=public,
    )
