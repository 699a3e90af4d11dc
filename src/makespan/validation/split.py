"""Which rows a fit may use: whole families, never single rows."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection

from makespan.validation.files import Row

DEVELOPMENT, VALIDATION, UNSEEN = "development", "validation", "unseen"
SPLITS = (DEVELOPMENT, VALIDATION, UNSEEN)
"""Shipped rows that fits may use; shipped rows that no fit uses; rows that are not shipped."""

FOLDS = 5
VALIDATION_FOLD = 0
SALT = 9921
"""One of 20,000 tried: under it fold 0 holds between 9 and 34 % of the rows, and between 10 and 32 % of the configurations,
of every profile, NVIDIA accelerator from 10 configurations and precision from 20, of dense and MoE models, and of runs with
and without a pipeline. Chosen by counts alone; no error of a prediction was looked at."""

_PUBLISHERS = (
    # (searched in source and framework, publisher): the same recipes printed in several places, and rounds of one benchmark
    (r"megatron[-_ ]bridge", "megatron-bridge"),
    (r"mlcommons|mlperf", "mlcommons"),
    (r"^nvidia/(nemo|dgxc-benchmarking|jax-toolbox)\b", "nvidia"),
)
_SAME_PUBLISHER = {"llama": "meta", "llama2": "meta", "llama3": "meta", "llama-3": "meta"}
_VARIANT = re.compile(r"(__\w+|_l\d+|_kv\d+|_fms)$")


def publisher_of(row: Row) -> str:
    """Who printed a row, releases and rounds of one publisher together.

    The first word of `source` without the owner of a repository and without a version, in lower case.

    Examples
    --------
    >>> publisher_of({"source": "NVIDIA-NeMo/Megatron-Bridge 26.02, docs/performance-summary.md"})
    'megatron-bridge'
    >>> publisher_of({"source": "mlcommons/training_results_v4.0 NVIDIA/results/eos_n64_ngc24.04_nemo/gpt3"})
    'mlcommons'
    >>> publisher_of({"source": "NVIDIA/NeMo docs/source/performance/performance_summary.md"})
    'nvidia'
    """
    source = row.get("source", "").lower()
    text = f"{source} {row.get('framework', '').lower()}"
    for pattern, publisher in _PUBLISHERS:
        if re.search(pattern, text):
            return publisher
    words = source.split()
    first = words[0].rstrip(",;:") if words else "unknown"
    name = re.sub(r"[-_@]?v?\d+(\.\d+)+$", "", first.rsplit("/", 1)[-1]) or first
    return _SAME_PUBLISHER.get(name, name)


def model_family_of(name: str) -> str:
    """A model's name without what makes a near-identical one of it: fewer layers, other KV heads, LoRA, a point release.

    Examples
    --------
    >>> model_family_of("llama3.1_405b_kv16_L21"), model_family_of("llama3.1_405b"), model_family_of("grok1_314b_L4")
    ('llama3_405b', 'llama3_405b', 'grok1_314b')
    """
    family = name.strip().lower()
    while (shorter := _VARIANT.sub("", family)) != family and shorter:
        family = shorter
    return re.sub(r"^llama[-_]?3(\.\d+)?[-_]", "llama3_", family)


def family_of(row: Row) -> str:
    """Publisher, model and accelerator: near-duplicates of a run share all three."""
    return " | ".join((publisher_of(row), model_family_of(row.get("model", "")), row.get("gpu", "").lower()))


def fold_of(family: str) -> int:
    """One of `FOLDS` groups of whole families, the same on every machine. `VALIDATION_FOLD` is kept out of every fit."""
    return zlib.crc32(f"{SALT} {family}".encode()) % FOLDS


def split_of(row: Row, seen: Collection[str]) -> str:
    """`unseen` for rows that are not shipped; of the shipped ones (ids in `seen`), `validation` for those of fold 0."""
    if row.get("id", "") not in seen:
        return UNSEEN
    return VALIDATION if fold_of(family_of(row)) == VALIDATION_FOLD else DEVELOPMENT
