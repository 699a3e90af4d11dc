"""pydantic's verdict on the shape of a file, told in our words and at the right line."""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin

from makespan.scenario._context import Context, comma_hint, suggestion
from makespan.scenario._tree import Loc, Node, locate, plain

MOST_PROBLEMS = 200
"""Problems of shape that are spelt out; a file with more of them is another kind of file."""


def check_shape(ctx: Context, root: Node) -> None:
    """Report unknown keys, missing keys and wrong types; mark the places so that nothing else complains of them."""
    from pydantic import ValidationError

    from makespan.scenario._shape import ScenarioShape

    try:
        ScenarioShape.model_validate(plain(root))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=True, include_input=False)
        for item in found[:MOST_PROBLEMS]:
            _report(ctx, root, item)
        for item in found[MOST_PROBLEMS:]:
            ctx.bad.add(_untagged(item["loc"]))
        if len(found) > MOST_PROBLEMS:
            more = f"{len(found) - MOST_PROBLEMS:,} more problems of this kind"
            ctx.report(
                "MS111", root, "file", found=more, expected="a scenario", fix="check that this is a scenario file"
            )


def _untagged(tagged: Loc) -> Loc:
    """The place without the names of the forms that were tried."""
    return tuple(part for part in tagged if not (isinstance(part, str) and part.startswith("<") and part.endswith(">")))


def _report(ctx: Context, root: Node, error: Any) -> None:
    tagged: Loc = error["loc"]
    loc = _untagged(tagged)
    ctx.bad.add(loc)
    node, path, place = locate(root, loc)
    kind = error["type"]
    key = str(loc[-1]) if loc else ""
    if kind == "extra_forbidden":
        keys = _keys(tagged[:-1])
        ctx.report(
            "MS111",
            node,
            path,
            found=f"the key '{key}'",
            expected=f"one of the keys {', '.join(keys)}",
            fix=comma_hint(key, node) or _unknown_key_hint(key, keys, path),
            place=place,
        )
    elif kind == "missing":
        parent, _, at = locate(root, loc[:-1])
        ctx.report(
            "MS112",
            parent,
            path,
            found=f"no '{key}'",
            expected=f"the key '{key}'{_example(key)}",
            fix=f"add '{key}: ...'",
            place=at,
        )
    elif kind == "literal_error":
        expected = str(error["ctx"]["expected"]).replace(" or ", ", ").split(", ")
        words = [word.strip("'") for word in expected]
        ctx.report(
            "MS208",
            node,
            path,
            found=node.describe(),
            expected=f"one of {', '.join(words)}",
            fix=suggestion(node.raw, words),
        )
    elif kind in ("greater_than_equal", "less_than_equal", "less_than", "greater_than"):
        ctx.report(
            "MS203",
            node,
            path,
            found=node.describe(),
            expected=str(error["msg"]).replace("Input should be ", "a number "),
            fix="check the number",
        )
    elif kind in ("string_too_short",):
        ctx.report(
            "MS306", node, path, found="an empty text", expected="some text", fix="write it, or leave the key out"
        )
    else:
        expected_text, fix = _wrong_type(kind, node, error)
        ctx.report("MS113", node, path, found=node.describe(), expected=expected_text, fix=fix)


def _wrong_type(kind: str, node: Node, error: Any) -> tuple[str, str]:
    if node.value is None and node.is_scalar:
        what = {
            "string_type": "text",
            "list_type": "a list",
            "bool_type": "true or false",
            "int_type": "a whole number",
        }
        return what.get(kind, "a mapping"), "write a value, or leave the key out"
    if kind == "string_type":
        return "text", f'put it in quotes: "{node.raw}"' if node.is_scalar else "write one text"
    if kind in ("list_type", "too_short", "too_long"):
        if kind != "list_type":
            return str(error["msg"]).replace("List should have ", "a list of ").replace(
                " after validation", ""
            ), "add or remove items"
        return "a list", f"write [{node.raw}]" if node.is_scalar else "start each item with '- '"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return "a mapping of keys to values", "write 'key: value' lines below it"
    if kind == "bool_type":
        return "true or false", "write true or false"
    if kind in ("int_type", "int_from_float"):
        return "a whole number", "write it without quotes, unit or decimals"
    if kind.startswith("union_tag"):
        return "a name or a mapping", "see docs/explain/scenario.md for the forms it may take"
    return str(error["msg"]), "see docs/explain/scenario.md"


_EXAMPLES = {
    "makespan": ", the version of the format: 1",
    "as_of": ", the day the plan is made: 2026-11-01",
    "model": ", a name of the catalog or the model's sizes",
    "kind": ": rent, build or mix",
}


def _example(key: str) -> str:
    return _EXAMPLES.get(key, "")


_MOVED = {
    "by": "call it 'deadline'",
    "date": "call it 'from'",
    "gpu": "call it 'accelerator'",
    "gpus": "call it 'accelerator' and 'count'",
    "batch_size": "call it 'global_batch'",
    "batch": "call it 'global_batch'",
    "sequence_length": "call it 'seq_len'",
    "context_length": "call it 'seq_len'",
    "flops": "call it 'compute'",
    "budget": "call it 'tokens' or 'compute'",
    "<<": "merge keys are no part of YAML 1.2: write the keys out, or use an alias for one value",
}


def _unknown_key_hint(key: str, keys: list[str], path: str) -> str:
    moved = _MOVED.get(key.lower())
    if moved is not None and (key == "<<" or moved.split("'")[1] in keys):
        return moved
    top = _keys(())
    if "." in path and key in top and key not in keys:
        return f"'{key}' belongs at the top of the file: check the indentation"
    return suggestion(key, keys, otherwise="delete it, or put free text into `note`")


def _keys(loc: Loc) -> list[str]:
    """Keys that the shape at a place allows."""
    from makespan.scenario._shape import ScenarioShape

    kind: Any = ScenarioShape
    for part in loc:
        kind = _descend(kind, part)
        if kind is None:
            return []
    fields = getattr(_bare(kind), "model_fields", {})
    # What says where a number comes from, or is free text, is allowed nearly everywhere: last in the list.
    last = ("source", "assumed", "decision", "how", "where", "known_on", "note")
    keys = [info.alias or name for name, info in fields.items()]
    return sorted(keys, key=lambda key: last.index(key) if key in last else -1)


def _bare(kind: Any) -> Any:
    return _bare(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


def _descend(kind: Any, part: str | int) -> Any:
    if isinstance(part, str) and part.startswith("<"):
        from pydantic import Tag

        for form in get_args(_bare(kind)):
            if any(isinstance(m, Tag) and m.tag == part for m in get_args(form)[1:]):
                return form
        return None
    kind = _bare(kind)
    origin = get_origin(kind)
    if origin is list:
        return get_args(kind)[0]
    if origin is dict:
        return get_args(kind)[1]
    if origin in (Union, types.UnionType):
        return kind
    for name, info in getattr(kind, "model_fields", {}).items():
        if part in (name, info.alias):
            return info.annotation
    return None
