"""What stands in the catalog, against figures worked out by hand and against common sense."""

import datetime as dt

import pytest

from makespan import catalog
from makespan.provenance import Kind
from makespan.specs.model import ModelSpec

JULY_2024 = dt.date(2024, 7, 10)


def by_hand(m: ModelSpec) -> float:
    """Parameters of the matrices and embeddings; norms, biases and routers (under 0.1 %) left out."""
    if m.mla is None:
        attention = m.hidden * m.head_dim * (2 * m.num_heads + 2 * m.num_kv_heads)
    else:
        a, query = m.mla, m.mla.qk_nope_head_dim + m.mla.qk_rope_head_dim
        attention = m.hidden * (a.q_lora_rank + a.kv_lora_rank + a.qk_rope_head_dim)
        attention += m.num_heads * (a.q_lora_rank * query + a.kv_lora_rank * (a.qk_nope_head_dim + a.v_head_dim))
        attention += m.num_heads * a.v_head_dim * m.hidden
    matrices = 3 if m.gated else 2
    dense = matrices * m.hidden * m.ffn_hidden
    if m.moe is None:
        feed_forward = m.num_layers * dense
    else:
        width = m.moe.num_experts * m.moe.expert_ffn + m.moe.shared_ffn + m.moe.dense_residual_ffn
        routed = m.num_layers - m.moe.num_dense_first_layers
        feed_forward = m.moe.num_dense_first_layers * dense + routed * matrices * m.hidden * width
    embeddings = m.vocab * m.hidden * (1 if m.tied_embeddings else 2)
    return m.num_layers * attention + feed_forward + embeddings + m.learned_positions * m.hidden


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("gpt3-175b", 174.6),
        ("llama3.1-8b", 8.03),
        ("llama3.1-70b", 70.55),
        ("llama3.1-405b", 405.85),
        ("mixtral-8x7b", 46.7),
        ("grok-1", 314),
        ("grok-2", 270),
        ("deepseek-v3", 671),
        ("qwen3-235b-a22b", 235.1),
        ("gpt-oss-120b", 116.8),
        ("nemotron-4-340b", 341),
        ("grok-3-stand-in", 991),
    ],
)
def test_architectures_have_the_printed_number_of_parameters(name: str, billions: float):
    entry = catalog.model(name)
    printed = next(f.text for f in entry.facts if f.path.endswith("total_parameters"))

    assert float(printed.rstrip("B")) == pytest.approx(billions, rel=2e-3)
    assert by_hand(entry.spec) / 1e9 == pytest.approx(billions, rel=6e-3)


def test_stand_ins_say_that_they_are_and_how_large():
    for name, total, active in [
        ("grok-3-stand-in-small", "0.53T total", "0.14T active"),
        ("grok-3-stand-in", "0.99T total", "0.27T active"),
        ("grok-3-stand-in-large", "1.66T total", "0.45T active"),
    ]:
        entry = catalog.model(name, JULY_2024)
        assert entry.note.startswith("STAND-IN, not Grok 3")
        assert total in entry.note
        assert active in entry.note
        assert {f.kind for f in entry.facts} == {Kind.ASSUMED}


def test_grok_2_was_not_known_in_july_2024():
    with pytest.raises(catalog.NotYetKnown):
        catalog.model("grok-2", JULY_2024)


def test_h100_by_hand():
    h100 = catalog.accelerator("h100-sxm").spec

    assert h100.peak_flop_per_s["bf16"] == 989.4e12
    assert h100.peak_flop_per_s["fp8"] == 1979e12
    assert h100.scale_up_bytes_per_s == 450e9
    assert h100.scale_out_bytes_per_s == 50e9
    assert h100.hbm_bytes == pytest.approx(79.1 * 2**30)
    assert (h100.tdp_w, h100.hbm_bytes_per_s) == (700.0, 3.35e12)


def test_h800_is_an_h100_with_a_slower_link():
    h100, h800 = catalog.accelerator("h100-sxm").spec, catalog.accelerator("h800-sxm").spec

    assert h800.scale_up_bytes_per_s == 200e9
    assert h800.peak_flop_per_s == h100.peak_flop_per_s
    assert all(f.kind is Kind.ASSUMED for f in catalog.accelerator("h800-sxm").facts if ".kernels." in f.path)


def test_kernels_of_july_2024_rest_on_nothing_later_than_july_2024():
    early, now = catalog.accelerator("h100-sxm", JULY_2024), catalog.accelerator("h100-sxm")
    kernel = "accelerators.h100-sxm.kernels.gemm.bf16.flop_utilisation"
    facts = {f.path: f for f in early.facts}

    assert facts[kernel].source is not None
    assert facts[kernel].source.key == "thonking-matmul"
    assert {f.path: f for f in now.facts}[kernel].kind is Kind.MEASURED
    assert early.spec.kernels.gemm["bf16"].flop_utilisation == pytest.approx(0.76)
    assert now.spec.kernels.gemm["bf16"].flop_utilisation == pytest.approx(0.78)


@pytest.mark.parametrize("name", catalog.names("accelerator"))
def test_accelerators_make_sense(name: str):
    spec = catalog.accelerator(name).spec
    node, fabric = catalog.node(catalog.usual_node(name)).spec, catalog.fabric(catalog.usual_fabric(name)).spec

    assert spec.peak_flop_per_s.get("fp8", 1e30) >= spec.peak_flop_per_s["bf16"]
    assert set(spec.kernels.gemm) <= set(spec.peak_flop_per_s)
    for gemm in spec.kernels.gemm.values():
        assert 0 < gemm.flop_utilisation < 1
        assert 0 < gemm.hbm_utilisation < 1
        assert 0 < gemm.overhead_s < 1e-4
    assert spec.idle_w < spec.tdp_w
    assert node.accelerator.rsplit("-sxm")[0] == name.rsplit("-sxm")[0]
    assert fabric.tiers[0].bytes_per_s == spec.scale_up_bytes_per_s
    assert fabric.tiers[0].size == spec.scale_up_domain_size
    assert fabric.tiers[-1].bytes_per_s == spec.scale_out_bytes_per_s


@pytest.mark.parametrize("name", catalog.names("node"))
def test_kinds_of_power_are_in_order(name: str):
    node = catalog.node(name).spec
    chips = catalog.accelerator(node.accelerator).spec.tdp_w * node.accelerators_per_node

    assert node.idle_w < node.mean_training_w < node.provisioned_peak_w <= node.nameplate_w
    assert chips < node.provisioned_peak_w


@pytest.mark.parametrize("name", catalog.names("fabric"))
def test_tiers_grow_and_slow_down_outwards(name: str):
    tiers = catalog.fabric(name).spec.tiers

    assert [t.size for t in tiers] == sorted(t.size for t in tiers)
    assert tiers[-1].size == float("inf")
    assert [t.effective_bytes_per_s for t in tiers] == sorted((t.effective_bytes_per_s for t in tiers), reverse=True)
    assert all(0 < t.efficiency < 1 for t in tiers)


@pytest.mark.parametrize("name", catalog.names("offer"))
def test_offers_name_things_that_exist_and_cost_no_more_than_their_list(name: str):
    offer = catalog.offer(name).spec

    assert catalog.accelerator(offer.accelerator).spec.peak_flop_per_s
    assert catalog.node(offer.node).spec.accelerator == offer.accelerator
    assert catalog.fabric(offer.fabric).spec.tiers
    assert offer.price_usd_per_accelerator_s.central <= offer.list_price_usd_per_accelerator_s
    assert 0 < offer.take_or_pay <= 1


@pytest.mark.parametrize("name", catalog.names("framework"))
def test_frameworks_slow_kernels_down_and_hide_no_more_than_all(name: str):
    profile = catalog.framework(name).spec

    assert profile.gemm_slowdown >= 1
    assert all(getattr(profile, f"{g}_exposed") <= 1 for g in ("tp", "cp", "ep", "pp", "dp", "fsdp"))
    assert set(profile.measured_on) <= set(catalog.names("accelerator"))


def test_h100_under_43_megawatt_on_22_july_2024():
    """8 MW of grid and 14 turbines of 2.5 MW: between 24,000 and 31,000 by provisioned power and PUE.

    23,600 to 29,800 follow from the air-cooled and the liquid-cooled server over the range of PUE; the liquid-cooled one,
    which was built, lies inside.
    """
    node = catalog.node("hgx-h100-liquid", JULY_2024).spec
    pue = catalog.defaults(JULY_2024).spec["pue"].value.central

    number = 43e6 / (pue * node.provisioned_peak_per_accelerator_w)

    assert node.provisioned_peak_per_accelerator_w == pytest.approx((8600 + 1020) / 8)
    assert number == pytest.approx(27_500, rel=0.01)
    assert 24_000 < number < 31_000


def test_failures_agree_with_the_runs_they_are_drawn_from():
    """Llama 3: 419 unexpected interruptions in 54 days of 16,384; MegaScale: over 100 in about 28 days of 10,000 or more."""
    now = catalog.reliability("large-cluster-2026").spec.failures
    early = catalog.reliability("large-cluster-2024", JULY_2024).spec.failures

    def interruptions(spec: object, accelerators: float, days: float) -> float:
        per_s = accelerators * spec.per_accelerator_s.central + spec.per_job_s.central  # type: ignore[attr-defined]
        return per_s * days * 86400

    assert interruptions(now, 16384, 54) == pytest.approx(419, rel=0.03)
    assert 100 < interruptions(early, 10_240, 28) < 200


def test_a_recovery_at_twelve_thousand_fits_in_megascales_fifteen_minutes():
    """Detection, restart and growth leave room for lost work; and a restart is no quicker than an optimised start."""
    recovery = catalog.reliability("large-cluster-2024", JULY_2024).spec.recovery

    restart_s = recovery.restart_s.central + 3.58 * recovery.restart_per_doubling_s  # log2(12,288 / 1,024)

    assert 600 < recovery.detection_s.central + restart_s < 900
    assert restart_s > 30


def test_goodput_that_megascale_printed_lies_inside_the_range_of_its_own_facts():
    """More than 0.90 of the time useful on 12,288 GPUs (NSDI 2024): a check on what was known, not on what followed."""
    import numpy as np

    from makespan.campaign import daly_interval_s, expected_goodput
    from makespan.uncertainty import Streams, percentiles

    spec = catalog.reliability("large-cluster-2024", JULY_2024).spec
    streams = Streams(0, 2000)
    hazard = 12_288 * streams.draw(spec.failures.per_accelerator_s) + streams.draw(spec.failures.per_job_s)
    blocking = streams.draw(spec.checkpoints.blocking_s)
    save = np.maximum(streams.draw(spec.checkpoints.save_s), blocking)
    goodput = expected_goodput(
        hazard,
        np.maximum(daly_interval_s(blocking, 1 / hazard), save),
        blocking_s=blocking,
        save_s=save,
        detection_s=streams.draw(spec.recovery.detection_s),
        restart_s=streams.draw(spec.recovery.restart_s) + 3.58 * spec.recovery.restart_per_doubling_s,
    )
    p10, p50, p90 = percentiles(goodput)
    assert p10 < 0.90 < p90
    assert p50 > 0.85
