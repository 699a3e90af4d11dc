"""Entries of a models file as architectures, or the reason why they are none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.specs.model import MambaSpec
from makespan.validation.architectures import model_spec
from makespan.validation.cells import NotExpressible
from makespan.validation.files import read_models
from makespan.workload import active_parameter_count, body_names, layer_kinds, mtp_parameters, parameter_count
from makespan.workload.operators import full_layer_fraction

SHIPPED = read_models(None)
INCOMPLETE = {"deepseek_v4_flash": "attention", "nemotron3.5_lightning_30b_a3b": "layers"}
DENSE: dict[str, Any] = {
    "layers": 12,
    "hidden": 1024,
    "heads": 16,
    "kv_heads": 4,
    "head_dim": 64,
    "ffn_hidden": 4096,
    "vocab": 32000,
}
MOE = DENSE | {"kind": "moe", "n_experts": 8, "top_k": 2, "expert_ffn": 2048}
HYBRID = DENSE | {
    "layers": 6,
    "hybrid_pattern": "M-M*-M",
    "mamba": {"heads": 32, "head_dim": 64, "state": 128, "groups": 8},
}


def spec(entry: dict[str, Any]):
    return model_spec("mine", {"mine": entry}, seq_len=4096)[0]


def reason(entry: dict[str, Any]) -> str:
    with pytest.raises(NotExpressible) as caught:
        spec(entry)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_every_complete_architecture_is_expressed(name):
    if name in INCOMPLETE:
        with pytest.raises(NotExpressible, match=INCOMPLETE[name]):
            model_spec(name, SHIPPED, seq_len=2048)
        return
    model, _ = model_spec(name, SHIPPED, seq_len=2048)
    assert sum(kind.count for kind in layer_kinds(model)) == model.num_layers
    assert 0 < active_parameter_count(model) <= parameter_count(model)


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("nemotron3_nano_30b_a3b", 31.6, 3.6),  # technical report
        ("nemotron3_super_120b_a12b", 120.6, 12.7),  # technical report
        ("nemotron3_ultra_550b", 550, 55),  # model card
        ("nemotronh_56b", 56, 56),  # arXiv:2504.03624
        ("deepseek_v3", 671, 37),  # arXiv:2412.19437
        ("kimi_k2", 1026, 32.6),  # arXiv:2507.20534: 1.04T with 32.6B
        ("qwen3_30b_a3b", 30.5, 3.3),  # arXiv:2505.09388
        ("gpt_oss_20b", 20.91, None),  # arXiv:2508.10925, table 1
        ("moonlight_16b", 15.96, None),  # arXiv:2502.16982
    ],
)
def test_architectures_have_their_published_number_of_parameters(name, total, active):
    model, _ = model_spec(name, SHIPPED, seq_len=2048)

    assert parameter_count(model) / 1e9 == pytest.approx(total, rel=0.007)
    if active is not None:
        assert active_parameter_count(model) / 1e9 == pytest.approx(active, rel=0.025)


def test_a_hybrid_with_prediction_layers():
    model = spec(HYBRID | MOE | {"layers": 8, "hybrid_pattern": "ME*EME|ME/*E/*E", "moe_latent_size": 256})

    assert (model.pattern, model.mtp_layers, model.mtp_pattern) == ("ME*EMEME", 2, "*E")
    assert model.mamba == MambaSpec(num_heads=32, head_dim=64, state=128, groups=8, conv=4)
    assert model.moe is not None
    assert model.moe.latent == 256
    assert [(kind.name, kind.count, kind.mtp) for kind in layer_kinds(model)] == [
        ("mamba", 3, 0),
        ("experts", 4, 2),
        ("attention", 1, 2),
    ]
    shared = spec(HYBRID | MOE | {"layers": 2, "hybrid_pattern": "ME/*E/*E", "mtp_shared": True})
    assert mtp_parameters(shared).layers[0][1] == 1


def test_prediction_layers_stated_apart_win_over_the_pattern():
    assert spec(HYBRID | {"hybrid_pattern": "M-M*-M/*-/*-", "mtp_layers": 1}).mtp_layers == 1
    assert spec(HYBRID | {"hybrid_pattern": "M-M*-M/*-/*-", "mtp_layers": 0}).mtp_layers == 0


def test_number_of_layers_may_follow_from_the_pattern():
    assert spec({key: value for key, value in HYBRID.items() if key != "layers"}).num_layers == 6


def test_a_hybrid_without_attention_needs_no_heads():
    bare = {key: value for key, value in HYBRID.items() if key not in ("heads", "kv_heads", "head_dim")}

    assert spec(bare | {"hybrid_pattern": "M-M-M-"}).pattern == "M-M-M-"
    assert "heads is not known" in reason(bare)


@pytest.mark.parametrize(
    ("stated", "mixtures"),
    [
        ({"moe_every": 2}, [1, 3, 5, 7, 9, 11]),
        ({"moe_layer_freq": 4}, [3, 7, 11]),
        ({"moe_layer_freq": "2"}, [1, 3, 5, 7, 9, 11]),
        ({"moe_layer_freq": 1}, list(range(12))),
        ({"moe_layer_freq": "([0]*3+[1]*9)"}, list(range(3, 12))),
        ({"moe_layer_freq": "[0,1]*6"}, [1, 3, 5, 7, 9, 11]),
        ({"moe_layer_freq": [0, 0, 1] * 4}, [2, 5, 8, 11]),
        ({"dense_first_layers": 1}, list(range(1, 12))),
    ],
)
def test_mixtures_in_some_layers(stated, mixtures):
    names = body_names(spec(MOE | stated))

    assert [layer for layer, name in enumerate(names) if name == "moe"] == mixtures


@pytest.mark.parametrize(
    ("pattern", "full"),
    [
        (None, 0.0),
        ("all layers", 0.0),
        ("alternating sliding/full (window_attn_skip_freq=2)", 1 / 2),
        ("5:1 local:global", 1 / 6),
        ("3 local : 1 global", 1 / 4),
        ("5 sliding to 1 full", 1 / 6),
        ("every 4th layer full", 1 / 4),
        ("one full in 3", 1 / 3),
        ("window_attn_skip_freq=4", 1 / 4),
        (6, 1 / 6),
        (1, 1.0),
    ],
)
def test_window_patterns(pattern, full):
    model = spec(DENSE | {"sliding_window": 512, "window_pattern": pattern})

    assert full_layer_fraction(model) == pytest.approx(full)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (DENSE | {"kind": "hybrid_mamba"}, "order of its layers"),
        (DENSE | {"mamba": {"heads": 8}}, "order of its layers"),
        (HYBRID | {"mamba": None}, "sizes of its Mamba-2 layers"),
        (HYBRID | {"mamba": {"heads": 32, "head_dim": 64}}, "state is not known"),
        (HYBRID | {"mamba": HYBRID["mamba"] | {"groups": 5}}, "in 5 groups"),
        (HYBRID | {"hybrid_pattern": "M-G*-M"}, "'G'"),
        (HYBRID | {"hybrid_pattern": "M-M*"}, "4 letters for 6 layers"),
        (HYBRID | {"hybrid_pattern": "M-M*-M/*-/M-"}, "differ"),
        (HYBRID | {"hybrid_pattern": "MEM*EM"}, "experts are not known"),
        (HYBRID | {"ffn_hidden": None}, "ffn_hidden is not known"),
        (MOE | {"moe_every": 2, "ffn_hidden": None}, "ffn_hidden is not known"),
        (MOE | {"moe_layer_freq": [0, 1]}, "moe_layer_freq"),
        (MOE | {"moe_layer_freq": [0, 1, 1, 0] * 3}, "irregular"),
        (MOE | {"moe_layer_freq": "__import__('os')"}, "cannot be read"),
        (DENSE | {"ssm": True}, "state-space"),
        (DENSE | {"linear_attention": "gated delta"}, "linear attention"),
        (DENSE | {"encoder_layers": 12}, "encoder"),
        (DENSE | {"attention": "compressed sparse (CSA/DSA)"}, "attention cannot be expressed"),
        (DENSE | {"sliding_window": 512, "window_pattern": "as the moon stands"}, "window pattern"),
    ],
)
def test_what_cannot_be_expressed_says_why(entry, words):
    assert words in reason(entry)


def test_what_an_entry_leaves_out_comes_from_the_shipped_one_unless_they_differ():
    name = "nemotron3_super_120b_a12b"
    without = {key: value for key, value in SHIPPED[name].items() if key != "vocab"}
    model, notes = model_spec(name, {name: without}, seq_len=4096)

    assert model.vocab == 131072
    assert notes == [f"vocab as in the shipped {name}"]
    with pytest.raises(NotExpressible, match="vocab is not known"):
        model_spec(name, {name: without | {"hidden": 2048}}, seq_len=4096)


def test_unknown_keys_are_ignored_and_named():
    assert model_spec("mine", {"mine": DENSE | {"colour": "blue"}}, seq_len=4096)[1] == [
        "unknown key colour of the model ignored"
    ]


@given(
    st.dictionaries(
        st.sampled_from(
            sorted(HYBRID | MOE | {"moe_every": 0, "sliding_window": 0, "window_pattern": 0, "mtp_layers": 0})
        ),
        st.none()
        | st.integers(-3, 200)
        | st.text(max_size=12)
        | st.sampled_from(["M*-E", "M/M", "ME*|E/*E", True, 2.5, [], [0, 1], {"heads": 4, "head_dim": 8, "state": 16}]),
    )
)
def test_no_entry_crashes(changes):
    try:
        model = spec(HYBRID | MOE | changes)
    except NotExpressible:
        return
    assert parameter_count(model) > 0


@pytest.mark.parametrize("key", ["kind", "attention", "layers", "hybrid_pattern", "gated"])
def test_a_value_that_grows_by_aliases_is_named_and_not_printed(key):
    grown: list[object] = ["x"]
    for _ in range(60):
        grown = [grown] * 9
    entry = {"layers": 2, "hidden": 64, "heads": 2, "vocab": 100, "ffn_hidden": 128, key: grown}

    with pytest.raises(NotExpressible, match=f"{key} is a list"):
        model_spec("m", {"m": entry}, seq_len=128)


def test_layers_beyond_reason_are_refused():
    entry = {"layers": 100_000_000, "hidden": 64, "heads": 2, "vocab": 100, "ffn_hidden": 128}

    with pytest.raises(NotExpressible, match="to 100,000"):
        model_spec("m", {"m": entry}, seq_len=128)
