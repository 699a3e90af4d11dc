"""A row of the evidence as a question to the step model: model, batch, machine, profile, layout. Never a guess left unsaid."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import CudaGraphs, Layout, Recompute, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.search import SearchConstraints
from makespan.specs.training import OptimizerSpec, StepConfig
from makespan.step import step_estimate
from makespan.step.legality import END_SLOTS
from makespan.validation.architectures import model_spec
from makespan.validation.cells import NotExpressible, count, needed_count, number, text_of
from makespan.validation.files import Row, mapping
from makespan.validation.machine import cluster_of
from makespan.validation.software import Software, software_of
from makespan.validation.wording import (
    cp_kind_of,
    ep_overlap_of,
    flag_of,
    graphs_of,
    has_expert_dispatcher,
    offload_of,
    recompute_of,
    schedule_of,
    shard_size_of,
    sharding_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row, expressed.

    layout : None where the row does not state it; then `constraints` holds what it does state, and the search decides.
    label : accelerator as the summary names it.   notes : what was assumed for blank cells.
    software : class of the framework (`megatron`, `fsdp`, `jax`).
    variant : what tells two configurations apart beyond model, machine, batch and layout: the recipe of the precision,
        switches of the profile, eager or compiled and the like.
    """

    model: ModelSpec
    config: StepConfig
    cluster: ClusterSpec
    profile: FrameworkProfile
    layout: Layout | None
    constraints: SearchConstraints
    label: str
    notes: tuple[str, ...]
    software: str = ""
    variant: tuple[str, ...] = ()


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


def is_lora(row: Row) -> bool:
    """Whether only adapters are trained: reported apart, the step model trains every weight."""
    return "lora" in text_of(row, "task") or text_of(row, "model").endswith("__lora")


def case_of(row: Row, models: Mapping[str, Any]) -> Case:
    """The question a row asks.

    Raises
    ------
    NotExpressible : and why.
    """
    if is_lora(row):
        raise NotExpressible("LoRA fine-tuning: the step model trains every weight")
    notes: list[str] = []
    seq_len = needed_count(row, "seq_len")
    cluster, label, machine_notes = cluster_of(row)
    model, model_notes = model_spec(_model_name(row, models, notes), models, seq_len=seq_len)
    model = _as_run(model, row, seq_len, notes)
    software = software_of(row, notes)
    precision, recipe = _precision(row, cluster, notes)
    config = StepConfig(
        global_batch=_global_batch(row, notes),
        seq_len=seq_len,
        precision=precision,
        optimizer=_optimizer(row, notes),
        load_imbalance=_load_imbalance(row, model, notes),
    )
    layout, constraints = _layout(row, model, config, cluster, software, notes)
    if layout is not None:
        _note_kv_heads(model, layout.tp, notes)
        layout = _to_fit(layout, row, model, config, cluster, software, notes)
    return Case(
        model=model,
        config=config,
        cluster=cluster,
        profile=software.profile,
        layout=layout,
        constraints=constraints,
        label=label,
        notes=(*model_notes, *machine_notes, *notes),
        software=software.kind,
        variant=(recipe, *software.switches, *software.variants),
    )


def _model_name(row: Row, models: Mapping[str, Any], notes: list[str]) -> str:
    """The key of the models file; one that differs in case, dashes or dots only is taken for it."""
    name = (row.get("model") or "").strip()
    if name in models or not name:
        return name
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    same = [key for key in models if re.sub(r"[^a-z0-9]", "", key.lower()) == plain]
    if len(same) == 1:
        notes.append(f"model '{name[:40]}' taken for {same[0]}")
        return same[0]
    return name


def _as_run(model: ModelSpec, row: Row, seq_len: int, notes: list[str]) -> ModelSpec:
    """The architecture as this run trained it: prediction layers left out, attention inside packed documents only."""
    text = row.get("notes") or ""
    without = re.search(r"(w/o|without|no) MTP\b|\bMTP ?= ?0\b", text, re.IGNORECASE)
    if model.mtp_layers and (without or "automodel" in text_of(row, "framework")):
        model = dataclasses.replace(model, mtp_layers=0)
        notes.append("without multi-token prediction")
    packed = re.search(r"task=SFT|\bSFT\b.*packed|packed seq", text) or re.match(
        r"sft|(full )?fine-?tun", text_of(row, "task")
    )
    if packed and model.window is None:
        share = float(mapping()["packed_attention_fraction"])
        model = dataclasses.replace(model, window=max(1, round(share * seq_len / 2)))
        notes.append(f"packed fine-tuning: {share:.0%} of full causal attention assumed")
    return model


def _note_kv_heads(model: ModelSpec, tp: int, notes: list[str]) -> None:
    """Tensor parallelism wider than the KV heads keeps a copy of one on each rank."""
    if model.num_kv_heads < tp and tp % model.num_kv_heads == 0 and model.num_heads % tp == 0:
        notes.append(f"{model.num_kv_heads} KV heads copied to {tp} tensor-parallel ranks")


def _global_batch(row: Row, notes: list[str]) -> int:
    stated = count(row, "global_batch")
    if stated is not None:
        return stated
    dp, micro = count(row, "dp"), count(row, "micro_batch")
    if dp is None or micro is None:
        raise NotExpressible("global_batch is not stated")
    notes.append("global batch not stated: one micro-batch a replica")
    return dp * micro


def _optimizer(row: Row, notes: list[str]) -> OptimizerSpec:
    text = text_of(row, "notes")
    if re.search(r"precision=[\w-]+/pure\b", text):
        notes.append("gradients summed in 2 bytes each")
        return OptimizerSpec(gradient_bytes=2.0)
    if re.search(r"reduced[- ]precision optimizer (moments|states)|(bf16|fp8|8-bit)[- ](optimizer )?moments", text):
        notes.append("moments of the optimizer in 2 bytes each")
        return OptimizerSpec(name="profile", moment_bytes=4.0)
    if row.get("model", "") in mapping()["moments_in_16_bits"] and "bridge" in text_of(row, "framework"):
        notes.append("moments of the optimizer in 2 bytes each, as in this model's recipes")
        return OptimizerSpec(name="profile", moment_bytes=4.0)
    return OptimizerSpec(name="profile")


def _load_imbalance(row: Row, model: ModelSpec, notes: list[str]) -> float:
    """Benchmarks force routing to balance; some rows say that they did not."""
    if model.moe is None or not re.search(
        r"natural (\(unbalanced\) )?routing|unbalanced routing", text_of(row, "notes")
    ):
        return 1.0
    imbalance = float(mapping()["natural_routing_imbalance"])
    notes.append(f"routing not balanced: {imbalance:g} times the mean on the busiest rank assumed")
    return imbalance


_PRECISIONS = (
    ("nvfp4", r"nvfp4|\bfp4\b|mxfp4"),
    ("mxfp8", r"fp8[-_ ]?mx|mx[-_ ]?fp8"),
    ("fp8", r"fp8|float8|e4m3|e5m2"),
    ("bf16", r"bf16|bfloat16|bf-16|\b16-mixed\b|\bamp\b|^mixed$"),
    ("fp16", r"fp16|float16|\bhalf\b"),
)
_RECIPES = (
    ("current scaling", r"fp8[-_ ]?cs|current[- _]scaling"),
    ("sub-channel scaling", r"fp8[-_ ]?sc|sub[- _]?channel|block[- _]?wise|blockscal"),
    ("row-wise scaling", r"row[- _]?wise"),
    ("tensor-wise scaling", r"tensor[- _]?wise"),
    ("delayed scaling", r"delayed|hybrid"),
)


def _precision(row: Row, cluster: ClusterSpec, notes: list[str]) -> tuple[str, str]:
    """The name of `StepConfig.precision`, and the recipe of its scales as far as the row says."""
    text = text_of(row, "precision")
    name = next((name for name, pattern in _PRECISIONS if re.search(pattern, text)), "")
    if not text:
        notes.append("precision not stated: bf16")
        name = "bf16"
    elif not name or "int8" in text:
        raise NotExpressible(f"precision '{text[:60]}' cannot be expressed")
    arithmetic = {"mxfp8": "fp8", "nvfp4": "fp4"}.get(name, name)
    if arithmetic not in cluster.accelerator.peak_flop_per_s:
        raise NotExpressible(f"{cluster.accelerator.name} has no {arithmetic}")
    said = f"{text}; {text_of(row, 'notes')}"
    recipe = next((recipe for recipe, pattern in _RECIPES if name == "fp8" and re.search(pattern, said)), "")
    return name, recipe


def _layout(
    row: Row, model: ModelSpec, config: StepConfig, cluster: ClusterSpec, software: Software, notes: list[str]
) -> tuple[Layout | None, SearchConstraints]:
    """The row's layout, or, where its parallel sizes are not stated, what is known of it."""
    sizes = {name: count(row, name) for name in ("tp", "pp", "cp", "ep", "etp", "vpp", "dp", "micro_batch")}
    _fill(sizes, cluster.num_accelerators, software, notes)
    recompute = _recompute(row, model, sizes["pp"] or 1, software, notes)
    sharding = sharding_of(row, notes)
    if sharding is None:
        sharding = software.sharding
        notes.append(f"sharding not stated: {sharding.name.lower()}")
    tp, pp = sizes["tp"], sizes["pp"]
    if tp is None or pp is None:
        notes.append("layout not stated: the fastest that fits")
        known = {name: sizes[name] for name in ("tp", "pp", "cp", "ep", "vpp", "dp", "micro_batch")}
        return None, SearchConstraints(
            **known,  # type: ignore[arg-type]
            recompute=recompute.label,
            sharding=sharding.name.lower(),
        )
    cp = sizes["cp"] or 1
    dp = _replicas(cluster.num_accelerators, tp * pp * cp, sizes["dp"], notes)
    micro = _pipelined_by_torch(row, sizes, config.global_batch // dp, software, notes)
    if micro is None:
        micro = max(1, config.global_batch // dp) if sharding is Sharding.ZERO3 and pp == 1 else 1
        notes.append(f"micro-batch not stated: {micro}")
    if model.moe is not None and sizes["ep"] is None:
        sizes["ep"] = math.gcd(tp * cp * dp, model.moe.num_experts) if has_expert_dispatcher(row) else 1
        notes.append(f"expert parallelism not stated: ep {sizes['ep']}")
    ep, etp = _expert_sizes(model, sizes, tp * cp * dp, notes)
    stated_parallel = flag_of(row, "seq_par")
    layout = Layout(
        tp=tp,
        pp=pp,
        cp=cp,
        dp=dp,
        ep=ep,
        etp=etp,
        vpp=_interleaving(
            model, pp, sizes["vpp"], config.global_batch // max(1, dp * micro), software.interleaves, notes
        ),
        micro_batch=micro,
        recompute=recompute,
        sharding=sharding,
        sequence_parallel=tp > 1 if stated_parallel is None else stated_parallel and tp > 1,
        schedule=schedule_of(row),
        cp_kind=cp_kind_of(row),
        shard_size=shard_size_of(row, dp, cluster.node.accelerators_per_node, notes)
        if sharding is Sharding.ZERO3
        else 0,
        offload=offload_of(row, model.num_layers, notes),
        cuda_graphs=graphs_of(row) or CudaGraphs.NONE,
        ep_overlap=ep > 1 and ep_overlap_of(row),
    )
    return layout, SearchConstraints()


def _fill(sizes: dict[str, int | None], num: int, software: Software, notes: list[str]) -> None:
    """A blank `tp` or `pp` that the other sizes give, or that the software leaves at 1."""
    tp, pp, dp, cp = sizes["tp"], sizes["pp"], sizes["dp"], sizes["cp"] or 1
    for name, other in (("tp", pp), ("pp", tp)):
        if sizes[name] is None and other is not None and dp is not None and num % (other * dp * cp) == 0:
            sizes[name] = num // (other * dp * cp)
            notes.append(f"{name} not stated: {sizes[name]}, from the other sizes")
    if software.shards and sizes["tp"] is None and sizes["pp"] is None and (dp is None or dp * cp == num):
        sizes["tp"] = sizes["pp"] = 1
        notes.append("layout not stated: sharded data parallelism alone")
    elif software.shards and sizes["pp"] is None and sizes["tp"] is not None and dp is None:
        sizes["pp"] = 1
        notes.append("pp not stated: 1")
    elif software.shards and sizes["tp"] is None and sizes["pp"] is not None and dp is None:
        sizes["tp"] = 1
        notes.append("tp not stated: 1")


def _recompute(row: Row, model: ModelSpec, pp: int, software: Software, notes: list[str]) -> Recompute:
    stated = recompute_of(row, selective=software.selective, num_stage_layers=model.num_layers / pp, notes=notes)
    if stated is not None:
        if stated & Recompute.UP_PROJECTION and model.mla is None:
            stated &= ~Recompute.UP_PROJECTION
        return stated
    recompute = software.recompute_latent if model.mla is not None else software.recompute
    notes.append(f"recompute not stated: {recompute.label}")
    return recompute


FAR_BEYOND = 7 / 6
"""Estimated over existing memory from which a layout cannot have run as assumed: more than the memory model's error."""


def _to_fit(
    layout: Layout,
    row: Row,
    model: ModelSpec,
    config: StepConfig,
    cluster: ClusterSpec,
    software: Software,
    notes: list[str],
) -> Layout:
    """The layout with heavier recompute where the row is silent on it and the estimated memory is far too large."""
    heavier = software.recompute_to_fit
    if heavier is None or text_of(row, "recompute"):
        return layout
    memory = step_estimate(model, config, cluster, software.profile, layout).memory
    if memory.total_bytes <= FAR_BEYOND * cluster.accelerator.hbm_bytes:
        return layout
    notes.append(f"{memory.total_bytes / 1e9:.0f} GB without recompute: {heavier.label} taken")
    return dataclasses.replace(layout, recompute=heavier)


def _replicas(num_accelerators: int, each: int, stated: int | None, notes: list[str]) -> int:
    if num_accelerators % each:
        raise NotExpressible(f"tp * pp * cp = {each} does not divide {num_accelerators} accelerators")
    dp = num_accelerators // each
    if stated is not None and stated != dp:
        notes.append(f"dp {stated} does not multiply to {num_accelerators} accelerators: {dp} taken")
    return dp


def _expert_sizes(model: ModelSpec, sizes: Mapping[str, int | None], ranks: int, notes: list[str]) -> tuple[int, int]:
    """Expert-parallel size, and the tensor-parallel size inside an expert.

    Not stated, the latter is as outside, which is Megatron's default, where it divides. A size that does not divide the
    ranks of a pipeline stage cannot have run: the largest part of it that does is taken.
    """
    if model.moe is None:
        if (sizes["ep"] or 1) > 1:
            notes.append("expert parallelism of a dense model ignored")
        return 1, 1
    stated, tp = sizes["ep"] or 1, sizes["tp"] or 1
    ep = math.gcd(math.gcd(stated, ranks), model.moe.num_experts)
    if ep != stated:
        notes.append(f"ep {stated} does not divide the {ranks} ranks of a stage or the experts: {ep} taken")
    etp = sizes["etp"]
    if etp is None:
        if tp == 1:
            return ep, 1
        etp = tp if ranks % (ep * tp) == 0 and model.moe.expert_ffn % tp == 0 else 1
        notes.append(f"tensor parallelism inside experts not stated: etp {etp}")
    elif ranks % (ep * etp) or model.moe.expert_ffn % etp:
        notes.append(f"etp {etp} does not divide: 1 taken")
        etp = 1
    return ep, etp


def _pipelined_by_torch(
    row: Row, sizes: dict[str, int | None], sequences: int, software: Software, notes: list[str]
) -> int | None:
    """The row's micro-batch; where its notes say that the cell is a guess, what torchtitan does unasked.

    As many micro-batches as pipeline ranks, two stages on a rank where they are interleaved (torchtitan,
    distributed/pipeline.py: `pipeline_parallel_microbatches`, `stages_per_rank`). Fills `sizes["vpp"]`.
    """
    micro, pp, text = sizes["micro_batch"], sizes["pp"] or 1, row.get("notes") or ""
    if software.kind != "fsdp" or pp == 1:
        return micro
    if sizes["vpp"] is None and re.search(r"\binterleaved\b", text, re.IGNORECASE):
        sizes["vpp"] = 2
        notes.append("two stages on a rank, as torchtitan interleaves unasked")
    doubt = r"(micro-?batch(es)? size|stages per rank) not stated"
    if re.search(doubt, text, re.IGNORECASE) and sequences % pp == 0:
        micro = sequences // pp
        notes.append(f"micro-batch not stated: {micro}, as many micro-batches as pipeline ranks")
    return micro


def _interleaving(
    model: ModelSpec, pp: int, stated: int | None, micro_batches: int, may: bool, notes: list[str]
) -> int:
    """Chunks a stage. Not stated: one layer a chunk where the software interleaves and the counts allow it."""
    if pp == 1:
        return 1
    if stated is not None:
        if stated > 1 and micro_batches < pp:
            notes.append(f"{micro_batches} micro-batches are too few to interleave {pp} stages: vpp 1")
            return 1
        return stated
    # Embedding and head may each take a layer's place: 126 layers on 16 stages are 8 chunks a stage.
    places = next((model.num_layers + more for more in range(END_SLOTS + 1) if (model.num_layers + more) % pp == 0), 0)
    vpp = places // pp if may and places and micro_batches % pp == 0 else 1
    notes.append(f"interleaving not stated: vpp {vpp}")
    return vpp
