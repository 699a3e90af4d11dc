"""Free text of a row becomes fields of a layout, names of machines and software become entries of the catalog."""

from __future__ import annotations

import pytest

from makespan.specs.layout import ContextKind, CudaGraphs, Offload, Recompute, Schedule, Sharding
from makespan.step import step_estimate
from makespan.validation.cells import NotExpressible, count, number
from makespan.validation.express import case_of
from makespan.validation.files import read_models
from makespan.validation.machine import accelerator_name
from makespan.validation.software import date_of, software_of
from makespan.validation.wording import (
    cp_kind_of,
    ep_overlap_of,
    flag_of,
    graphs_of,
    offload_of,
    recompute_of,
    schedule_of,
    shard_size_of,
    sharding_of,
)

MODELS = read_models(None)
ROW = {
    "id": "r",
    "framework": "Megatron-Bridge/MCore",
    "date": "2026-05-01",
    "model": "deepseek_v3",
    "gpu": "gb200",
    "n_gpus": "256",
    "tp": "1",
    "pp": "4",
    "vpp": "4",
    "ep": "64",
    "dp": "64",
    "micro_batch": "1",
    "global_batch": "4096",
    "seq_len": "4096",
    "precision": "fp8-mx",
}


@pytest.mark.parametrize(
    ("cell", "notes", "label"),
    [
        ("none", "", "none"),
        ("off", "", "none"),
        ("full", "", "full"),
        ("full uniform 1", "", "full"),
        ("remat full", "", "full"),
        ("selective", "", "core_attention"),
        ("selective (core_attn, mla_up_proj)", "", "core_attention+up_projection"),
        ("moe_act layernorm", "", "selective"),
        ("mlp", "", "mlp"),
        ("moe", "", "experts"),
        (
            "selective",
            "config x; recompute_modules=moe+layernorm+core_attn+moe_act; y",
            "norm+activation+core_attention+experts",
        ),
        ("selective", "recompute_modules=none", "none"),
        ("", "recompute layernorm+moe_act", "selective"),
        ("selective", "RMSNorm + MLA up-projection recomputed; MTP depth 1", "norm+up_projection"),
        ("remat save_dot_except_logits_ffn", "", "norm+activation+mlp"),
        ("minimal_flash", "", "selective"),
        ("full 1/2 layers", "", "full"),
        ("block 10 layers", "", "full"),
        ("block 3 layers", "", "none"),
        ("fused SDPA with recompute", "", "core_attention"),
    ],
)
def test_recompute_text_names_modules(cell, notes, label):
    row = {"recompute": cell, "notes": notes}
    said: list[str] = []

    assert recompute_of(row, selective=Recompute.CORE_ATTENTION, num_stage_layers=16, notes=said).label == label
    if "layers" in cell:
        assert "of the layers recomputed" in said[0]


def test_the_word_selective_depends_on_the_software():
    megatron = case_of(ROW | {"recompute": "selective", "model": "llama3_70b", "ep": "1"}, MODELS)
    titan = case_of(
        ROW
        | {
            "recompute": "selective",
            "model": "llama3_70b",
            "ep": "1",
            "framework": "torchtitan FSDP2",
            "gpu": "h100-sxm",
            "precision": "bf16",
        },
        MODELS,
    )

    assert megatron.layout.recompute is Recompute.CORE_ATTENTION
    assert titan.layout.recompute is Recompute.SELECTIVE


def test_blank_recompute_of_latent_attention_is_what_the_recipes_do():
    case = case_of(ROW, MODELS)

    assert case.layout.recompute is Recompute.UP_PROJECTION
    assert "recompute not stated: up_projection" in case.notes
    assert case_of(ROW | {"recompute": "none"}, MODELS).layout.recompute is Recompute.NONE


@pytest.mark.parametrize(
    ("text", "sharding"),
    [
        ("zero1", Sharding.ZERO1),
        ("ZeRO-3", Sharding.ZERO3),
        ("hsdp/zero3 group 32", Sharding.ZERO3),
        ("FULL_SHARD", Sharding.ZERO3),
        ("SHARD_GRAD_OP", Sharding.ZERO2),
        ("distributed optimizer", Sharding.ZERO1),
        ("ddp", Sharding.NONE),
        ("none", Sharding.NONE),
        ("", None),
        ("magic", None),
    ],
)
def test_sharding_text(text, sharding):
    assert sharding_of({"sharding": text}, []) is sharding


def test_sharding_groups():
    said: list[str] = []

    assert shard_size_of({"sharding": "hsdp/zero3 group 32"}, 128, 8, said) == 32
    assert shard_size_of({"sharding": "hsdp/zero3 group 128"}, 128, 8, said) == 0
    assert shard_size_of({"sharding": "hsdp", "notes": "FSDP=128, replicas=4"}, 512, 8, said) == 128
    assert said == []
    assert shard_size_of({"sharding": "hsdp"}, 128, 8, said) == 8
    assert "not stated" in said[0]
    assert shard_size_of({"sharding": "zero3"}, 128, 8, said) == 0
    assert shard_size_of({"sharding": "hsdp group 48"}, 128, 8, said) == 0


@pytest.mark.parametrize(
    ("text", "graphs"),
    [
        ("full-iteration", CudaGraphs.FULL),
        ("transformer_engine:attn+moe_router", CudaGraphs.PARTIAL),
        ("per-layer", CudaGraphs.PARTIAL),
        ("off (default)", CudaGraphs.NONE),
        ("none", CudaGraphs.NONE),
        ("", None),
    ],
)
def test_graphs_text(text, graphs):
    assert graphs_of({"cuda_graphs": text}) is graphs


def test_graphs_in_the_name_of_a_configuration():
    assert (
        graphs_of({"notes": "config=x/config_GB200_64x4x1xtp4pp8cp2_cg_dplast.sh [config named]"}) is CudaGraphs.PARTIAL
    )


@pytest.mark.parametrize(
    ("text", "overlap", "schedule", "kind"),
    [
        ("dispatcher=deepep; moe a2a overlap on", True, Schedule.ONE_F_ONE_B, ContextKind.RING),
        ("HybridEP; EP overlap ON", True, Schedule.ONE_F_ONE_B, ContextKind.RING),
        ("dispatcher=hybridep", False, Schedule.ONE_F_ONE_B, ContextKind.RING),
        ("EP overlap off; TP comm overlap on", False, Schedule.ONE_F_ONE_B, ContextKind.RING),
        ("TP comm overlap on; grad/param overlap on", False, Schedule.ONE_F_ONE_B, ContextKind.RING),
        ("DualPipe: EP all-to-all overlapped", True, Schedule.DUALPIPE, ContextKind.RING),
        ("ZB-H1 schedule", False, Schedule.ZERO_BUBBLE, ContextKind.RING),
        ("zero bubble; cp_comm_type=a2a", False, Schedule.ZERO_BUBBLE, ContextKind.ALL_TO_ALL),
        ("Ulysses", False, Schedule.ONE_F_ONE_B, ContextKind.ALL_TO_ALL),
        ("cp_comm_type=a2a+p2p", False, Schedule.ONE_F_ONE_B, ContextKind.RING),
        ("GPipe", False, Schedule.GPIPE, ContextKind.RING),
    ],
)
def test_overlap_text(text, overlap, schedule, kind):
    row = {"overlap_notes": text}

    assert (ep_overlap_of(row), schedule_of(row), cp_kind_of(row)) == (overlap, schedule, kind)


def test_offload_text():
    said: list[str] = []

    assert offload_of({"notes": "cpu activation offload layers=40"}, 80, said) is Offload.ACTIVATIONS
    assert offload_of({"notes": "cpu activation offload layers=20"}, 80, said) is Offload.NONE
    assert len(said) == 2
    assert offload_of({"notes": "optimizer cpu offload"}, 80, said) is Offload.OPTIMIZER
    assert offload_of({"notes": "activation offload likely but not stated"}, 80, said) is Offload.NONE
    assert flag_of({"seq_par": "True"}, "seq_par") is True
    assert flag_of({"seq_par": "perhaps"}, "seq_par") is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("h100-sxm", "h100-sxm"),
        ("H100", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("h100-80gb-sxm", "h100-sxm"),
        ("GB200-NVL72", "gb200"),
        ("NVIDIA GB300 NVL72", "gb300"),
        ("B200 180GB", "b200-sxm"),
        ("a100-80gb", "a100-sxm-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("A100", "a100-sxm-80gb"),
        ("H200 SXM5 141GB", "h200-sxm"),
        ("TPU v5p", "tpu-v5p"),
    ],
)
def test_spellings_of_an_accelerator(text, name):
    said: list[str] = []

    assert accelerator_name(text, said) == name
    assert bool(said) == (text != name)


@pytest.mark.parametrize("text", ["H100 PCIe", "H100 NVL", "GH200", "gaudi2", "tpu-v5e", "V100", "H20", "abacus", ""])
def test_other_parts_are_refused(text):
    with pytest.raises(NotExpressible):
        accelerator_name(text, [])


@pytest.mark.parametrize(
    ("framework", "date", "profile", "said"),
    [
        ("Megatron-Bridge 26.02", "", "megatron-2025", False),
        ("Megatron-Bridge/MCore", "2026-08-15", "megatron-2026", False),
        ("NeMo 24.07/MCore", "", "nemo-2025", False),
        ("MLPerf Training v5.1 NVIDIA NeMo Framework Release 25.09", "", "nemo-2025", False),
        ("NeMo 26.04", "", "megatron-2025", False),
        ("Megatron-LM core_r0.16", "2026-07-01", "megatron-2026", False),
        ("Megatron-LM", "2024-05", "megatron-2024", False),
        ("Nanotron", "2025-02", "megatron-2024", False),
        ("torchtitan", "2026-01", "torch-fsdp2", False),
        ("NeMo AutoModel (PyTorch FSDP2)", "2026-04", "automodel-2026", False),
        ("MaxText on GPU", "2025-09", "jax-2024", False),
        ("Levanter", "2024-02", "jax-2024", False),
        ("llm-foundry/Composer FSDP", "2023-11", "fsdp-2023", False),
        ("torchtune", "2025-01", "torch-fsdp2", True),
        ("OLMo-core", "2025-03", "torch-fsdp2", True),
        ("veScale", "2025-09", "torch-fsdp2", True),
        ("Axolotl", "2025-05", "torch-fsdp2", True),
        ("DeepSpeed ZeRO-3", "2023-02", "fsdp-2023", True),
        ("Hugging Face Trainer", "2025-05", "torch-fsdp2", True),
        ("Colossal-AI", "2024-02", "megatron-2024", False),
        ("somebody's own", "2025-01", "megatron-2024", True),
        ("", "2025-01", "megatron-2024", True),
    ],
)
def test_every_framework_has_a_profile_and_foreign_ones_are_said(framework, date, profile, said):
    notes: list[str] = []

    assert software_of({"framework": framework, "date": date}, notes).profile.name == profile
    assert bool(notes) == said


def test_dates_as_tables_write_them():
    assert date_of({"date": "2026-04-17"}) == "2026-04-17"
    assert date_of({"date": "September 2025"}) == "2025-09"
    assert date_of({"date": "2024"}) == "2024-06"
    assert date_of({"source": "Megatron-Bridge 25.11 container"}) == "2025-11"
    assert date_of({"date": "yesterday"}) == ""


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("step_time_s", "11.2 s", 11.2),
        ("step_time_s", "980ms", 0.98),
        ("step_time_s", "~48", 48.0),
        ("n_gpus", "1,024", 1024.0),
        ("seq_len", "8k", 8192.0),
        ("seq_len", "128K", 131072.0),
        ("mem_gb_reported", "62.2 GiB", 62.2 * 2**30 / 1e9),
        ("global_batch", "1e3", 1000.0),
        ("tp", "n/a", None),
        ("tp", "-", None),
    ],
)
def test_numbers_with_units(column, text, value):
    assert number({column: text}, column) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("column", "text"), [("step_time_s", "11 GB"), ("n_gpus", "64 s"), ("tp", "8 or 4"), ("tp", "1,02")]
)
def test_a_number_with_a_foreign_unit_is_junk(column, text):
    with pytest.raises(NotExpressible):
        count({column: text}, column)


def test_expert_parallelism_wider_than_a_stage_is_read_as_the_stage():
    """Printed for 256 accelerators: tp 1, pp 8, dp 32, ep 64. A stage has 32 ranks."""
    case = case_of(ROW | {"pp": "8", "vpp": "2", "dp": "32"}, MODELS)

    assert case.layout.ep == 32
    assert any("ep 64 does not divide the 32 ranks" in note for note in case.notes)


def test_sizes_that_follow_are_filled_in():
    base = ROW | {
        "model": "llama3_70b",
        "ep": "",
        "vpp": "",
        "gpu": "h100-sxm",
        "precision": "bf16",
        "global_batch": "512",
    }
    derived = case_of(base | {"tp": "", "dp": "16"}, MODELS)
    sharded = case_of(base | {"tp": "", "pp": "", "dp": "", "framework": "torchtune"}, MODELS)
    counted = case_of(base | {"n_gpus": "", "tp": "4", "pp": "4", "dp": "16"}, MODELS)
    contradiction = case_of(base | {"tp": "4", "pp": "4", "dp": "64"}, MODELS)

    assert derived.layout.tp == 4
    assert (sharded.layout.tp, sharded.layout.pp, sharded.layout.dp) == (1, 1, 256)
    assert sharded.layout.sharding is Sharding.ZERO3
    assert counted.cluster.num_accelerators == 256
    assert contradiction.layout.dp == 16
    for case, said in (
        (derived, "tp not stated: 4"),
        (sharded, "alone"),
        (counted, "n_gpus not"),
        (contradiction, "dp 64"),
    ):
        assert any(said in note for note in case.notes)


def test_kv_heads_are_copied_where_tensor_parallelism_is_wider():
    case = case_of(
        ROW
        | {
            "model": "qwen3_30b_a3b",
            "tp": "8",
            "pp": "1",
            "vpp": "1",
            "ep": "8",
            "dp": "32",
            "gpu": "h100-sxm",
            "precision": "bf16",
        },
        MODELS,
    )

    assert case.model.num_kv_heads == 4
    assert any("KV heads copied" in note for note in case.notes)
    assert step_estimate(case.model, case.config, case.cluster, case.profile, case.layout).time_s > 0
    assert any("copied" in note for note in case.notes)


def test_words_that_mean_nothing_are_said_and_the_default_is_taken():
    case = case_of(ROW | {"recompute": "sometimes", "sharding": "magic", "model": "Llama3-70B", "ep": "1"}, MODELS)
    said = " / ".join(case.notes)

    assert case.layout.recompute is Recompute.NONE
    assert case.layout.sharding is Sharding.ZERO1
    for text in ("'sometimes' not understood", "'magic' not understood", "taken for llama3_70b"):
        assert text in said


def test_silent_jax_rows_recompute_where_they_could_not_have_run_otherwise():
    base = {
        "id": "r",
        "framework": "Paxml/JAX",
        "date": "2024-01",
        "gpu": "h100-sxm",
        "n_gpus": "256",
        "tp": "1",
        "pp": "1",
        "micro_batch": "4",
        "global_batch": "1024",
        "seq_len": "2048",
        "precision": "bf16",
    }
    small = case_of(base | {"model": "gpt3_5b"}, MODELS)
    large = case_of(base | {"model": "gpt3_175b", "micro_batch": "8", "global_batch": "2048"}, MODELS)
    maxtext = case_of(base | {"model": "gpt3_5b", "framework": "MaxText"}, MODELS)

    assert small.layout.recompute is Recompute.NONE
    assert large.layout.recompute is Recompute.FULL
    assert any("without recompute: full taken" in note for note in large.notes)
    assert maxtext.layout.recompute is Recompute.SELECTIVE


def test_a_named_dispatcher_means_expert_parallelism():
    """64 accelerators, 128 experts: as many ranks as there are. Without a dispatcher the experts stay whole."""
    base = ROW | {
        "model": "gpt_oss_120b",
        "gpu": "h100-sxm",
        "precision": "bf16",
        "n_gpus": "64",
        "tp": "1",
        "pp": "1",
        "vpp": "",
        "ep": "",
        "dp": "64",
    }
    named = case_of(
        base | {"framework": "NeMo AutoModel (PyTorch FSDP2)", "notes": "kernels: TE + DeepEP + FlexAttn"}, MODELS
    )
    silent = case_of(base | {"framework": "torchtitan"}, MODELS)

    assert (named.layout.ep, silent.layout.ep) == (64, 1)
    assert "expert parallelism not stated: ep 64" in named.notes
    assert "expert parallelism not stated: ep 1" in silent.notes
