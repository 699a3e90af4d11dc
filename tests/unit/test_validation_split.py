"""Families and folds: near-duplicates stay together, the part kept out of every fit is a fair sample."""

from __future__ import annotations

from collections import Counter

import pytest

from makespan.validation.files import read_rows
from makespan.validation.split import (
    DEVELOPMENT,
    FOLDS,
    UNSEEN,
    VALIDATION,
    VALIDATION_FOLD,
    family_of,
    fold_of,
    model_family_of,
    publisher_of,
    split_of,
)

SHIPPED = read_rows(None)


@pytest.mark.parametrize(
    ("sources", "publisher"),
    [
        (("Megatron-Bridge 26.04.01 container, docs/x.md", "NVIDIA-NeMo/Megatron-Bridge 26.08"), "megatron-bridge"),
        (
            (
                "mlcommons/training_results_v3.1 NVIDIA/results/a",
                "mlcommons/training_results_v5.1 CoreWeave/x",
                "MLPerf Training v6.0",
            ),
            "mlcommons",
        ),
        (("NVIDIA/NeMo docs/a@1 (24.07 first)", "NVIDIA/NeMo docs/a@2 (24.07 final)"), "nvidia"),
        (("NVIDIA/dgxc-benchmarking v24.11.1 (35a)", "NVIDIA/dgxc-benchmarking v25.02 (8f5)"), "nvidia"),
        (("mosaicml/llm-foundry scripts/train",), "llm-foundry"),
        (("LLaMA arXiv:2302.13971", "Llama 3.1 model card", "Llama 2 arXiv:2307.09288"), "meta"),
        (("",), "unknown"),
    ],
)
def test_releases_and_rounds_of_a_publisher_are_one(sources, publisher):
    assert {publisher_of({"source": source}) for source in sources} == {publisher}


def test_a_recipe_printed_in_two_places_is_one_publishers():
    row = {"source": "NVIDIA/dgxc-benchmarking v25.12 llama3.1/README.md", "framework": "Megatron-Bridge/MCore"}

    assert publisher_of(row) == "megatron-bridge"


def test_near_identical_models_are_one_family():
    names = ("llama3.1_405b", "llama3.1_405b_kv16", "llama3.1_405b_kv16_L7", "llama3_405b__lora")

    assert {model_family_of(name) for name in names} == {"llama3_405b"}
    assert model_family_of("grok1_314b_L32") == "grok1_314b"
    assert model_family_of("llama3_8b") != model_family_of("llama3_70b")
    assert model_family_of("nemotron3_8b") != model_family_of("nemotron3_22b")


def test_no_configuration_is_on_both_sides():
    """The same model, accelerator, size, layout and batch never lies in a fit and in what judges it."""
    columns = ("gpu", "n_gpus", "tp", "pp", "vpp", "cp", "ep", "micro_batch", "global_batch", "seq_len", "precision")
    sides: dict[tuple[str, ...], set[bool]] = {}
    for row in SHIPPED:
        if row["tp"] and row["pp"]:
            key = (model_family_of(row["model"]), *(row[name] for name in columns))
            sides.setdefault(key, set()).add(fold_of(family_of(row)) == VALIDATION_FOLD)

    assert [key for key, both in sides.items() if len(both) > 1] == []


def test_split_goes_by_id_then_family():
    seen = frozenset(row["id"] for row in SHIPPED)
    splits = Counter(split_of(row, seen) for row in SHIPPED)

    assert set(splits) == {DEVELOPMENT, VALIDATION}
    assert 0.15 < splits[VALIDATION] / len(SHIPPED) < 0.3
    assert split_of({**SHIPPED[0], "id": "mine"}, seen) == UNSEEN
    assert {fold_of(family_of(row)) for row in SHIPPED} == set(range(FOLDS))


@pytest.mark.parametrize("what", ["gpu", "framework", "precision"])
def test_the_part_kept_out_is_balanced(what):
    """Every accelerator, software and precision with 40 rows or more has between a twelfth and 35 % in fold 0."""
    total = Counter(row[what] for row in SHIPPED)
    kept = Counter(row[what] for row in SHIPPED if fold_of(family_of(row)) == VALIDATION_FOLD)

    shares = {name: kept[name] / count for name, count in total.items() if count >= 40}
    assert len(shares) >= 4
    assert all(1 / 12 < share < 0.35 for share in shares.values()), shares
