"""A row of the evidence as a question to the step model: model, batch, machine, profile, layout. Never a guess left unsaid."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from makespan import catalog
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import Layout, Recompute, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.step import SearchConstraints
from makespan.specs.training import StepConfig
from makespan.validation.architectures import model_spec
from makespan.validation.cells import NotExpressible, count, needed_count, number
from makespan.validation.files import Row, mapping
from makespan.validation.machine import cluster_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row, expressed.

    layout : None where the row does not state it; then `constraints` holds what it does state, and the search decides.
    label : accelerator as the summary names it.   notes : what was assumed for blank cells.
    """

    model: ModelSpec
    config: StepConfig
    cluster: ClusterSpec
    profile: FrameworkProfile
    layout: Layout | None
    constraints: SearchConstraints
    label: str
    notes: tuple[str, ...]


def published_step_time_s(row: Row) -> float | None:
    """Measured time of a step: as printed, or tokens of a step over printed throughput. [s]"""
    printed = number(row, "step_time_s")
    if printed is not None:
        return printed
    rate, batch = number(row, "tokens_per_s_per_gpu"), count(row, "global_batch")
    seq_len, num = count(row, "seq_len"), count(row, "n_gpus")
    if rate is None or batch is None or seq_len is None or num is None:
        return None
    return batch * seq_len / (rate * num)


def case_of(row: Row, models: Mapping[str, Any]) -> Case:
    """The question a row asks.

    Raises
    ------
    NotExpressible : and why.
    """
    if row.get("task", "").lower() == "lora" or row.get("model", "").endswith("__lora"):
        raise NotExpressible("LoRA fine-tuning: the step model trains every weight")
    notes: list[str] = []
    seq_len = needed_count(row, "seq_len")
    cluster, label, machine_notes = cluster_of(row)
    model, model_notes = model_spec(row.get("model", ""), models, seq_len=seq_len)
    model = _as_run(model, row, seq_len, notes)
    rule, profile = _profile(row, notes)
    config = StepConfig(
        global_batch=_global_batch(row, notes), seq_len=seq_len, precision=_precision(row, cluster, notes)
    )
    layout, constraints = _layout(row, model, config, cluster, rule, notes)
    return Case(
        model=model,
        config=config,
        cluster=cluster,
        profile=profile,
        layout=layout,
        constraints=constraints,
        label=label,
        notes=(*model_notes, *machine_notes, *notes),
    )


def _as_run(model: ModelSpec, row: Row, seq_len: int, notes: list[str]) -> ModelSpec:
    """The architecture as this run trained it: prediction layers left out, attention inside packed documents only."""
    text = row.get("notes", "")
    if model.mtp_layers and ("w/o MTP" in text or "automodel" in row.get("framework", "").lower()):
        model = dataclasses.replace(model, mtp_layers=0)
        notes.append("without multi-token prediction")
    if re.search(r"task=SFT|\bSFT\b.*packed|packed seq", text) and model.window is None:
        share = float(mapping()["packed_attention_fraction"])
        model = dataclasses.replace(model, window=max(1, round(share * seq_len / 2)))
        notes.append(f"packed fine-tuning: {share:.0%} of full causal attention assumed")
    return model


def _profile(row: Row, notes: list[str]) -> tuple[Mapping[str, Any], FrameworkProfile]:
    """The first rule that fits the framework's name and date, and the first of its profiles that the catalog has."""
    text, date = row.get("framework", "").lower(), row.get("date", "")
    known = catalog.names("framework")
    for rule in mapping()["rules"]:
        if rule["match"] and not re.search(rule["match"], text):
            continue
        if "before" in rule and not (date and date < str(rule["before"])):
            continue
        chosen = next((name for name in rule["profiles"] if name in known), None)
        if chosen is None:
            break
        if not rule["match"]:
            notes.append(f"framework '{row.get('framework', '')[:40]}' taken for {chosen}")
        return rule, _switched(row, catalog.framework(chosen).spec, notes)
    raise NotExpressible("the catalog has no framework profile for this software")


def _switched(row: Row, profile: FrameworkProfile, notes: list[str]) -> FrameworkProfile:
    """The profile with what the row says about overlap and graphs switched on."""
    for switch in mapping()["switches"]:
        if re.search(switch["match"], row.get(switch["column"], ""), re.IGNORECASE):
            changes = {name: getattr(profile, name) * factor for name, factor in switch["times"].items()}
            profile = dataclasses.replace(profile, **changes)
            notes.append(switch["name"])
    return profile


def _global_batch(row: Row, notes: list[str]) -> int:
    stated = count(row, "global_batch")
    if stated is not None:
        return stated
    dp, micro = count(row, "dp"), count(row, "micro_batch")
    if dp is None or micro is None:
        raise NotExpressible("global_batch is not stated")
    notes.append("global batch not stated: one micro-batch a replica")
    return dp * micro


_PRECISIONS = (
    ("nvfp4", r"nvfp4|\bfp4\b"),
    ("mxfp8", r"fp8-mx|mxfp8|mx-fp8"),
    ("fp8", r"fp8|float8|e4m3"),
    ("bf16", r"bf16|bfloat16"),
    ("fp16", r"fp16|float16"),
)


def _precision(row: Row, cluster: ClusterSpec, notes: list[str]) -> str:
    text = row.get("precision", "").lower()
    if not text:
        notes.append("precision not stated: bf16")
        name = "bf16"
    else:
        name = next((name for name, pattern in _PRECISIONS if re.search(pattern, text)), "")
        if not name or "int8" in text:
            raise NotExpressible(f"precision '{text[:60]}' cannot be expressed")
    arithmetic = {"mxfp8": "fp8", "nvfp4": "fp4"}.get(name, name)
    if arithmetic not in cluster.accelerator.peak_flop_per_s:
        raise NotExpressible(f"{cluster.accelerator.name} has no {arithmetic}")
    return name


_RECOMPUTE = (
    (Recompute.NONE, r"none|no|off"),
    (Recompute.FULL, r"full|remat full"),
    (Recompute.SELECTIVE, r"selective|remat save_\w+|fused sdpa.*"),
)
_SHARDING = (
    (Sharding.NONE, r"none"),
    (Sharding.ZERO1, r"zero-?1"),
    (Sharding.ZERO2, r"zero-?2"),
    (Sharding.ZERO3, r"zero-?3|fsdp2?|hsdp.*"),
)


def _choice(row: Row, name: str, table: Any, blank: str, notes: list[str]) -> Any:
    """The value whose pattern the cell matches; the blank cell's rule is said in the notes."""
    text = row.get(name, "").lower()
    if not text:
        notes.append(f"{name} not stated: {blank}")
        text = blank
    for value, pattern in table:
        if re.fullmatch(pattern, text):
            return value
    raise NotExpressible(f"{name} '{text[:60]}' cannot be expressed")


def _layout(
    row: Row,
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    rule: Mapping[str, Any],
    notes: list[str],
) -> tuple[Layout | None, SearchConstraints]:
    """The row's layout, or, where its parallel sizes are not stated, what is known of it."""
    blank = rule["blank"]
    recompute = _choice(row, "recompute", _RECOMPUTE, blank["recompute"], notes)
    if "remat save" in row.get("recompute", ""):
        notes.append("partial rematerialisation taken for selective recompute")
    sharding = _choice(row, "sharding", _SHARDING, blank["sharding"], notes)
    if row.get("sharding", "").lower().startswith("hsdp"):
        notes.append("sharding inside a group of replicas taken for sharding over all")
    sizes = {name: count(row, name) for name in ("tp", "pp", "cp", "ep", "etp", "vpp", "dp", "micro_batch")}
    if sizes["tp"] is None or sizes["pp"] is None:
        notes.append("layout not stated: the fastest that fits")
        known = {name: sizes[name] for name in ("tp", "pp", "cp", "ep", "vpp", "dp", "micro_batch")}
        return None, SearchConstraints(
            **known,  # type: ignore[arg-type]
            recompute=recompute.name.lower(),
            sharding=sharding.name.lower(),
        )
    tp, pp = sizes["tp"], sizes["pp"]
    cp, ep = sizes["cp"] or 1, sizes["ep"] or 1
    dp = _replicas(cluster.num_accelerators, tp * pp * cp, sizes["dp"])
    micro = sizes["micro_batch"]
    if micro is None:
        micro = max(1, config.global_batch // dp) if sharding is Sharding.ZERO3 and pp == 1 else 1
        notes.append(f"micro-batch not stated: {micro}")
    sequence_parallel = {"yes": True, "no": False}.get(row.get("seq_par", "").lower(), tp > 1)
    layout = Layout(
        tp=tp,
        pp=pp,
        cp=cp,
        dp=dp,
        ep=ep,
        etp=_expert_tp(model, sizes, tp * cp * dp, notes),
        vpp=_interleaving(
            model, pp, sizes["vpp"], config.global_batch // max(1, dp * micro), bool(rule.get("interleaves")), notes
        ),
        micro_batch=micro,
        recompute=recompute,
        sharding=sharding,
        sequence_parallel=sequence_parallel and tp > 1,
    )
    return layout, SearchConstraints()


def _replicas(num_accelerators: int, each: int, stated: int | None) -> int:
    if num_accelerators % each:
        raise NotExpressible(f"tp * pp * cp = {each} does not divide {num_accelerators} accelerators")
    dp = num_accelerators // each
    if stated is not None and stated != dp:
        raise NotExpressible(f"tp * pp * cp * dp = {each * stated}, not the {num_accelerators} accelerators stated")
    return dp


def _expert_tp(model: ModelSpec, sizes: Mapping[str, int | None], ranks: int, notes: list[str]) -> int:
    """Tensor-parallel size inside an expert. Not stated: as outside, which is Megatron's default, where it divides."""
    tp, ep = sizes["tp"] or 1, sizes["ep"] or 1
    if model.moe is None or tp == 1:
        return sizes["etp"] or 1
    if sizes["etp"] is not None:
        return sizes["etp"]
    etp = tp if ranks % (ep * tp) == 0 and model.moe.expert_ffn % tp == 0 else 1
    notes.append(f"tensor parallelism inside experts not stated: etp {etp}")
    return etp


def _interleaving(
    model: ModelSpec, pp: int, stated: int | None, micro_batches: int, may: bool, notes: list[str]
) -> int:
    """Chunks a stage. Not stated: one layer a chunk where the software interleaves and the counts allow it."""
    if pp == 1:
        return 1
    if stated is not None:
        return stated
    vpp = model.num_layers // pp if may and model.num_layers % pp == 0 and micro_batches % pp == 0 else 1
    notes.append(f"interleaving not stated: vpp {vpp}")
    return vpp
