"""Names of the catalog: looked up as they were known on `as_of`, with the facts behind them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from makespan import catalog
from makespan.provenance import Fact
from makespan.scenario._context import Context, suggestion
from makespan.scenario._section import Rule
from makespan.uncertainty import Distribution, Fixed

if TYPE_CHECKING:
    from makespan.catalog import Entry
    from makespan.scenario._tree import Node

T = TypeVar("T")

PRICE_OFFERS = ("neocloud-h100",)
"""Offers whose price stands for an accelerator before others are asked, in the order of their names."""

FRAMEWORKS = ("megatron-2026", "nemo-2025", "megatron-2024", "fsdp-2023")
"""Default framework profile: the first that was known on `as_of`."""


def look_up(ctx: Context, kind: str, name: str, node: Node | None, path: str) -> Entry[Any] | None:
    """An entry of the catalog with its facts kept; None and a problem for a name that is not there, or not yet."""
    try:
        found = catalog.entry(kind, name, as_of=ctx.as_of)
    except catalog.UnknownName:
        near = catalog.suggest(kind, name)
        names = catalog.names(kind)
        ctx.report(
            "MS301",
            node,
            path,
            found=f"'{name}'",
            expected=f"a name of the catalog ({kind})",
            fix=_remedy(kind, name, near, names),
        )
        return None
    except catalog.NotYetKnown as error:
        ctx.report(
            "MS505",
            node,
            path,
            found=f"'{name}', of which {error.what} was first known on {error.known_on}",
            expected=f"something known on {error.as_of} (as_of)",
            fix="choose what was known then, or move as_of",
        )
        return None
    ctx.keep(found.facts)
    return found


def _remedy(kind: str, name: str, near: Sequence[str], names: Sequence[str]) -> str:
    if kind == "model" and ("/" in name or name.endswith(".json")):
        return f"for a Hugging Face configuration, write {{hf: {name}}}"
    return "did you mean " + " or ".join(f"'{n}'" for n in near) + "?" if near else suggestion(name, names)


def first_known(ctx: Context, kind: str, names: Sequence[str]) -> str | None:
    """The first of several names that is in the catalog and was known on `as_of`."""
    there = set(catalog.names(kind))
    for name in names:
        if name in there:
            try:
                catalog.entry(kind, name, as_of=ctx.as_of)
            except catalog.NotYetKnown:
                continue
            return name
    return None


def default_rule(ctx: Context, name: str) -> Rule | None:
    """The catalog's rule for a missing field; None where it has none that old."""
    try:
        found = catalog.defaults(ctx.as_of).spec.get(name)
    except catalog.NotYetKnown as error:
        too_early(ctx, f"the catalog's rules for missing fields ({error.what})", error.known_on)
        return None
    if found is None:
        return None
    return Rule(
        value=found.value,
        text=written(found.fact),
        plain=found.fact.text,
        sentence=found.rule or found.fact.why,
        fact=found.fact,
    )


def too_early(ctx: Context, what: str, known_on: dt.date | None) -> None:
    """Report, once, that `as_of` lies before the facts the rules rest on; fields without a rule then stay quiet."""
    if not ctx.without_rules:
        ctx.without_rules = True
        ctx.report(
            "MS617",
            ctx.as_of_node,
            "as_of",
            found=f"{ctx.origin}, before {what} were known" + (f" ({known_on})" if known_on else ""),
            expected="a day on which they were known",
            fix="move as_of; earlier plans would need older facts in the catalog",
        )


def written(fact: Fact) -> str:
    """A fact's value with its range, as a report writes it."""
    return f"{fact.text} ({fact.low} to {fact.high})" if fact.low and fact.high else fact.text


def price_rule(ctx: Context, accelerator: str) -> Rule | None:
    """The price of the catalog's first offer of an accelerator that was known on `as_of`; None where there is none."""
    names = catalog.names("offer")
    for name in sorted(names, key=lambda name: (name not in PRICE_OFFERS, name)):
        try:
            found = catalog.offer(name, as_of=ctx.as_of)
        except catalog.NotYetKnown:
            continue
        if found.spec.accelerator == accelerator:
            return offer_rule(found, "price", found.spec.price_usd_per_accelerator_s)
    return None


def offer_rule(offer: Entry[Any], key: str, value: Distribution | float) -> Rule:
    """A term of an offer for a field that the file leaves out."""
    fact = next((f for f in offer.facts if f.path.endswith(f".{key}")), None)
    dist = value if isinstance(value, Distribution) else Fixed(value=float(value))
    text = written(fact) if fact is not None else f"{dist.central:g}"
    plain = fact.text if fact is not None else text
    return Rule(value=dist, text=text, plain=plain, sentence=f"from the catalog's offer {offer.name}", fact=fact)


def default_node(ctx: Context, accelerator: str) -> str | None:
    """The node that holds an accelerator where the file names none."""
    return first_known(ctx, "node", (catalog.usual_node(accelerator),))


def default_fabric(ctx: Context, accelerator: str) -> str | None:
    """The fabric of an accelerator where the file names none."""
    return first_known(ctx, "fabric", (catalog.usual_fabric(accelerator),))


def newest_reliability(ctx: Context) -> Entry[Any] | None:
    """The newest entry on failures and recovery that was known on `as_of`."""
    found: list[Entry[Any]] = []
    for name in catalog.names("reliability"):
        try:
            found.append(catalog.reliability(name, as_of=ctx.as_of))
        except catalog.NotYetKnown:
            continue
    if not found:
        too_early(ctx, "any of the catalog's entries on failures and recovery", None)
    return max(found, key=lambda entry: (str(entry.known_on), entry.name), default=None)


def reliability_rule(entry: Entry[Any], key: str) -> Rule | None:
    """One field of a reliability entry, such as `failures.per_job`, as a rule."""
    group, name = key.split(".")
    spec = getattr(entry.spec, group)
    value = getattr(spec, name if hasattr(spec, name) else f"{name}_s")
    fact = next((f for f in entry.facts if f.path.endswith(f".{key}")), None)
    if not isinstance(value, Distribution):
        value = Fixed(value=float(value))
    text = written(fact) if fact is not None else f"{value.central:g}"
    plain = fact.text if fact is not None else text
    return Rule(value=value, text=text, plain=plain, sentence=f"from the catalog's entry {entry.name}", fact=fact)
