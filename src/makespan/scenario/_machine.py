"""Accelerator, node and fabric of a pool: named, from an offer, or by rule."""

from __future__ import annotations

from dataclasses import dataclass

from makespan.scenario._names import default_fabric, default_node, look_up
from makespan.scenario._section import Section
from makespan.specs.hardware import AcceleratorSpec, FabricSpec, NodeSpec


@dataclass(frozen=True, slots=True)
class Machine:
    """What a pool is made of."""

    accelerator: AcceleratorSpec
    node: NodeSpec
    fabric: FabricSpec


def read_machine(section: Section, *, offered: tuple[str, str, str] = ("", "", ""), offer: str = "") -> Machine | None:
    """Accelerator, node and fabric; None and a problem where one is missing or unknown.

    offered : names of the three in the offer that is rented, which apply where the file names none.
    """
    ctx = section.ctx
    kinds = ("accelerator", "node", "fabric")
    if any(section.failed(kind) for kind in kinds):
        return None
    names = {kind: section.text(kind) for kind in kinds}
    for kind, name in zip(kinds, offered, strict=True):
        if not names[kind] and name:
            names[kind] = name
            ctx.rule(section.at(kind), name, f"the {kind} of the offer {offer}")
    if not names["accelerator"]:
        section.report(
            "MS611",
            "",
            found="neither 'accelerator' nor 'offer'",
            expected="what is rented",
            fix="add 'accelerator: h100-sxm' or 'offer: oci-h100'",
        )
        return None
    accelerator = look_up(
        ctx,
        "accelerator",
        names["accelerator"],
        section.child("accelerator") or section.node,
        section.at("accelerator"),
    )
    if accelerator is None:
        for kind in kinds[1:]:
            if section.has(kind):
                look_up(ctx, kind, names[kind], section.child(kind), section.at(kind))
        return None
    for kind, choose in (("node", default_node), ("fabric", default_fabric)):
        if not names[kind]:
            found = choose(ctx, accelerator.name)
            if found is None:
                section.report(
                    "MS617",
                    "",
                    found=f"no '{kind}', and the catalog knows none for {accelerator.name}",
                    expected=f"a {kind} of the catalog",
                    fix=f"add '{kind}: ...'; see: makespan catalog list {kind}",
                )
                return None
            names[kind] = found
            ctx.rule(section.at(kind), found, f"the usual {kind} of {accelerator.name}")
    node = look_up(ctx, "node", names["node"], section.child("node") or section.node, section.at("node"))
    fabric = look_up(ctx, "fabric", names["fabric"], section.child("fabric") or section.node, section.at("fabric"))
    if node is None or fabric is None:
        return None
    if node.spec.accelerator != accelerator.name:
        section.report(
            "MS406",
            "node" if section.has("node") else "accelerator",
            found=f"the node {node.name}, which holds {node.spec.accelerator}",
            expected=f"a node with {accelerator.name}",
            fix="change the node or the accelerator, or leave the node out",
        )
        return None
    domain = fabric.spec.tiers[0].size
    if (
        domain != accelerator.spec.scale_up_domain_size
        and accelerator.spec.scale_up_domain_size > 1
        and domain < node.spec.accelerators_per_node
    ):
        section.report(
            "MS406",
            "fabric",
            found=f"the fabric {fabric.name} with domains of {domain:g}",
            expected=f"at least the {node.spec.accelerators_per_node} accelerators of a node {node.name}",
            fix="choose another fabric, or leave it out",
        )
        return None
    return Machine(accelerator.spec, node.spec, fabric.spec)
