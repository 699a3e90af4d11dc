"""Values laid over a file: dotted paths, indexes or names, and pools by the option that uses them."""

from __future__ import annotations

from collections.abc import Mapping

from makespan.scenario._context import Context, did_you_mean
from makespan.scenario._tree import Node, slug, walk
from makespan.scenario._yaml import Unreadable, compose


def apply_overrides(ctx: Context, root: Node, overrides: Mapping[str, str]) -> None:
    """Put each value into the tree; a path that leads nowhere or a value that is no YAML is a problem."""
    for path, text in overrides.items():
        shown = f"{path}={text}"
        try:
            value, problems = compose(str(text))
        except Unreadable as error:
            ctx.report(
                "MS116",
                None,
                path,
                found=f"the override {shown}: {error.problem.found}",
                expected="a value as YAML",
                fix=error.problem.fix,
            )
            continue
        if problems:
            ctx.report(
                "MS116",
                None,
                path,
                found=f"the override {shown}: {problems[0].found}",
                expected="a value as YAML",
                fix=problems[0].fix,
            )
            continue
        for node in walk(value):
            node.origin, node.line, node.column = shown, None, None
        _put(ctx, root, path, value, shown)


def _put(ctx: Context, root: Node, path: str, value: Node, shown: str) -> None:
    parts = [part for part in path.split(".") if part]
    if not parts:
        ctx.report(
            "MS116",
            None,
            "override",
            found=f"the override {shown} without a path",
            expected="a dotted path",
            fix='write "options.0.price"',
        )
        return
    node = root
    done: list[str] = []
    while len(parts) > 1:
        step = _step(root, node, parts)
        if step is None:
            if node.mapping is None or not _may_be_key(parts[0]):
                _nowhere(ctx, node, parts[0], done, path, shown)
                return
            # A section that the file leaves out: made on the way, checked like any other.
            fresh = Node({}, None, None, keys={}, origin=shown)
            _set(node, parts[0], fresh)
            node, taken = fresh, 1
        else:
            node, taken = step
        done += parts[:taken]
        parts = parts[taken:]
    step = _step(root, node, parts)
    while step is not None and step[1] == 0:
        node = step[0]
        step = _step(root, node, parts)
    last = parts[0] if step is None else ".".join(parts[: step[1]])
    if node.items is not None:
        index = _index(node, last)
        if index is None:
            _nowhere(ctx, node, last, done, path, shown)
            return
        node.items[index] = value
        return
    if node.mapping is None:
        _nowhere(ctx, node, last, done, path, shown)
        return
    _set(node, last, value)


def _set(node: Node, key: str, value: Node) -> None:
    assert isinstance(node.value, dict)
    assert node.keys is not None
    match = next((k for k in node.value if k == key), None) or next(
        (k for k in node.value if slug(k) == slug(key)), key
    )
    node.value[match] = value
    node.keys[match] = (None, None)


def _may_be_key(part: str) -> bool:
    return not part.isdigit()


def _step(root: Node, node: Node, parts: list[str]) -> tuple[Node, int] | None:
    """The child that the first part (or the first few, for names with dots) leads to, and how many parts it took."""
    for taken in range(1, len(parts) + 1):
        part = ".".join(parts[:taken])
        if node.mapping is not None:
            if part in node.mapping:
                return node.mapping[part], taken
            key = next((k for k in node.mapping if slug(k) == slug(part)), None)
            if key is not None:
                return node.mapping[key], taken
        if node.items is not None:
            index = _index(node, part)
            if index is not None:
                return node.items[index], taken
    return _detour(root, node, parts)


def _detour(root: Node, node: Node, parts: list[str]) -> tuple[Node, int] | None:
    """`options.0` of a file with `cluster`; `pools.0` of a rented or built option; the pool behind a mix's reference."""
    top = root.mapping or {}
    if (
        node is root
        and parts[0] == "options"
        and "cluster" in top
        and len(parts) > 1
        and parts[1] in ("0", slug(_name(top["cluster"])))
    ):
        return top["cluster"], 2
    mapping = node.mapping or {}
    if parts[:2] == ["pools", "0"] and "pools" not in mapping:
        return (_site(root, mapping["site"].raw), 2) if "site" in mapping else (node, 2)  # type: ignore[return-value]
    if "option" in mapping and mapping["option"].is_scalar and len(mapping) == 1:
        options = top.get("options")
        index = _index(options, mapping["option"].raw) if options is not None and options.items is not None else None
        if options is not None and options.items is not None and index is not None:
            target = options.items[index]
            site = (target.mapping or {}).get("site")
            return (_site(root, site.raw) or target, 0) if site is not None else (target, 0)
    if "site" in mapping and mapping["site"].is_scalar and "kind" not in mapping:
        site_node = _site(root, mapping["site"].raw)
        return (site_node, 0) if site_node is not None else None
    return None


def _site(root: Node, name: str) -> Node | None:
    sites = (root.mapping or {}).get("sites")
    return (sites.mapping or {}).get(name) if sites is not None else None


def _name(node: Node) -> str:
    name = (node.mapping or {}).get("name")
    return name.raw if name is not None else ""


def _index(node: Node, part: str) -> int | None:
    items = node.items or []
    if part.isdigit():
        return int(part) if int(part) < len(items) else None
    for index, item in enumerate(items):
        name = _name(item)
        if name and slug(name) == slug(part):
            return index
    return None


def _nowhere(ctx: Context, node: Node, part: str, done: list[str], path: str, shown: str) -> None:
    place = ".".join(done) or "the file"
    if node.items is not None:
        names = [slug(_name(item)) for item in node.items if _name(item)]
        expected = f"an index from 0 to {len(node.items) - 1}" + (f" or a name ({', '.join(names)})" if names else "")
        near = did_you_mean(part, names)
    else:
        expected = "a path to a key of the file"
        near = did_you_mean(part, list(node.mapping or {}))
    fix = f"did you mean '{near[0]}'?" if near else "check the path against the file"
    ctx.report(
        "MS116", None, path, found=f"the override {shown}: there is no '{part}' in {place}", expected=expected, fix=fix
    )
