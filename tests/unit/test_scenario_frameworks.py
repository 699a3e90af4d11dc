"""Training software by the names people use."""

import datetime as dt

import pytest

from makespan.catalog.families import frameworks_called
from makespan.errors import ScenarioError
from makespan.scenario import parse_framework

LATE = dt.date(2026, 12, 1)


@pytest.mark.parametrize(
    ("word", "day", "name"),
    [
        ("Megatron", LATE, "megatron-2026"),
        ("megatron", None, "megatron-2026"),
        ("Megatron-LM", dt.date(2025, 6, 1), "nemo-2025"),
        ("MEGATRON", dt.date(2024, 9, 10), "megatron-2024"),
        ("megatron_lm", dt.date(2023, 6, 10), "megatron-2022"),
        ("Megatron Bridge", LATE, "megatron-2026"),
        ("NeMo", LATE, "nemo-2025"),
        ("nemo", dt.date(2024, 9, 10), "megatron-2024"),
        ("AutoModel", LATE, "automodel-2026"),
        ("TorchTitan", LATE, "torch-fsdp2"),
        ("FSDP", LATE, "torch-fsdp2"),
        ("fsdp", dt.date(2024, 9, 10), "fsdp-2023"),
        ("llm-foundry", LATE, "fsdp-2023"),
        ("JAX", LATE, "jax-2024"),
        ("MaxText", LATE, "jax-2024"),
        ("Megatron-2024", LATE, "megatron-2024"),
    ],
)
def test_a_software_means_its_newest_profile_known_by_the_day(word, day, name):
    assert parse_framework(word, as_of=day).name == name


def test_newest_first():
    assert frameworks_called("megatron") == [
        *("megatron-2026", "megatron-2025", "nemo-2025", "megatron-2024", "megatron-2022")
    ]
    assert frameworks_called("megatron", dt.date(2024, 1, 1)) == ["megatron-2022"]
    assert frameworks_called("deepspeed-chat") == []


def test_an_unknown_name_lists_profiles_and_software():
    with pytest.raises(ScenarioError) as caught:
        parse_framework("tensorflow")
    said = str(caught.value)

    assert "MS301" in said
    assert all(name in said for name in ("automodel-2026", "megatron-2022", "torch-fsdp2"))
    assert all(word in said for word in ("maxtext", "torchtitan", "nemo"))


def test_a_slip_of_the_pen_is_understood():
    with pytest.raises(ScenarioError, match=r"did you mean 'torchtitan'"):
        parse_framework("torchtitn")


def test_a_software_too_young_says_so_and_lists_what_was_there():
    with pytest.raises(ScenarioError, match=r"MS505.*'torchtitan'.*2024-09-10.*\n.*choose from: .*megatron-2024"):
        parse_framework("torchtitan", as_of=dt.date(2024, 9, 10))
