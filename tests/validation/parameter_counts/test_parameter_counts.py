"""Counted parameters against published ones. An identity: the architecture goes in, the printed count must come out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from makespan.specs.model import MlaSpec, ModelSpec, MoeSpec
from makespan.workload import active_parameter_count, parameter_count, parameters_by_part

ROWS = list(csv.DictReader((Path(__file__).parent / "table.csv").read_text(encoding="utf-8").splitlines()))


def dense(
    name: str, layers: int, hidden: int, heads: int, kv: int, dim: int, ffn: int, vocab: int, **more
) -> ModelSpec:
    return ModelSpec(
        name=name,
        num_layers=layers,
        hidden=hidden,
        num_heads=heads,
        num_kv_heads=kv,
        head_dim=dim,
        ffn_hidden=ffn,
        vocab=vocab,
        **more,
    )


MODELS = {
    model.name: model
    for model in (
        dense(
            "gpt3-175b",
            96,
            12288,
            96,
            96,
            128,
            49152,
            50257,
            gated=False,
            tied_embeddings=True,
            attention_bias=True,
            attention_output_bias=True,
            mlp_bias=True,
            norm_parameters=2,
            learned_positions=2048,
        ),
        dense("llama3.1-8b", 32, 4096, 32, 8, 128, 14336, 128256),
        dense("llama3.1-70b", 80, 8192, 64, 8, 128, 28672, 128256),
        dense("llama3.1-405b", 126, 16384, 128, 8, 128, 53248, 128256),
        dense("mixtral-8x7b", 32, 4096, 32, 8, 128, 0, 32000, moe=MoeSpec(num_experts=8, top_k=2, expert_ffn=14336)),
        dense(
            "grok-1",
            64,
            6144,
            48,
            8,
            128,
            0,
            131072,
            tied_embeddings=True,
            norms_per_layer=4,
            moe=MoeSpec(num_experts=8, top_k=2, expert_ffn=32768),
        ),
        dense(
            "deepseek-v3",
            61,
            7168,
            128,
            128,
            128,
            18432,
            129280,
            router_bias=True,
            mla=MlaSpec(kv_lora_rank=512, q_lora_rank=1536, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128),
            moe=MoeSpec(num_experts=256, top_k=8, expert_ffn=2048, shared_ffn=2048, num_dense_first_layers=3),
            mtp_layers=1,
        ),
        dense(
            "qwen3-235b-a22b",
            94,
            4096,
            64,
            4,
            128,
            0,
            151936,
            qk_norm=True,
            moe=MoeSpec(num_experts=128, top_k=8, expert_ffn=1536),
        ),
        dense(
            "gpt-oss-120b",
            36,
            2880,
            64,
            8,
            64,
            0,
            201088,
            attention_bias=True,
            attention_output_bias=True,
            mlp_bias=True,
            attention_sinks=True,
            router_bias=True,
            window=128,
            global_every=2,
            moe=MoeSpec(num_experts=128, top_k=4, expert_ffn=2880),
        ),
        dense("nemotron-4-340b", 96, 18432, 96, 8, 192, 73728, 256000, gated=False, norm_parameters=2),
    )
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_total_parameters(row):
    """Exact where the publisher counts exactly, else to the printed digits."""
    counted, printed = parameter_count(MODELS[row["model"]]), float(row["total"])

    if float(row["total_digits"]) == 0:
        assert counted == int(row["total"])
    else:
        assert counted == pytest.approx(printed, rel=float(row["total_digits"]))


@pytest.mark.parametrize("row", [r for r in ROWS if r["active"]], ids=lambda row: row["model"])
def test_active_parameters(row):
    """To the printed digits, under the publisher's convention about the embedding."""
    counted = active_parameter_count(MODELS[row["model"]], embedding=row["active_counts_embedding"] == "yes")

    assert counted == pytest.approx(float(row["active"]), rel=float(row["active_digits"]))


def test_nemotron_embedding_parameters():
    """9.4B embedding and 331.6B other parameters are printed apart."""
    parts = parameters_by_part(MODELS["nemotron-4-340b"])

    assert round((parts.embedding + parts.head) / 1e9, 1) == 9.4
    assert round((parts.total - parts.embedding - parts.head) / 1e9, 1) == 331.6


def test_parts_add_up_to_the_total():
    """Every part of DeepSeek-V3 is counted once: three dense layers, 58 mixtures, two tables, one norm."""
    parts = parameters_by_part(MODELS["deepseek-v3"])
    (dense_kind, dense_layer), (moe_kind, moe_layer) = parts.layers
    by_hand = parts.embedding + parts.head + parts.final_norm + 3 * dense_layer.total + 58 * moe_layer.total

    assert (dense_kind.count, moe_kind.count, moe_kind.mtp) == (3, 58, 1)
    assert by_hand == parameter_count(MODELS["deepseek-v3"])
