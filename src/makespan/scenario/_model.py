"""`model:` to candidate architectures."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from makespan.scenario._hf import ConfigError, model_from_file
from makespan.scenario._names import look_up
from makespan.scenario._section import Section
from makespan.specs.model import MambaSpec, MlaSpec, ModelSpec, MoeSpec
from makespan.specs.scenario import ModelChoice
from makespan.workload import layer_kinds

_SIZES = ("num_layers", "hidden", "num_heads", "vocab")


def read_models(top: Section) -> tuple[ModelChoice, ...]:
    """Every candidate with its weight; empty, with problems, where nothing can be read."""
    from makespan.scenario._shape import CandidateShape, CandidatesShape, ModelShape

    node = top.child("model")
    if node is None:
        return ()
    if node.is_scalar:
        found = look_up(top.ctx, "model", node.raw.strip(), node, "model")
        return (ModelChoice(model=found.spec, weight=1.0),) if found is not None else ()
    if "candidates" not in (node.mapping or {}):
        section = top.sub("model", ModelShape)
        model = _one(section) if section is not None else None
        return (ModelChoice(model=model, weight=1.0),) if model is not None else ()
    section = top.sub("model", CandidatesShape)
    if section is None:
        return ()
    choices = []
    total = 0.0
    for candidate in section.each("candidates", CandidateShape):
        model = _one(candidate)
        weight = candidate.number("weight") if candidate.has("weight") else 1.0
        total += weight or 0.0
        if model is not None and weight is not None:
            choices.append(ModelChoice(model=model, weight=weight))
    if choices and total <= 0:
        section.report(
            "MS206",
            "candidates",
            found="weights that are all 0",
            expected="at least one weight above 0",
            fix="weights need not add up to 1",
        )
        return ()
    return tuple(choices)


def _one(section: Section) -> ModelSpec | None:
    """One architecture: by name, by config.json, or by its sizes."""
    inline = [key for key in (*_SIZES, "moe", "mla", "ffn_hidden", "head_dim") if section.has(key)]
    given = [key for key in ("hf", "num_layers") if section.has(key)]
    if len(given) > 1 or (section.has("hf") and inline):
        section.report(
            "MS114",
            "hf",
            found=f"'hf' beside {', '.join(inline)}",
            expected="a config.json or sizes, not both",
            fix="delete one of them",
        )
        return None
    if section.has("hf"):
        return _from_config(section)
    if inline:
        return _from_sizes(section)
    if not section.has("name"):
        section.report(
            "MS112",
            "",
            found="no 'name'",
            expected="a name of the catalog, 'hf', or the model's sizes",
            fix="add 'name: ...'",
        )
        return None
    if section.failed("name"):
        return None
    node = section.child("name")
    found = look_up(section.ctx, "model", section.text("name"), node, section.at("name"))
    return found.spec if found is not None else None


def _from_config(section: Section) -> ModelSpec | None:
    written = section.text("hf")
    if not written:
        return None
    path = Path(os.path.expanduser(written))
    if not path.is_absolute() and section.ctx.folder:
        path = Path(section.ctx.folder) / path
    try:
        model = model_from_file(path)
    except (ConfigError, ValueError) as error:
        section.report(
            "MS305",
            "hf",
            found=str(error),
            expected="a Hugging Face config.json of a known architecture",
            fix="check the path (relative to this file), or write the model's sizes",
        )
        return None
    name = section.text("name")
    return model if not name else _renamed(model, name)


def _renamed(model: ModelSpec, name: str) -> ModelSpec:
    from dataclasses import replace

    return replace(model, name=name)


def _from_sizes(section: Section) -> ModelSpec | None:
    from makespan.scenario._shape import MambaShape, MlaShape, MoeShape

    missing = [key for key in _SIZES if not section.has(key)]
    if missing:
        section.report(
            "MS112",
            "",
            found=f"a model without {', '.join(missing)}",
            expected=f"at least {', '.join(_SIZES)}",
            fix=f"add {', '.join(missing)}",
        )
    numbers: dict[str, Any] = {}
    for spec_field in fields(ModelSpec):
        key = spec_field.name
        if key in ("name", "mla", "moe", "mamba") or not section.has(key):
            continue
        if key in ("pattern", "mtp_pattern"):
            numbers[key] = section.text(key)
            continue
        quantity = _quantity_of(section, key)
        numbers[key] = section.flag(key, False) if quantity is None else section.whole(key)
    moe = _group(section.sub("moe", MoeShape), MoeSpec)
    mla = _group(section.sub("mla", MlaShape), MlaSpec)
    mamba = _group(section.sub("mamba", MambaShape), MambaSpec)
    if (
        missing
        or any(value is None for value in numbers.values())
        or any(section.has(k) and v is None for k, v in (("moe", moe), ("mla", mla), ("mamba", mamba)))
    ):
        return None
    numbers.setdefault("num_kv_heads", numbers["num_heads"])
    if "head_dim" not in numbers:
        if numbers["hidden"] % numbers["num_heads"]:
            section.report(
                "MS409",
                "num_heads",
                found=f"{numbers['num_heads']} heads for a width of {numbers['hidden']}",
                expected="heads that divide the width, or head_dim",
                fix="add head_dim",
            )
            return None
        numbers["head_dim"] = numbers["hidden"] // numbers["num_heads"]
    if numbers["num_heads"] % numbers["num_kv_heads"]:
        section.report(
            "MS409",
            "num_kv_heads",
            found=f"{numbers['num_kv_heads']} KV heads for {numbers['num_heads']} heads",
            expected="KV heads that divide the heads",
            fix="check both numbers",
        )
        return None
    if moe is not None and moe.top_k > moe.num_experts:
        section.report(
            "MS409",
            "moe",
            found=f"top_k {moe.top_k} of {moe.num_experts} experts",
            expected="at most as many as there are experts",
            fix="check both numbers",
        )
        return None
    pattern = numbers.get("pattern", "") + numbers.get("mtp_pattern", "")
    if "-" in pattern if pattern else (moe is None or moe.num_dense_first_layers or moe.every > 1):
        if "ffn_hidden" not in numbers:
            section.report(
                "MS112",
                "",
                found="a dense model without ffn_hidden",
                expected="ffn_hidden, the inner width of the feed-forward",
                fix="add ffn_hidden",
            )
            return None
    else:
        numbers.setdefault("ffn_hidden", 0)
    model = ModelSpec(name=section.text("name", "model of the scenario"), moe=moe, mla=mla, mamba=mamba, **numbers)
    try:
        layer_kinds(model)
    except ValueError as error:
        section.report(
            "MS409",
            "pattern",
            found=str(error).partition(": ")[2],
            expected="one letter a layer (M, *, -, E), and the sizes of what they stand for",
            fix="check pattern, num_layers, mamba and moe",
        )
        return None
    return model


def _quantity_of(section: Section, key: str) -> Any:
    from makespan.scenario._shape import fields_of

    return fields_of(section.shape)[key]


def _group(section: Section | None, spec: type[Any]) -> Any:
    if section is None:
        return None
    values = {f.name: section.whole(f.name) for f in fields(spec) if section.has(f.name)}
    required = [name for name, info in section.shape.model_fields.items() if info.is_required()]
    if any(value is None for value in values.values()) or any(name not in values for name in required):
        return None
    return spec(**values)
