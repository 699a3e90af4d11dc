"""The machine of a row: accelerator, node and fabric of the catalog, with the network the row itself states."""

from __future__ import annotations

import dataclasses
import math
import re

from makespan import catalog
from makespan.specs.hardware import AcceleratorSpec, ClusterSpec, FabricSpec
from makespan.validation.cells import NotExpressible, count
from makespan.validation.files import Row, mapping

GIGABIT_BYTES = 1e9 / 8
PORT_GIGABITS = 200.0
"""The slowest port that a rate alone may mean: HDR InfiniBand and 200G Ethernet."""
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(Gb/s|Gbps|Gbit/s|Gb/Sec|Tb/s|Tbps|Tbit/s)|(?<!\d)([1248]00)(G)\b")
_PORTS = re.compile(r"(\d+)\s*x(?:\b|$)")
_MEMORY = re.compile(r"(\d+)\s*GB HBM\w*\s+([\d.]+)\s*TB/s(?:\s+(\d+)\s*W)?")


def scale_out_bytes_per_s(text: str, accelerators_per_node: int) -> float | None:
    """Network rate of one accelerator, one direction, from free text; None where the text gives none. [B/s]

    The fastest part counts: others are for storage or management. "per GPU" is one accelerator's; a rate without "node" and
    without a number of ports is that of a port, one for each accelerator, from 200 Gbit/s on; all else is a node's.

    Examples
    --------
    >>> scale_out_bytes_per_s("NVLink3 node; 8x200 Gb/s HDR InfiniBand per node", 8) / GIGABIT_BYTES
    200.0
    >>> scale_out_bytes_per_s("inter: Storage: 1x BlueField 2 DPU 100Gb/s, Compute: 8x ConnectX-7 IB NDR 400Gb/s", 8) / 125e6
    400.0
    """
    rates = []
    for part in re.split(r"[,;|+]", text):
        rate = _RATE.search(part)
        if rate is None:
            continue
        ports = _PORTS.search(part[: rate.start()])
        scale = 1e3 if (rate[2] or "").startswith("T") else 1.0
        gigabits = float(rate[1] or rate[3]) * scale * (int(ports[1]) if ports else 1)
        is_ones = re.search(r"per (GPU|accelerator|NIC)", part, re.IGNORECASE) or (
            ports is None and "node" not in part.lower() and PORT_GIGABITS <= gigabits <= 8 * PORT_GIGABITS
        )
        rates.append(gigabits if is_ones else gigabits / accelerators_per_node)
    fastest = max(rates, default=0.0)
    return fastest * GIGABIT_BYTES if 1.0 <= fastest <= 1e5 else None


def _variant(accelerator: AcceleratorSpec, text: str) -> tuple[AcceleratorSpec, str, list[str]]:
    """The accelerator with the memory and power that the row's text states for it, its label, and what that means.

    A lower power limit lowers the clock under products to (limit / rated)^exponent, and with it every peak rate.
    """
    found = _MEMORY.search(text)
    if found is None:
        return accelerator, accelerator.name, []
    watts = found[3]
    label = f"{accelerator.name} {watts} W" if watts else f"{accelerator.name} variant"
    exponent = float(mapping()["clock_power_exponent"])
    clock = min(1.0, float(watts) / accelerator.tdp_w) ** exponent if watts else 1.0
    changed = dataclasses.replace(
        accelerator,
        hbm_bytes=float(found[1]) * 1e9,
        hbm_bytes_per_s=float(found[2]) * 1e12,
        tdp_w=float(watts) if watts else accelerator.tdp_w,
        peak_flop_per_s={kind: peak * clock for kind, peak in accelerator.peak_flop_per_s.items()},
    )
    note = f"part with {found[1]} GB at {found[2]} TB/s"
    if watts:
        note += f" and {watts} W: clock taken for {clock:.2f} of that at {accelerator.tdp_w:.0f} W"
    return changed, label, [note]


def _with_rate(fabric: FabricSpec, accelerator: AcceleratorSpec, scale_out: float) -> FabricSpec:
    inner, *outer = fabric.tiers
    tiers = [dataclasses.replace(inner, bytes_per_s=accelerator.scale_up_bytes_per_s)]
    tiers += [dataclasses.replace(tier, bytes_per_s=scale_out) for tier in outer]
    return dataclasses.replace(fabric, tiers=tuple(tiers))


def accelerator_name(text: str, notes: list[str]) -> str:
    """The catalog's name of an accelerator, however a table spells it.

    Raises
    ------
    NotExpressible : not stated, or none of the catalog.

    Examples
    --------
    >>> [accelerator_name(text, []) for text in ("NVIDIA H100 80GB HBM3", "h100-80gb-sxm", "GB200-NVL72", "A100 40GB")]
    ['h100-sxm', 'h100-sxm', 'gb200', 'a100-sxm-40gb']
    """
    name = text.strip().lower()
    if not name:
        raise NotExpressible("gpu is not stated")
    known = catalog.names("accelerator")
    if name in known:
        return name
    compact = re.sub(r"nvidia|google|amd|tesla|instinct|[^a-z0-9]", "", name)
    for rule in mapping()["accelerators"]:
        if re.search(rule["match"], compact):
            if rule.get("refuse") or rule["name"] not in known:
                break
            notes.append(rule.get("note", f"gpu '{text[:40]}' taken for {rule['name']}"))
            return str(rule["name"])
    raise NotExpressible(f"accelerator '{text[:60]}' is not in the catalog")


def cluster_of(row: Row) -> tuple[ClusterSpec, str, list[str]]:
    """The cluster, the accelerator's label, and what was assumed.

    Raises
    ------
    NotExpressible : no such accelerator in the catalog, or its number is neither stated nor the product of stated sizes.
    """
    notes: list[str] = []
    name = accelerator_name(row.get("gpu") or "", notes)
    num_accelerators = _num_accelerators(row, notes)
    place = mapping()["clusters"].get(name)
    if place is None:
        raise NotExpressible(f"accelerator '{name}' has no usual node and fabric in mapping.yaml")
    text = row.get("interconnect") or ""
    accelerator, label, variant = _variant(catalog.accelerator(name).spec, text)
    notes += variant
    node = catalog.node(place["node"]).spec
    fabric = catalog.fabric(place["fabric"]).spec
    per_node = count(row, "gpus_per_node") or node.accelerators_per_node
    stated = scale_out_bytes_per_s(text, per_node)
    if stated is not None:
        fabric = _with_rate(fabric, accelerator, stated)
    elif num_accelerators > per_node:
        notes.append(f"network between nodes not stated: {fabric.name}")
    cluster = ClusterSpec(
        name=f"{num_accelerators}x{name}",
        accelerator=accelerator,
        node=node,
        fabric=fabric,
        num_accelerators=num_accelerators,
    )
    return cluster, label, notes


def _num_accelerators(row: Row, notes: list[str]) -> int:
    stated = count(row, "n_gpus")
    if stated is not None:
        return stated
    sizes = [count(row, name) for name in ("tp", "pp", "dp")]
    if None in sizes:
        raise NotExpressible("n_gpus is not stated")
    product = math.prod(size for size in sizes if size) * (count(row, "cp") or 1)
    notes.append(f"n_gpus not stated: tp * pp * cp * dp = {product}")
    return product
