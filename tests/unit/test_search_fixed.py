"""What a search is told on the command line: words, and what contradicts the model, the cluster or itself."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan import catalog
from makespan.errors import ScenarioError
from makespan.scenario import (
    contradictions,
    fixed_words,
    json_schema,
    layout_value,
    layout_words,
    load,
    parse_cluster,
    parse_constraints,
    parse_framework,
    parse_layout,
    parse_seq_len,
    value_of_code,
    word_of,
)
from makespan.specs.layout import (
    ContextKind,
    CudaGraphs,
    Layout,
    LayoutStatus,
    Offload,
    RankOrder,
    Recompute,
    Schedule,
    Sharding,
)
from makespan.specs.search import Objective, SearchConstraints
from makespan.specs.training import StepConfig
from makespan.step import LayoutArrays, evaluate

SIZE = st.sampled_from([1, 2, 3, 8])
LAYOUTS = st.builds(
    Layout,
    tp=SIZE, pp=SIZE, cp=SIZE, dp=SIZE, ep=SIZE, etp=SIZE, vpp=SIZE, micro_batch=SIZE, shard_size=st.sampled_from([0, 4]),
    schedule=st.sampled_from(list(Schedule)),
    recompute=st.integers(0, 63).map(Recompute) | st.just(Recompute.FULL),
    sharding=st.sampled_from(list(Sharding)),
    cp_kind=st.sampled_from(list(ContextKind)),
    offload=st.sampled_from([Offload(code) for code in range(4)]),
    cuda_graphs=st.sampled_from(list(CudaGraphs)),
    order=st.sampled_from(list(RankOrder)),
    ep_overlap=st.booleans(),
    sequence_parallel=st.booleans(),
)  # fmt: skip


@given(LAYOUTS)
def test_the_words_of_a_layout_give_it_back(layout):
    text = layout_words(layout)
    dp = "" if "dp=" in text else f",dp={layout.dp}"
    assert parse_layout(text + dp, num_accelerators=10**6) == layout


@given(LAYOUTS)
def test_integers_of_a_layout_have_the_words_of_its_values(layout):
    for field in fields(Layout):
        value = getattr(layout, field.name)
        assert word_of(value_of_code(field.name, int(value))) == word_of(value)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("8192", 8192), ("8,192 tokens", 8192), ("8k", 8192), ("8K tokens", 8192), ("128Ki", 131072), ("1Mi", 1048576)],
)
def test_sequence_lengths(text, tokens):
    assert parse_seq_len(text) == tokens


@pytest.mark.parametrize("text", ["", "0", "-1", "8.5k", "8M", "8kB", "long", "9" * 30, "200Mi", "1,00"])
def test_sequence_lengths_that_are_none(text):
    with pytest.raises(ScenarioError, match=r"MS210 --seq-len: found .*\n.*8192"):
        parse_seq_len(text)


def test_every_dimension_can_be_fixed():
    text = (
        "tp=8 pp=4 cp=2 ep=1 etp=1 vpp=2 dp=2 mbs=1 recompute=norm+mlp sharding=zero3 shard_size=4 schedule=1F1B "
        "cp_kind=all-to-all order=tp-cp-pp-dp offload=optimizer+activations graphs=full ep_overlap=off"
    )
    fixed = parse_constraints(text)
    assert fixed_words(fixed) == {
        "tp": "8", "pp": "4", "cp": "2", "ep": "1", "etp": "1", "vpp": "2", "dp": "2", "micro_batch": "1",
        "recompute": "norm+mlp", "sharding": "zero3", "shard_size": "4", "schedule": "1f1b", "cp_kind": "all_to_all",
        "order": "tp-cp-pp-dp", "offload": "optimizer+activations", "cuda_graphs": "full", "ep_overlap": "no",
    }  # fmt: skip
    assert fixed.ep_overlap is False
    named = {field.name for field in fields(SearchConstraints)}
    others = {"thorough", "min_used_fraction", "memory_headroom", "objective"}
    assert set(fixed_words(fixed)) == named - others


def test_shares_and_objective():
    found = parse_constraints("", memory_headroom="10%", min_used="100%", objective="cost", thorough=False)
    assert (found.memory_headroom, found.min_used_fraction) == (0.1, 1.0)
    assert (found.objective, found.thorough) == (Objective.COST, False)
    assert parse_constraints("min_used_fraction=50%").min_used_fraction == 0.5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"memory_headroom": "120%"}, "--memory-headroom: found '120%'.*\n.*\"5%\""),
        ({"memory_headroom": "100%"}, "less than 100 %"),
        ({"min_used": "90"}, "--min-used: found '90'.*\n.*\"90%\""),
        ({"min_used": "-1%"}, "from 0 % to 100 %"),
        ({"min_used": "90%", "text": "min_used_fraction=80%"}, "one of the two"),
        ({"objective": "cots"}, "--objective: found 'cots'.*\n.*'cost'"),
        ({"text": "tp=8,tp=4"}, "a second time"),
        ({"text": "tp=1e3"}, "tp as a whole number from 1 to 999,999,999"),
        ({"text": "shard_size=-1"}, "from 0 to"),
        ({"text": "shedule=1f1b"}, "did you mean 'schedule'"),
        ({"text": "recompute=norm+al"}, "or several joined"),
        ({"text": "sharding=zero1+zero2"}, "sharding as one of none, zero1, zero2, zero3\n"),
        ({"text": "order=tp-pp"}, "tp-cp-dp-pp, tp-cp-pp-dp"),
        ({"text": "sequence_parallel=no"}, "key=value with one of tp, pp"),
    ],
)
def test_words_that_cannot_be_fixed(options, says):
    with pytest.raises(ScenarioError, match=says):
        parse_constraints(options.pop("text", ""), **options)


PROFILE = parse_framework("megatron-2026")
CAN_DO_ALL = replace(PROFILE, supports={})
LLAMA, DEEPSEEK = catalog.model("llama3.1-70b").spec, catalog.model("deepseek-v3").spec
CLUSTER = parse_cluster("2048xh100-sxm")
CONFIG = StepConfig(global_batch=512, seq_len=8192, precision="bf16")


@pytest.mark.parametrize(
    ("model", "text", "says"),
    [
        (LLAMA, "tp=16", "scale-up domain of h100-sxm, 8"),
        (LLAMA, "tp=3", "divides the 64 query heads"),
        (LLAMA, "cp=3", "cut 8,192 tokens evenly"),
        (LLAMA, "cp=128,cp_kind=all_to_all", "tp \\* cp that divides the 64 query heads"),
        (LLAMA, "ep=2", "llama3.1-70b has no experts"),
        (LLAMA, "etp=2", "llama3.1-70b has no experts"),
        (LLAMA, "ep_overlap=yes", "llama3.1-70b has no experts"),
        (DEEPSEEK, "ep=3", "divides the 256 experts"),
        (DEEPSEEK, "etp=3", "width of 2048"),
        (DEEPSEEK, "ep=1,ep_overlap=yes", "ep above 1"),
        (DEEPSEEK, "tp=2,cp=1,dp=3,ep=4", "divides tp \\* cp \\* dp = 6"),
        (DEEPSEEK, "ep=256,pp=16", "ep \\* etp \\* pp of at most the 2,048"),
        (LLAMA, "pp=83", "at most the 80 layers"),
        (LLAMA, "pp=8,vpp=11", "at most the 80 layers"),
        (LLAMA, "pp=1,vpp=2", "pp above 1"),
        (LLAMA, "pp=16,vpp=2,dp=32,micro_batch=2", "these sizes leave 8"),
        (LLAMA, "vpp=2,schedule=zero_bubble", "one chunk a stage"),
        (LLAMA, "pp=1,schedule=gpipe", "a pipeline"),
        (LLAMA, "pp=5,schedule=dualpipe", "an even pp"),
        (LLAMA, "tp=8,pp=16,dp=32", "at most the 2,048 accelerators of the cluster, not 4,096"),
        (LLAMA, "dp=512,micro_batch=2", "at most the 512 sequences of a step, not 1,024"),
        (LLAMA, "shard_size=8,sharding=zero1", "sharding=zero3"),
        (LLAMA, "shard_size=8,cp=1,dp=12", "divides cp \\* dp = 12"),
    ],
)
def test_what_cannot_hold_is_refused_with_the_numbers(model, text, says):
    constraints = parse_constraints(text)
    problems = contradictions(model, CONFIG, CLUSTER, CAN_DO_ALL, constraints)
    assert len(problems) == 1, problems
    assert problems[0].where == "--fix"
    assert problems[0].fix
    assert re.search(says, problems[0].expected)


def test_software_and_host_links_that_are_missing_are_named():
    lacks = replace(PROFILE, supports={"zero2": False, "cp_all_to_all": False, "interleaving": True})
    found = contradictions(LLAMA, CONFIG, CLUSTER, lacks, parse_constraints("sharding=zero2,cp=2,cp_kind=all_to_all"))
    assert [(p.found, p.expected.split(";")[1]) for p in found] == [
        ("sharding=zero2", " it has no zero2"),
        ("cp=2,sharding=zero2,cp_kind=all_to_all", " it has no cp all to all"),
    ]
    unknown = replace(CLUSTER, accelerator=replace(CLUSTER.accelerator, host_bytes_per_s=0.0))
    (problem,) = contradictions(LLAMA, CONFIG, unknown, CAN_DO_ALL, parse_constraints("offload=activations"))
    assert "host memory" in problem.expected


@given(LAYOUTS, st.sampled_from([LLAMA, DEEPSEEK]))
def test_a_layout_that_is_fixed_in_full_is_refused_just_when_it_breaks_a_rule(layout, model):
    layout = replace(layout, sequence_parallel=True, ep_overlap=layout.ep_overlap and layout.ep > 1)
    (status,) = evaluate(model, CONFIG, CLUSTER, CAN_DO_ALL, LayoutArrays.of([layout])).status
    runs = status in (LayoutStatus.OK, LayoutStatus.OUT_OF_MEMORY)
    assert bool(contradictions(model, CONFIG, CLUSTER, CAN_DO_ALL, constraints_of(layout))) is not runs
    if runs:
        for name in CONSTRAINED:
            alone = SearchConstraints(**{name: getattr(constraints_of(layout), name)})
            assert contradictions(model, CONFIG, CLUSTER, CAN_DO_ALL, alone) == (), name


CONSTRAINED = sorted({f.name for f in fields(Layout)} & {f.name for f in fields(SearchConstraints)})


def constraints_of(layout):
    """The search that may look at this layout only."""
    values = {name: getattr(layout, name) for name in CONSTRAINED}
    return SearchConstraints(**{name: v if type(v) in (int, bool) else word_of(v) for name, v in values.items()})


def test_a_scenario_fixes_dimensions_in_the_same_words():
    keys = json_schema()["$defs"]["LayoutShape"]["properties"]
    fixed = set(fixed_words(constraints_of(Layout())))
    assert fixed <= keys.keys()
    for name in fixed:
        for word in keys[name].get("enum", ()):
            assert word_of(layout_value(name, word)) == word
    layout = "{etp: 2, schedule: 1f1b, order: tp-cp-pp-dp, ep_overlap: true, shard_size: 0}"
    quickstart = Path(__file__).parents[2] / "examples" / "quickstart.yaml"
    assert fixed_words(load(quickstart, overrides={"layout": layout}).constraints) == {
        "etp": "2", "schedule": "1f1b", "order": "tp-cp-pp-dp", "ep_overlap": "yes", "shard_size": "0",
    }  # fmt: skip


def test_dualpipe_needs_an_even_number_of_micro_batches():
    fixed = parse_constraints("pp=2,vpp=1,dp=1,micro_batch=3,schedule=dualpipe")
    (problem,) = contradictions(LLAMA, CONFIG, CLUSTER, CAN_DO_ALL, fixed)
    assert "171" in problem.expected
