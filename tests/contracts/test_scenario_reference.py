"""The reference of the scenario file names every key that is read, and every key that is declared is read."""

from __future__ import annotations

import re
from pathlib import Path

from makespan.scenario import json_schema

ROOT = Path(__file__).parents[2]


def keys_of_the_schema() -> set[str]:
    schema = json_schema()
    shapes = [schema, *(d for name, d in schema["$defs"].items() if not name.startswith(("sourced_", "plain_")))]
    return {key for shape in shapes for key in shape.get("properties", {})}


def test_every_key_is_in_the_reference():
    text = (ROOT / "docs" / "explain" / "scenario.md").read_text("utf-8")
    words = set(re.findall(r"[a-z][a-z0-9_]*", " ".join(re.findall(r"`[^`\n]+`", text))))
    assert keys_of_the_schema() - words == set()


def test_every_declared_key_is_read_somewhere():
    """A key in the shape that no reader asks for would be accepted and ignored."""
    source = "".join(
        path.read_text("utf-8") for path in (ROOT / "src/makespan/scenario").glob("_*.py") if path.name != "_shape.py"
    )
    named = set(re.findall(r'"([a-z][a-z0-9_]*)"', source))
    by_dataclass = {"num_experts", "expert_ffn", "shared_ffn", "num_dense_first_layers", "dense_residual_ffn"}
    by_dataclass |= {"tp", "pp", "cp", "ep", "vpp", "dp", "micro_batch", "recompute", "sharding", "min_used_fraction"}
    by_dataclass |= {"etp", "shard_size", "schedule", "cp_kind", "order", "offload", "cuda_graphs"}
    by_dataclass |= {"kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "top_k"}
    by_dataclass |= {"gated", "tied_embeddings", "window", "global_every", "attention_bias", "attention_output_bias"}
    by_dataclass |= {"mlp_bias", "qk_norm", "attention_sinks", "router_bias", "norm_parameters", "norms_per_layer"}
    by_dataclass |= {"learned_positions", "mtp_layers", "mtp_shared", "latent", "every", "state", "groups", "conv"}
    assert keys_of_the_schema() - named - by_dataclass == set()
