"""The files of the catalog: one YAML file an entry, opened only when asked for, and `sources.yaml`.

`sources.yaml` is cut at its top-level keys and only the blocks that are used are parsed: reading all of it would cost
more time than a whole `makespan check`.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from makespan.catalog import plain
from makespan.catalog.errors import CatalogError, UnknownName
from makespan.provenance import Source

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

FOLDERS: Mapping[str, str] = {
    "accelerator": "accelerators",
    "node": "nodes",
    "fabric": "fabrics",
    "model": "models",
    "framework": "frameworks",
    "offer": "offers",
    "reliability": "reliability",
    "batch_law": "batch_laws",
}
"""Kind of entry -> folder under `data/`."""

_BLOCK = re.compile(r"^([A-Za-z0-9][\w.-]*):", re.MULTILINE)


def data() -> Traversable:
    """The data folder, inside the wheel or the checkout."""
    return files("makespan.catalog") / "data"


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """A YAML 1.2 mapping. Raises `CatalogError` for anything else, duplicate keys included."""
    try:
        content = plain.read(text)
    except (plain.NotPlain, ValueError):
        content = _parse_all_of_yaml(text, where)
    if not isinstance(content, dict):
        raise CatalogError(f"catalog/data/{where}: expected a mapping at the top")
    return content


def _parse_all_of_yaml(text: str, where: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise CatalogError(f"catalog/data/{where}: {error}") from error


@cache
def names(kind: str) -> tuple[str, ...]:
    """Names of the entries of one kind, sorted."""
    folder = data() / FOLDERS[kind]
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def suggest(kind: str, name: str) -> list[str]:
    """Up to three names like the one that was not found, nearest first."""
    candidates = names(kind)
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    near = difflib.get_close_matches(wanted, candidates, n=3, cutoff=0.5)
    near += [c for c in candidates if wanted and (c.startswith(wanted) or wanted in c) and c not in near]
    return near[:3]


@cache
def raw_entry(kind: str, name: str) -> dict[str, Any]:
    """Content of one entry's file. Raises `UnknownName`, `CatalogError`."""
    if name not in names(kind):
        raise UnknownName(kind, name, suggest(kind, name))
    where = f"{FOLDERS[kind]}/{name}.yaml"
    content = parse_yaml((data() / where).read_text(encoding="utf-8"), where)
    if content.get("name") != name:
        raise CatalogError(f"catalog/data/{where}: its name is {content.get('name')!r}")
    return content


@cache
def raw_file(name: str) -> dict[str, Any]:
    """Content of one file directly under `data/`."""
    return parse_yaml((data() / name).read_text(encoding="utf-8"), name)


@cache
def _source_blocks() -> dict[str, str]:
    text = (data() / "sources.yaml").read_text(encoding="utf-8")
    starts = [(m.group(1), m.start()) for m in _BLOCK.finditer(text)]
    ends = [start for _, start in starts[1:]] + [len(text)]
    blocks: dict[str, str] = {}
    for (key, start), end in zip(starts, ends, strict=True):
        if key in blocks:
            raise CatalogError(f"catalog/data/sources.yaml: the key {key!r} appears twice")
        blocks[key] = text[start:end]
    return blocks


def source_keys() -> tuple[str, ...]:
    """Keys of all sources, in the order of the file."""
    return tuple(_source_blocks())


@cache
def source(key: str) -> Source:
    """One source. Raises `CatalogError` when it is missing or incomplete."""
    block = _source_blocks().get(key)
    if block is None:
        near = difflib.get_close_matches(key, source_keys(), n=2)
        raise CatalogError(f"catalog/data/sources.yaml: no source {key!r}; near: {near}")
    fields = parse_yaml(block, "sources.yaml")[key]
    unknown = set(fields) - {"title", "publisher", "date", "url", "accessed", "note"}
    if unknown or not isinstance(fields.get("date"), dt.date) or not {"title", "publisher"} <= set(fields):
        raise CatalogError(
            f"catalog/data/sources.yaml: {key}: needs title, publisher, date; unknown: {sorted(unknown)}"
        )
    return Source(key=key, **fields)
