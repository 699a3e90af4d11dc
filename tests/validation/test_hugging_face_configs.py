"""Published `config.json` files become the architectures of the catalog, field for field.

Values as on the public model pages (Hugging Face); keys that say nothing of the shape are left out.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from makespan import catalog
from makespan.errors import EXIT_USER, ScenarioError
from makespan.scenario import parse_model
from makespan.workload import parameter_count

CONFIGS: dict[str, dict[str, Any]] = {
    "llama3.1-8b": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "mlp_bias": False,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
        "vocab_size": 128256,
    },
    "mixtral-8x7b": {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
    "qwen3-235b-a22b": {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "head_dim": 128,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "max_window_layers": 94,
        "mlp_only_layers": [],
        "moe_intermediate_size": 1536,
        "num_attention_heads": 64,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 94,
        "num_key_value_heads": 4,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "deepseek-v3": {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "attention_bias": False,
        "first_k_dense_replace": 3,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "kv_lora_rank": 512,
        "moe_intermediate_size": 2048,
        "moe_layer_freq": 1,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_attention_heads": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 61,
        "num_key_value_heads": 128,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "tie_word_embeddings": False,
        "v_head_dim": 128,
        "vocab_size": 129280,
    },
    "gpt-oss-120b": {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "head_dim": 64,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "layer_types": ["sliding_attention", "full_attention"] * 18,
        "num_attention_heads": 64,
        "num_experts_per_tok": 4,
        "num_hidden_layers": 36,
        "num_key_value_heads": 8,
        "num_local_experts": 128,
        "sliding_window": 128,
        "tie_word_embeddings": False,
        "vocab_size": 201088,
    },
    "gpt-oss-20b": {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "head_dim": 64,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "num_attention_heads": 64,
        "num_experts_per_tok": 4,
        "num_hidden_layers": 24,
        "num_key_value_heads": 8,
        "num_local_experts": 32,
        "sliding_window": 128,
        "tie_word_embeddings": False,
        "vocab_size": 201088,
    },
    "qwen3-30b-a3b": {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "head_dim": 128,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "mlp_only_layers": [],
        "moe_intermediate_size": 768,
        "num_attention_heads": 32,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 48,
        "num_key_value_heads": 4,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "kimi-k2": {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "kimi_k2",
        "attention_bias": False,
        "first_k_dense_replace": 1,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "kv_lora_rank": 512,
        "moe_intermediate_size": 2048,
        "moe_layer_freq": 1,
        "n_routed_experts": 384,
        "n_shared_experts": 1,
        "num_attention_heads": 64,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 61,
        "num_key_value_heads": 64,
        "num_nextn_predict_layers": 0,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "tie_word_embeddings": False,
        "v_head_dim": 128,
        "vocab_size": 163840,
    },
    "glm-4.5": {
        "architectures": ["Glm4MoeForCausalLM"],
        "model_type": "glm4_moe",
        "attention_bias": True,
        "first_k_dense_replace": 3,
        "head_dim": 128,
        "hidden_size": 5120,
        "intermediate_size": 12288,
        "moe_intermediate_size": 1536,
        "n_routed_experts": 160,
        "n_shared_experts": 1,
        "num_attention_heads": 96,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 92,
        "num_key_value_heads": 8,
        "num_nextn_predict_layers": 1,
        "tie_word_embeddings": False,
        "use_qk_norm": True,
        "vocab_size": 151552,
    },
    "llama-4-maverick": {
        "architectures": ["Llama4ForConditionalGeneration"],
        "model_type": "llama4",
        "text_config": {
            "model_type": "llama4_text",
            "attention_bias": False,
            "attention_chunk_size": 8192,
            "head_dim": 128,
            "hidden_size": 5120,
            "interleave_moe_layer_step": 2,
            "intermediate_size": 8192,
            "intermediate_size_mlp": 16384,
            "moe_layers": list(range(1, 48, 2)),
            "num_attention_heads": 40,
            "num_experts_per_tok": 1,
            "num_hidden_layers": 48,
            "num_key_value_heads": 8,
            "num_local_experts": 128,
            "tie_word_embeddings": False,
            "use_qk_norm": False,
            "vocab_size": 202048,
        },
    },
    "nemotron-3-nano-30b-a3b": {
        "architectures": ["NemotronHForCausalLM"],
        "model_type": "nemotron_h",
        "attention_bias": False,
        "chunk_size": 128,
        "conv_kernel": 4,
        "expand": 2,
        "head_dim": 128,
        "hidden_size": 2688,
        "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
        "intermediate_size": 1856,
        "mamba_head_dim": 64,
        "mamba_num_heads": 64,
        "mlp_bias": False,
        "mlp_hidden_act": "relu2",
        "moe_intermediate_size": 1856,
        "moe_shared_expert_intermediate_size": 3712,
        "n_groups": 8,
        "n_routed_experts": 128,
        "n_shared_experts": 1,
        "num_attention_heads": 32,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 52,
        "num_key_value_heads": 2,
        "ssm_state_size": 128,
        "tie_word_embeddings": False,
        "vocab_size": 131072,
    },
}
PRINTED = {
    "llama3.1-8b": 8.03e9,
    "mixtral-8x7b": 46.7e9,
    "qwen3-235b-a22b": 235.1e9,
    "deepseek-v3": 671e9,
    "gpt-oss-120b": 116.83e9,
    "gpt-oss-20b": 20.91e9,
    "qwen3-30b-a3b": 30.5e9,
    "kimi-k2": 1026e9,
    "glm-4.5": 353e9,
    "llama-4-maverick": 400.7e9,
    "nemotron-3-nano-30b-a3b": 31.6e9,
}
SUPER = CONFIGS["nemotron-3-nano-30b-a3b"] | {
    "hidden_size": 4096,
    "hybrid_override_pattern": None,
    "layers_block_type": ["mamba", "moe"] * 3 + ["mamba", "attention", "moe"],
    "mamba_num_heads": 128,
    "moe_intermediate_size": 2688,
    "moe_latent_size": 1024,
    "moe_shared_expert_intermediate_size": 5376,
    "mtp_layers_block_type": ["attention", "moe"],
    "n_routed_experts": 512,
    "num_experts_per_tok": 22,
    "num_hidden_layers": None,
    "num_nextn_predict_layers": 1,
}


def written(folder: Path, config: dict[str, Any]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_published_configuration_is_the_architecture_of_the_catalog(name: str, tmp_path: Path):
    read = parse_model(written(tmp_path, CONFIGS[name]))
    ours = catalog.model(name).spec
    # Latent attention has no head size of its own, and a router's correction bias is a few numbers.
    same = replace(read, name=name, head_dim=ours.head_dim if ours.mla else read.head_dim)

    assert replace(same, router_bias=ours.router_bias) == ours
    assert parameter_count(read) == pytest.approx(PRINTED[name], rel=2e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba2"}, "mamba2"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
    ],
)
def test_a_configuration_that_is_not_understood_says_which_key(change: dict[str, Any], words: str, tmp_path: Path):
    with pytest.raises(ScenarioError, match=words) as caught:
        parse_model(written(tmp_path, {**CONFIGS["llama3.1-8b"], **change}))
    assert caught.value.exit_code == EXIT_USER


def test_a_hybrid_may_list_its_layers_as_words(tmp_path: Path):
    """The newer form of the same configuration, with experts on a latent and a prediction layer."""
    read = parse_model(written(tmp_path, SUPER))

    assert (read.pattern, read.num_layers) == ("MEMEMEM*E", 9)
    assert (read.mtp_layers, read.mtp_pattern) == (1, "*E")
    assert read.moe is not None
    assert (read.moe.latent, read.moe.top_k) == (1024, 22)
    assert read.mamba == replace(catalog.model("nemotron-3-super-120b-a12b").spec.mamba)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("nemotron-3-nano-30b-a3b", {"hybrid_override_pattern": "ME*G"}, "layers other than"),
        ("nemotron-3-nano-30b-a3b", {"hybrid_override_pattern": None}, "hybrid without"),
        ("nemotron-3-nano-30b-a3b", {"num_hidden_layers": 51}, "51 for 52 layers"),
        ("nemotron-3-nano-30b-a3b", {"ssm_state_size": None}, "ssm_state_size"),
        ("qwen3-30b-a3b", {"mlp_only_layers": [7]}, "mlp_only_layers"),
        (
            "llama-4-maverick",
            {"text_config": CONFIGS["llama-4-maverick"]["text_config"] | {"moe_layers": [3]}},
            "moe_layers",
        ),
        ("deepseek-v3", {"moe_layer_freq": 2}, "moe_layer_freq"),
        ("qwen3-30b-a3b", {"model_type": "qwen3_next"}, "qwen3_next"),
    ],
)
def test_what_cannot_be_said_is_an_error(name: str, change: dict[str, Any], words: str, tmp_path: Path):
    with pytest.raises(ScenarioError, match=words):
        parse_model(written(tmp_path, CONFIGS[name] | change))


def test_mixtures_in_some_layers_of_a_qwen(tmp_path: Path):
    config = CONFIGS["qwen3-30b-a3b"] | {"decoder_sparse_step": 2, "mlp_only_layers": [0, 1]}
    read = parse_model(written(tmp_path, config))

    assert read.moe is not None
    assert (read.moe.every, read.moe.num_dense_first_layers, read.ffn_hidden) == (2, 2, 6144)


def test_latent_attention_without_a_compressed_query(tmp_path: Path):
    """Moonlight and DeepSeek-V2-Lite: q_lora_rank is null."""
    read = parse_model(written(tmp_path, CONFIGS["deepseek-v3"] | {"q_lora_rank": None}))

    assert read.mla is not None
    assert read.mla.q_lora_rank == 0
