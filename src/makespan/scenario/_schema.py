"""The JSON Schema of scenario files, for editors."""

from __future__ import annotations

from typing import Any

from makespan.units import QUANTITIES

SCHEMA_ID = "https://makespan.dev/schema/scenario-1.json"


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a scenario file, written by the models that check it."""
    from makespan.scenario._shape import ScenarioShape

    schema = ScenarioShape.model_json_schema(by_alias=True)
    # Only there so that an option of unknown kind gets one message; an editor knows the three kinds.
    schema["$defs"].pop("AnyOptionShape")
    used: dict[str, None] = {}
    _tidy(schema, used)
    definitions = schema.setdefault("$defs", {})
    for name in sorted(used):
        definitions[name] = _value_schema(name)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema}


def _tidy(node: Any, used: dict[str, None]) -> None:
    """Turn `x-ref` into references, drop defaults of null and titles that only repeat the key."""
    if isinstance(node, list):
        for item in node:
            _tidy(item, used)
        return
    if not isinstance(node, dict):
        return
    if "x-ref" in node:
        name = node.pop("x-ref")
        used[name] = None
        node["$ref"] = f"#/$defs/{name}"
    if "default" in node and node["default"] in (None, ""):
        del node["default"]
    if isinstance(node.get("title"), str) and "properties" not in node:
        del node["title"]
    if isinstance(node.get("title"), str):
        node["title"] = node["title"].removesuffix("Shape")
    if "oneOf" in node:
        node["oneOf"] = [form for form in node["oneOf"] if not str(form.get("$ref", "")).endswith("/AnyOptionShape")]
    for key, value in node.items():
        if key == "properties":
            for item in value.values():
                _tidy(item, used)
        else:
            _tidy(value, used)


def _value_schema(name: str) -> dict[str, Any]:
    """A value of one quantity: plain, or with its uncertainty and its source."""
    form, _, kinds = name.partition("_")
    names = kinds.split("_or_")
    if names == ["date"]:
        one: dict[str, Any] = {"type": "string", "description": "An ISO date, such as 2027-03-01."}
        one["pattern"] = r"^(\d{4}-\d{2}-\d{2}|never)$"
    else:
        quantities = [QUANTITIES[kind] for kind in names]
        text = " or ".join(f"{q.noun}, such as {q.example}" for q in quantities)
        types = ["string", "number"] if any(q.bare_number for q in quantities) else ["string"]
        one = {"type": types, "description": text[0].upper() + text[1:]}
    keys: dict[str, Any] = {
        "value": one,
        "range": {"type": "array", "items": one, "minItems": 2, "maxItems": 2},
        "p10": one,
        "p50": one,
        "p90": one,
        "values": {"type": "array", "items": one, "minItems": 1},
        "weights": {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 1},
    }
    if form == "plain":
        keys = {"value": one}
    words = {
        key: {"type": "string", "minLength": 1} for key in ("source", "assumed", "decision", "how", "where", "note")
    }
    words["known_on"] = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
    words["kind"] = {"enum": ["measured", "datasheet", "published", "derived", "quoted"]}
    mapping = {
        "type": "object",
        "properties": {**keys, **words},
        "additionalProperties": False,
        "anyOf": [{"required": ["value"]}]
        if form == "plain"
        else [
            {"required": ["value"]},
            {"required": ["range"]},
            {"required": ["p10", "p50", "p90"]},
            {"required": ["values"]},
        ],
    }
    return {"anyOf": [one, mapping]}
