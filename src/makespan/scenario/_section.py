"""A mapping of the file, read key by key: absent keys fall back to a rule, wrong ones to nothing and a problem."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from makespan.scenario._context import Context, Place
from makespan.scenario._tree import Loc, Node, component, slug
from makespan.scenario._values import Origin, read_day, read_origin, read_value, within
from makespan.uncertainty import Distribution, Fixed

if TYPE_CHECKING:
    from pydantic import BaseModel

    from makespan.provenance import Fact
    from makespan.scenario._shape import Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a missing field gets: the value, how a report writes it, the sentence that justifies it, the fact behind it.

    plain : the value without its range, for fields that are used as one number; `text` where empty.
    """

    value: Distribution
    text: str
    sentence: str
    plain: str = ""
    fact: Fact | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """One mapping with the shape that describes its keys.

    path : stable dotted name, used in messages, facts and the names of draws.   origin : provenance it passes down.
    """

    ctx: Context
    node: Node
    shape: type[BaseModel]
    loc: Loc
    path: str
    origin: Origin

    @classmethod
    def of(cls, ctx: Context, node: Node, shape: type[BaseModel], loc: Loc, path: str, inherited: Origin) -> Section:
        origin = read_origin(ctx, node, path, inherited) if "source" in shape.model_fields else inherited
        return cls(ctx, node, shape, loc, path, origin)

    def at(self, key: str) -> str:
        """The path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def child(self, key: str) -> Node | None:
        """The node under a key; None where it is absent or already reported."""
        node = (self.node.mapping or {}).get(key)
        return None if node is None or self.ctx.is_bad((*self.loc, key)) else node

    def has(self, key: str) -> bool:
        """The key is written, rightly or wrongly."""
        return key in (self.node.mapping or {})

    def failed(self, key: str) -> bool:
        """The key has been reported: wrong, or missing where it must be there."""
        return self.ctx.is_bad((*self.loc, key))

    def place(self, key: str) -> Place:
        """Where the key stands, or the mapping where it is absent."""
        return (self.node.keys or {}).get(key, (self.node.line, self.node.column))

    def text(self, key: str, default: str = "") -> str:
        node = self.child(key)
        return node.value.strip() if node is not None and isinstance(node.value, str) else default

    def flag(self, key: str, default: bool) -> bool:
        node = self.child(key)
        return node.value if node is not None and isinstance(node.value, bool) else default

    def integer(self, key: str, default: int) -> int:
        """A plain integer that the shape check has passed."""
        node = self.child(key)
        return (
            node.value
            if node is not None and isinstance(node.value, int) and not isinstance(node.value, bool)
            else default
        )

    def names(self, key: str) -> tuple[tuple[str, Node], ...]:
        """A list of names, each with its node."""
        node = self.child(key)
        items = node.items if node is not None else None
        return tuple((item.value, item) for item in items or () if isinstance(item.value, str))

    def quantity(self, key: str) -> Quantity:
        from makespan.scenario._shape import fields_of

        found = fields_of(self.shape)[key]
        assert found is not None, f"{self.shape.__name__}.{key} has no quantity"
        return found

    def dist(self, key: str, rule: Rule | None = None) -> Distribution | None:
        """A sourced value; the rule's where the key is absent; None where there is neither, or it is wrong."""
        node = self.child(key)
        if node is not None:
            return read_value(self.ctx, node, self.quantity(key), self.at(key), self.origin)
        if self.failed(key):
            return None
        if rule is None and self.ctx.without_rules:
            return None
        if rule is None:
            self.report(
                "MS112",
                "",
                found=f"no '{key}', for which there is no rule",
                expected=f"the key '{key}'",
                fix=f"add '{key}: ...'",
            )
            return None
        plain = self.quantity(key).plain and rule.plain
        self.ctx.rule(self.at(key), rule.plain if plain else rule.text, rule.sentence)
        if rule.fact is not None:
            self.ctx.keep([rule.fact])
        return within(replace(rule.value, name=self.at(key)), self.quantity(key))

    def number(self, key: str, rule: Rule | None = None) -> float | None:
        """A plain number in SI."""
        found = self.dist(key, rule)
        return None if found is None else found.central

    def whole(self, key: str, rule: Rule | None = None) -> int | None:
        """A plain whole number."""
        found = self.number(key, rule)
        return None if found is None else round(found)

    def day(self, key: str) -> dt.date | None:
        node = self.child(key)
        return None if node is None else read_day(self.ctx, node, self.at(key))

    def sub(self, key: str, shape: type[BaseModel]) -> Section | None:
        """The mapping under a key."""
        node = self.child(key)
        if node is None or node.mapping is None:
            return None
        return Section.of(self.ctx, node, shape, (*self.loc, key), self.at(key), self.origin)

    def sub_or_empty(self, key: str, shape: type[BaseModel]) -> Section:
        """The mapping under a key, or an empty one, so that every field in it takes its rule."""
        found = self.sub(key, shape)
        if found is not None:
            return found
        line, column = self.place(key)
        return Section(self.ctx, Node({}, line, column, keys={}), shape, (*self.loc, key), self.at(key), self.origin)

    def each(self, key: str, shape: type[BaseModel]) -> Iterator[Section]:
        """The mappings of a list, those that could be read."""
        node = self.child(key)
        for index, item in enumerate((node.items if node is not None else None) or ()):
            loc = (*self.loc, key, index)
            if item.mapping is not None and loc not in self.ctx.bad:
                path = f"{self.at(key)}.{component(item, index)}"
                yield Section.of(self.ctx, item, shape, loc, path, self.origin)

    def entries(self, key: str, shape: type[BaseModel]) -> Iterator[tuple[str, Section]]:
        """The mappings of a mapping, by their keys."""
        node = self.child(key)
        for name, item in ((node.mapping if node is not None else None) or {}).items():
            loc = (*self.loc, key, name)
            if item.mapping is not None and loc not in self.ctx.bad:
                yield name, Section.of(self.ctx, item, shape, loc, f"{self.at(key)}.{slug(name)}", self.origin)

    def report(self, code: str, key: str, *, found: str, expected: str, fix: str) -> None:
        """A problem at a key (or at the mapping, where the key is absent)."""
        node = (self.node.mapping or {}).get(key, self.node)
        place = (node.line, node.column) if self.has(key) else (self.node.line, self.node.column)
        self.ctx.report(
            code, node, self.at(key) if key else self.path, found=found, expected=expected, fix=fix, place=place
        )


def fixed(value: float, text: str, sentence: str) -> Rule:
    """A rule whose value is a plain number."""
    return Rule(value=Fixed(value=value), text=text, sentence=sentence)
