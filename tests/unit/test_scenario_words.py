"""Words of the command line, and Hugging Face configurations."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from makespan import catalog
from makespan.errors import ScenarioError
from makespan.scenario import (
    load,
    parse_batch,
    parse_cluster,
    parse_constraints,
    parse_framework,
    parse_layout,
    parse_model,
)
from makespan.scenario._hf import ConfigError, model_from_config
from makespan.specs.layout import Layout, Recompute, Sharding
from makespan.workload import parameter_count

LLAMA_70B = {
    "model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128,
    "num_key_value_heads": 128, "intermediate_size": 18432, "vocab_size": 129280, "moe_intermediate_size": 2048,
    "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1, "first_k_dense_replace": 3,
    "moe_layer_freq": 1, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "v_head_dim": 128, "num_nextn_predict_layers": 1,
}  # fmt: skip
QWEN3_MOE = {
    "model_type": "qwen3_moe", "hidden_size": 4096, "num_hidden_layers": 94, "num_attention_heads": 64, "num_key_value_heads": 4,
    "head_dim": 128, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_experts": 128, "num_experts_per_tok": 8,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "vocab_size": 151936, "tie_word_embeddings": False, "attention_bias": False,
}  # fmt: skip
GPT_OSS = {
    "model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8,
    "head_dim": 64, "intermediate_size": 2880, "num_local_experts": 128, "num_experts_per_tok": 4, "vocab_size": 201088,
    "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 18, "attention_bias": True, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (LLAMA_70B, "llama3.1-70b"),
        (MIXTRAL, "mixtral-8x7b"),
        (DEEPSEEK_V3, "deepseek-v3"),
        (QWEN3_MOE, "qwen3-235b-a22b"),
        (GPT_OSS, "gpt-oss-120b"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_configuration_has_the_parameters_of_the_catalogs_model(config, name):
    found, known = model_from_config(config, name=name), catalog.model(name).spec
    assert parameter_count(found) == parameter_count(known)
    assert (found.window, found.global_every, found.mla, found.moe) == (
        known.window,
        known.global_every,
        known.mla,
        known.moe,
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"model_type": None}, "model_type"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "8192"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": 10_001}, "num_hidden_layers"),
        ({"hidden_size": 10**10}, "hidden_size"),
        ({"num_attention_heads": 63}, "does not divide"),
        ({"vocab_size": True}, "vocab_size"),
    ],
)
def test_configurations_that_are_refused(change, says):
    with pytest.raises(ConfigError, match=says):
        model_from_config({**LLAMA_70B, **change}, name="x")


def test_a_scenario_finds_its_configuration_beside_it(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "config.json").write_text(json.dumps(LLAMA_70B))
    path = tmp_path / "s.yaml"
    path.write_text(
        "makespan: 1\nas_of: 2026-11-01\nmodel: {hf: models/config.json, name: ours}\ntokens: 1T\ncluster: {accelerator: h100-sxm, count: 64, price: 2 USD/h}\n"
    )
    model = load(path).models[0].model
    assert (model.name, model.num_layers) == ("ours", 80)
    (tmp_path / "models" / "config.json").write_text("{")
    with pytest.raises(ScenarioError, match="MS305"):
        load(path)
    path.write_text(path.read_text().replace("{hf: models/config.json, name: ours}", "models/config.json"))
    with pytest.raises(ScenarioError, match=r"write \{hf: models/config.json\}"):
        load(path)


def test_only_regular_files_are_read_as_configurations(tmp_path):
    for place in ("/dev/zero", "/dev/null"):
        with pytest.raises(ScenarioError, match=r"found '/dev/.*no regular file;"):
            parse_model(place)
    (tmp_path / "big.json").write_bytes(b" " * 1_000_001)
    with pytest.raises(ScenarioError, match="more than 1,000,000 bytes; expected"):
        parse_model(str(tmp_path / "big.json"))


def test_models_by_name_and_by_path(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(MIXTRAL))
    assert parse_model("llama3.1-405b").num_layers == 126
    assert parse_model(str(tmp_path)).moe.num_experts == 8
    for text in ("lama3.1-405b", str(tmp_path / "none.json"), ""):
        with pytest.raises(ScenarioError):
            parse_model(text)
    with pytest.raises(ScenarioError, match=r"MS505"):
        parse_model("llama3.1-405b", as_of=dt.date(2024, 1, 1))


def test_clusters():
    cluster = parse_cluster("16384xh100-sxm")
    assert (cluster.num_accelerators, cluster.accelerator.name, cluster.node.name) == (16384, "h100-sxm", "hgx-h100")
    assert parse_cluster("16,384 x h100-sxm") == cluster
    assert parse_cluster("2k x gb200").num_accelerators == 2000
    assert parse_cluster("64xh100-sxm/spectrum-x-3tier").fabric.name == "spectrum-x-3tier"
    for name in {catalog.node(name).spec.accelerator for name in catalog.names("node")}:
        assert parse_cluster(f"64x{name}").node.accelerator == name
    for text in ("8xh100", "8xh100-sxm/none", "8 h100-sxm", "-8xh100-sxm", "1e3xh100-sxm", "8x", "10000001xh100-sxm"):
        with pytest.raises(ScenarioError):
            parse_cluster(text)


def test_layouts():
    layout = parse_layout("tp=8,pp=16,mbs=2,recompute=full,sharding=zero3", num_accelerators=16384)
    assert layout == Layout(tp=8, pp=16, dp=128, micro_batch=2, recompute=Recompute.FULL, sharding=Sharding.ZERO3)
    assert parse_layout("tp=8 dp=2", num_accelerators=17).dp == 2
    for text in ("", "tp", "tp=0", "tp=8,tp=4", "zp=8", "tp=eight", "tp=8,dp=9", "recompute=some", "tp=64"):
        with pytest.raises(ScenarioError, match="MS210"):
            parse_layout(text, num_accelerators=63)


def test_constraints():
    assert parse_constraints("").tp is None
    fixed = parse_constraints("tp=8, recompute=none, memory_headroom=10%")
    assert (fixed.tp, fixed.recompute, fixed.memory_headroom) == (8, "none", 0.1)
    with pytest.raises(ScenarioError, match="MS210"):
        parse_constraints("memory_headroom=2")


def test_batches():
    assert parse_batch("16M tokens", seq_len=4096) == 3906
    assert parse_batch(2048, seq_len=4096) == 2048
    with pytest.raises(ScenarioError, match="MS210"):
        parse_batch("a few", seq_len=4096)


def test_frameworks_by_name_and_by_day():
    assert parse_framework("fsdp-2023").name == "fsdp-2023"
    assert parse_framework(None).name == "megatron-2026"
    assert parse_framework(None, as_of=dt.date(2024, 9, 10)).name == "megatron-2024"
    assert parse_framework(None, as_of=dt.date(2023, 6, 10)).name == "megatron-2022"
    with pytest.raises(ScenarioError, match=r"MS505.*2024-09-10.*\n.*choose from: .*megatron-2024"):
        parse_framework("megatron-2026", as_of=dt.date(2024, 9, 10))
    with pytest.raises(ScenarioError, match=r"MS505.*none named"):
        parse_framework(None, as_of=dt.date(2015, 1, 1))
    with pytest.raises(ScenarioError, match="did you mean 'megatron-2026'"):
        parse_framework("megatron2026")
