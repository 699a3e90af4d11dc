"""Fit the kernel and collective coefficients of the catalog to tables of measured kernels.

    python benchmarks/fit_kernels.py DIR [--json OUT] [--only gemm attention moe nccl] [--yaml]

DIR holds the tables as Parquet, one row a measurement, times in milliseconds. They are the performance database of
AIConfigurator (github.com/ai-dynamo/aiconfigurator, Apache-2.0, NVIDIA Corporation and affiliates), put together:

    gemm.parquet       system framework version gemm_dtype m n k latency_ms
    attention.parquet  system framework version kernel_source batch_size isl num_heads num_key_value_heads head_dim
                       attn_dtype kv_cache_dtype window_size latency_ms
    moe.parquet        system framework version kernel_source moe_dtype num_tokens hidden_size inter_size topk
                       num_experts moe_tp_size moe_ep_size distribution latency_ms
    nccl.parquet       system version op_name nccl_dtype num_gpus message_size latency_ms     (message_size in elements)

`system` is one of `SYSTEMS`. What is fitted is utilisation against the bound that `makespan.step.kernels` and
`makespan.network.collectives` compute: those very functions are called, with trial coefficients. Least squares on
log(predicted / measured) with a soft loss. Errors are from three folds by shape: no shape is predicted by a fit that saw
it. `low` and `high` of a coefficient are the extremes over those folds and over fits to other libraries, where there are
any. `--yaml` prints each coefficient as the catalog writes it, the range widened to at least `LEAST_SPREAD`. A hundredth of the shapes is held out of everything (`held_out`), for the tests. docs/explain/kernels.md tells what
is left out and why.

Needs pandas, pyarrow and scipy: `pip install pandas pyarrow scipy`. Same tables, same coefficients.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from makespan import catalog
from makespan.network import all_gather_s, all_reduce_s, all_to_all_s, members_per_tier, reduce_scatter_s
from makespan.specs.hardware import (
    AcceleratorSpec,
    AttentionEfficiency,
    CollectiveEfficiency,
    FabricSpec,
    FabricTier,
    GemmEfficiency,
)
from makespan.step.kernels import attention_forward_s, isolated_gemm_s

SYSTEMS = {
    "a100_sxm": "a100-sxm-80gb",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "b200_sxm": "b200-sxm",
    "b300_sxm": "b300-sxm",
    "gb200": "gb200",
    "gb300": "gb300",
}
BIG_FLOP = 5e11
"""Products over this are reported apart: they carry training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """Where a coefficient starts and where it may go."""

    start: float
    low: float
    high: float


Coefficients = Mapping[str, Coefficient]
Predict = Callable[[Mapping[str, float], Any], np.ndarray]
"""Coefficients and a table of rows -> seconds."""


def fit(predict: Predict, coefficients: Coefficients, rows: Any) -> dict[str, float]:
    """Robust least squares on the log of predicted over measured."""
    from scipy.optimize import least_squares

    names = list(coefficients)
    measured = rows.latency_ms.to_numpy() * 1e-3
    found = least_squares(
        lambda v: np.log(predict(dict(zip(names, v, strict=True)), rows) / measured),
        [c.start for c in coefficients.values()],
        bounds=([c.low for c in coefficients.values()], [c.high for c in coefficients.values()]),
        x_scale=[max(abs(c.start), 1e-9) for c in coefficients.values()],
        loss="soft_l1",
        f_scale=0.05,
    )
    return dict(zip(names, found.x.tolist(), strict=True))


def shape_number(rows: Any, columns: list[str]) -> Any:
    """A number that depends on the shape alone and scatters. int64 per row."""
    total = np.zeros(len(rows), dtype=np.int64)
    for column in columns:
        total = (total * 1_000_003 + rows[column].to_numpy().astype(np.int64)) % 2_147_483_647
    return (total * 48_271) % 2_147_483_647


def held_out(rows: Any, columns: list[str]) -> Any:
    """The hundredth of the shapes that no fit sees. bool per row."""
    return shape_number(rows, columns) % 101 == 0


def quantiles(errors: np.ndarray) -> list[float]:
    return [round(100 * float(q), 1) for q in np.quantile(np.abs(errors), [0.5, 0.9])] if len(errors) else []


def cross_fit(
    predict: Predict, coefficients: Coefficients, rows: Any, folds: Any, flop: Any, others: list[Any]
) -> dict[str, Any]:
    """Coefficients with their spread, and errors of rows that the fit did not see."""
    errors = np.empty(len(rows))
    fits = []
    for fold in range(3):
        fits.append(fit(predict, coefficients, rows[folds != fold]))
        part = rows[folds == fold]
        errors[folds == fold] = predict(fits[-1], part) / (part.latency_ms.to_numpy() * 1e-3) - 1.0
    final = fit(predict, coefficients, rows)
    fits += [final] + [fit(predict, coefficients, table) for table in others]
    return {
        "coefficients": {
            name: {
                "value": float(f"{final[name]:.4g}"),
                "low": float(f"{min(f[name] for f in fits):.4g}"),
                "high": float(f"{max(f[name] for f in fits):.4g}"),
            }
            for name in coefficients
        },
        "rows": len(rows),
        "libraries": 1 + len(others),
        "error_percent": quantiles(errors),
        "error_percent_big": quantiles(errors[np.asarray(flop) > BIG_FLOP]),
        "bias_percent": round(100 * float(np.median(errors)), 1),
    }


# --- matrix products ---------------------------------------------------------------------------------------------------

GEMM_ROWS = {
    # precision: (type in the table, library and version, versions whose fits give the spread)
    "bf16": ("bfloat16", None, []),
    "fp8": ("fp8", ("TRTLLM", "1.3.0rc20"), [("TRTLLM", "1.3.0rc10")]),
    "fp4": ("nvfp4", ("TRTLLM", "1.3.0rc20"), [("TRTLLM", "1.3.0rc10")]),
}
THROTTLED = {("gb200", "TRTLLM", "1.3.0rc17"), ("gb200", "VLLM", "0.24.0")}
"""Library runs on a machine that ran 10 to 40 % slow throughout, or half of the time."""

SHAPE = ["m", "n", "k"]


def gemm_predict(accelerator: AcceleratorSpec, precision: str) -> Predict:
    """Seconds of products. `start_us` and `quantise_ps` are the kernel that quantises the input: fitted, then dropped."""

    def predict(c: Mapping[str, float], rows: Any) -> np.ndarray:
        efficiency = GemmEfficiency(
            flop_utilisation=c["flop_utilisation"],
            hbm_utilisation=c["hbm_utilisation"],
            overhead_s=c["overhead_us"] * 1e-6,
            half_k=c["half_k"],
            wave_weight=max(c["wave_weight"], 1e-12),
        )
        kernels = replace(accelerator.kernels, gemm={precision: efficiency})
        m, n, k = (rows[name].to_numpy(dtype=float) for name in SHAPE)
        time = isolated_gemm_s(m, n, k, accelerator=replace(accelerator, kernels=kernels), arithmetic=precision)
        return np.asarray(time + c.get("quantise_ps", 0.0) * 1e-12 * m * k)

    return predict


def fit_gemm(table: Any, system: str, accelerator: AcceleratorSpec, precision: str) -> dict[str, Any] | None:
    """One accelerator and precision. bf16: median over all libraries."""
    dtype, chosen, others = GEMM_ROWS[precision]
    rows = table[(table.system == system) & (table.gemm_dtype == dtype) & (table.m >= 1024) & (table.m % 128 == 0)]
    rows = rows[~held_out(rows, SHAPE)]
    names = list(zip(rows.system, rows.framework, rows.version, strict=True))
    rows = rows[[name not in THROTTLED for name in names]]
    versions = sorted(set(zip(rows.framework, rows.version, strict=True)))

    def median_of(part: Any) -> Any:
        return part.groupby(SHAPE, as_index=False).latency_ms.median()

    def library(name: tuple[str, str]) -> Any:
        return median_of(rows[(rows.framework == name[0]) & (rows.version == name[1])])

    used = median_of(rows) if chosen is None else library(chosen)
    if len(used) < 500:
        return None
    spread = [library(name) for name in (versions if chosen is None else others) if name in versions]
    coefficients = {
        "flop_utilisation": Coefficient(start=0.7, low=0.1, high=1.0),
        "hbm_utilisation": Coefficient(start=0.6, low=0.1, high=0.95),
        "overhead_us": Coefficient(start=3.0, low=0.1, high=40.0),
        "half_k": Coefficient(start=100.0, low=0.0, high=4000.0),
        "wave_weight": Coefficient(start=0.1, low=0.0, high=1.0),
    }
    if precision != "bf16":
        coefficients["quantise_ps"] = Coefficient(start=1.0, low=0.0, high=20.0)
    folds = shape_number(used, ["n", "k"]) % 3
    result = cross_fit(
        gemm_predict(accelerator, precision), coefficients, used, folds, 2.0 * used.m * used.n * used.k, spread
    )
    result["library"] = "median of " + str(len(versions)) + " libraries" if chosen is None else " ".join(chosen)
    return result


# --- attention ---------------------------------------------------------------------------------------------------------

ATTENTION_ROWS = {
    # system prefix: (framework, version, kernels), and others for the spread
    "a100": [("SGLang", "0.5.10", ["flash_attention"]), ("SGLang", "0.5.9", ["flash_attention"])],
    "h": [("VLLM", "0.24.0", ["vllm_flash_attn_fa3"]), ("SGLang", "0.5.14", ["fa3"]), ("TRTLLM", "1.3.0rc20", None)],
    "gb": [("VLLM", "0.24.0", ["vllm_flashinfer_trtllmprefill"]), ("TRTLLM", "1.3.0rc20", ["torch_flow"])],
    "b": [("VLLM", "0.24.0", ["vllm_flashinfer_trtllmprefill"]), ("TRTLLM", "1.3.0rc20", ["torch_flow"])],
}
ATTENTION_SHAPE = ["batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim"]


def attention_predict(accelerator: AcceleratorSpec) -> Predict:
    """Seconds of causal attention. `cache` is the cost per query of writing keys to a cache: fitted, then dropped."""

    def predict(c: Mapping[str, float], rows: Any) -> np.ndarray:
        time = np.empty(len(rows))
        efficiency = AttentionEfficiency(
            flop_utilisation=c["flop_utilisation"],
            softmax_head_dim=c.get("softmax_head_dim", 0.0),
            half_waves=c["half_waves"],
        )
        heads = rows.num_heads.to_numpy(dtype=float)
        half_seq = c["half_seq"] + c["cache"] * rows.num_key_value_heads.to_numpy() / heads
        length = rows.isl.to_numpy(dtype=float)
        queries = rows.batch_size.to_numpy() * heads * length
        for width in sorted(set(rows.head_dim)):
            chosen = rows.head_dim.to_numpy() == width
            spec = replace(accelerator, kernels=replace(accelerator.kernels, attention=efficiency))
            pairs = queries * length / 2.0 * (1.0 + half_seq / length)
            time[chosen] = attention_forward_s(
                4.0 * width * pairs[chosen],
                accelerator=spec,
                seq_len=length[chosen],
                head_dim=float(width),
                queries=queries[chosen],
            )
        return time

    return predict


def fit_attention(table: Any, system: str, accelerator: AcceleratorSpec) -> dict[str, Any] | None:
    """Causal forward in bf16 from 2,048 tokens and two waves of blocks on."""
    prefix = next(p for p in ATTENTION_ROWS if system.startswith(p))
    rows = table[(table.system == system) & (table.attn_dtype == "bfloat16") & (table.kv_cache_dtype == "bfloat16")]
    blocks = rows.batch_size * rows.num_heads * rows.isl / 128
    rows = rows[
        (rows.window_size.fillna(0) == 0) & (rows.isl >= 2048) & (blocks >= 2 * accelerator.kernels.multiprocessors)
    ]
    widths = [64, 128, 192] if prefix == "h" else [64, 128, 256]
    rows = rows[rows.head_dim.isin(widths) & ~held_out(rows, ATTENTION_SHAPE)]
    tables = []
    for framework, version, kernels in ATTENTION_ROWS[prefix]:
        part = rows[(rows.framework == framework) & (rows.version == version)]
        part = part if kernels is None else part[part.kernel_source.isin(kernels)]
        tables.append(part.groupby(ATTENTION_SHAPE, as_index=False).latency_ms.median())
    used = tables[0]
    coefficients = {
        "flop_utilisation": Coefficient(start=0.6, low=0.1, high=1.0),
        "half_seq": Coefficient(start=800.0, low=0.0, high=5000.0),
        "half_waves": Coefficient(start=1.0, low=0.0, high=10.0),
        "cache": Coefficient(start=1000.0, low=0.0, high=9000.0),
    }
    if used.head_dim.nunique() > 1:
        coefficients["softmax_head_dim"] = Coefficient(start=90.0, low=1.0, high=300.0)
    flop = 2.0 * used.batch_size * used.isl.astype(float) ** 2 * used.num_heads * used.head_dim
    folds = shape_number(used, ["num_heads", "isl", "head_dim"]) % 3
    others = [part for part in tables[1:] if len(part) >= 300]
    result = cross_fit(attention_predict(accelerator), coefficients, used, folds, flop, others)
    result["library"] = " ".join(ATTENTION_ROWS[prefix][0][:2])
    result["head_dims"] = sorted(int(d) for d in set(used.head_dim))
    return result


# --- grouped products of experts ---------------------------------------------------------------------------------------

MOE_TYPES = {"bf16": "bfloat16", "fp8": "fp8", "fp4": "nvfp4"}
MOE_SHAPE = ["num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"]


def moe_predict(accelerator: AcceleratorSpec, precision: str) -> Predict:
    """Seconds of a gated expert layer: two grouped products, and the traffic of permuting, fitted and then dropped."""

    def predict(c: Mapping[str, float], rows: Any) -> np.ndarray:
        dense = accelerator.kernels.gemm[precision]
        efficiency = replace(dense, half_m=c["half_m"])
        kernels = replace(accelerator.kernels, gemm={precision: efficiency})
        spec = replace(accelerator, kernels=kernels)
        copies = rows.num_experts.to_numpy(dtype=float) / rows.moe_ep_size.to_numpy()
        m = rows.num_tokens.to_numpy() * rows.topk.to_numpy() / rows.num_experts.to_numpy(dtype=float)
        h = rows.hidden_size.to_numpy(dtype=float)
        f = rows.inter_size.to_numpy(dtype=float) / rows.moe_tp_size.to_numpy()

        def product(n: np.ndarray, k: np.ndarray) -> Any:
            return isolated_gemm_s(m, n, k, accelerator=spec, arithmetic=precision, copies=copies, grouped=True)

        moved = c["permute_bytes"] * copies * m * h / accelerator.hbm_bytes_per_s
        return np.asarray(c["start_us"] * 1e-6 + product(2.0 * f, h) + product(h, f) + moved)

    return predict


def fit_moe(table: Any, system: str, accelerator: AcceleratorSpec, precision: str) -> dict[str, Any] | None:
    """Balanced routing, and the price of uneven experts with all of them on one rank."""
    version = "1.0.0" if system == "a100_sxm" else "1.3.0rc20"
    rows = table[(table.system == system) & (table.framework == "TRTLLM") & (table.version == version)]
    rows = rows[(rows.moe_dtype == MOE_TYPES[precision]) & rows.kernel_source.isin(["moe_torch_flow_cutlass"])]
    per_expert = rows.num_tokens * rows.topk / rows.num_experts
    rows = rows[(rows.num_tokens >= 4096) & (rows.inter_size / rows.moe_tp_size >= 256) & (per_expert >= 64)]
    if len(rows) < 300:
        return None
    wide = rows.pivot_table(index=MOE_SHAPE, columns="distribution", values="latency_ms").reset_index()
    local = wide[wide.moe_ep_size == 1]
    ratios = np.concatenate([(local[d] / local.balanced).dropna() for d in ("power_law_1.01", "power_law_1.2")])
    used = rows[rows.distribution == "balanced"].groupby(MOE_SHAPE, as_index=False).latency_ms.median()
    used = used[~held_out(used, MOE_SHAPE)]
    coefficients = {
        "half_m": Coefficient(start=150.0, low=0.0, high=1500.0),
        "permute_bytes": Coefficient(start=5.0, low=0.0, high=60.0),
        "start_us": Coefficient(start=30.0, low=1.0, high=300.0),
    }
    copies = used.num_experts / used.moe_ep_size
    flop = 6.0 * used.num_tokens * used.topk / used.num_experts * copies * used.hidden_size
    folds = shape_number(used, ["hidden_size", "inter_size", "num_experts", "moe_tp_size"]) % 3
    result = cross_fit(
        moe_predict(accelerator, precision), coefficients, used, folds, flop * used.inter_size / used.moe_tp_size, []
    )
    result["library"] = f"TRTLLM {version}"
    result["uneven_experts"] = [round(float(q), 3) for q in np.quantile(ratios, [0.1, 0.5, 0.9])]
    return result


# --- collectives -------------------------------------------------------------------------------------------------------

OPERATIONS = {
    "all_gather": all_gather_s,
    "reduce_scatter": reduce_scatter_s,
    "all_reduce": all_reduce_s,
    "alltoall": all_to_all_s,
}
COLLECTIVES = {"alltoall": "all_to_all"}
SMALLEST_MESSAGE_BYTES = 2**18


def collectives_predict(link_bytes_per_s: float) -> Predict:
    def predict(c: Mapping[str, float], rows: Any) -> np.ndarray:
        names = [COLLECTIVES.get(name, name) for name in OPERATIONS]
        measured = CollectiveEfficiency(
            launch_s=c["launch_us"] * 1e-6,
            hop_s=c["hop_us"] * 1e-6,
            ramp_s=c["ramp_us"] * 1e-6,
            ramp_exponent=c["ramp_exponent"],
            efficiency={name: c[f"efficiency.{name}"] for name in names},
            own_part_saved={name: c[f"own_part_saved.{name}"] for name in names},
        )
        tier = FabricTier(
            name="nvlink",
            size=np.inf,
            bytes_per_s=link_bytes_per_s,
            latency_s=0.0,
            efficiency=1.0,
            collectives=measured,
        )
        fabric = FabricSpec(name="one domain", tiers=(tier,))
        time = np.empty(len(rows))
        for name, collective in OPERATIONS.items():
            part = rows.op_name.to_numpy() == name
            group = members_per_tier(fabric, rows.num_gpus.to_numpy()[part], 1)
            time[part] = collective(fabric, group, rows.bytes.to_numpy(dtype=float)[part])
        return time

    return predict


def fit_collectives(table: Any, system: str, accelerator: AcceleratorSpec) -> dict[str, Any] | None:
    """NCCL inside one NVLink domain, messages of 256 kB and more, newest version measured."""
    rows = table[(table.system == system) & table.version.notna()].copy()
    newest = max(set(rows.version))
    rows["bytes"] = rows.message_size * np.where(rows.nccl_dtype == "half", 2, 1)
    rows = rows[rows.bytes >= SMALLEST_MESSAGE_BYTES]
    shape = ["op_name", "num_gpus", "bytes"]

    def median_of(part: Any) -> Any:
        return part.groupby(shape, as_index=False).latency_ms.median()

    used = median_of(rows[rows.version == newest])
    coefficients = {
        "launch_us": Coefficient(start=5.0, low=0.0, high=60.0),
        "hop_us": Coefficient(start=0.7, low=0.0, high=20.0),
        "ramp_us": Coefficient(start=6.0, low=0.0, high=60.0),
        "ramp_exponent": Coefficient(start=0.5, low=0.2, high=0.8),
    }
    for name in OPERATIONS:
        kind = COLLECTIVES.get(name, name)
        coefficients[f"efficiency.{kind}"] = Coefficient(start=0.75, low=0.1, high=1.0)
        coefficients[f"own_part_saved.{kind}"] = Coefficient(start=0.7, low=0.0, high=1.0)
    folds = np.log2(used.bytes).astype(int).to_numpy() % 3
    flop = np.where(used.bytes >= 2**24, 2 * BIG_FLOP, 0.0)  # "big" is 16 MB here
    others = [median_of(rows[rows.version == v]) for v in sorted(set(rows.version)) if v != newest]
    result = cross_fit(collectives_predict(accelerator.scale_up_bytes_per_s), coefficients, used, folds, flop, others)
    result["library"] = f"NCCL {newest}"
    result["largest_group"] = int(used.num_gpus.max())
    return result


# --- the command -------------------------------------------------------------------------------------------------------


def with_products(accelerator: AcceleratorSpec, fitted: Mapping[str, Any]) -> AcceleratorSpec:
    """The accelerator with the products just fitted in place of the catalog's; grouped products build on them."""
    gemm = dict(accelerator.kernels.gemm)
    for precision in gemm:
        found = fitted.get(f"{accelerator.name} {precision}")
        if found is not None:
            c = {name: float(value["value"]) for name, value in found["coefficients"].items()}
            gemm[precision] = GemmEfficiency(
                flop_utilisation=c["flop_utilisation"],
                hbm_utilisation=c["hbm_utilisation"],
                overhead_s=c["overhead_us"] * 1e-6 if precision == "bf16" else 2e-6,
                half_k=c["half_k"],
                wave_weight=c["wave_weight"],
            )
    return replace(accelerator, kernels=replace(accelerator.kernels, gemm=gemm))


LEAST_SPREAD = {"flop_utilisation": 0.05, "efficiency": 0.1, "softmax_head_dim": 0.1, "ramp_exponent": 0.15}
"""Of a coefficient's range, either side; `OTHER_SPREAD` for the rest."""

OTHER_SPREAD = 0.3


def fact(name: str, coefficient: Mapping[str, float], result: Mapping[str, Any]) -> str:
    """A coefficient as an observation in the catalog. Units of time are in its name."""
    least = LEAST_SPREAD.get(name.split(".")[0], OTHER_SPREAD)
    value = coefficient["value"]
    low, high = min(coefficient["low"], value * (1 - least)), max(coefficient["high"], value * (1 + least))
    unit = " us" if name.endswith("_us") else ""
    median, p90 = result["error_percent"]
    how = f"{result['library']}, {result['rows']} shapes; error {median}/{p90} % (median/P90, 3-fold by shape)"
    shown = [f"{x:.3g}{unit}" for x in (value, low, high)]
    return (
        f"{name.removesuffix('_us')}: {{value: {shown[0]}, range: [{shown[1]}, {shown[2]}], "
        f'kind: measured, source: aiconfigurator, how: "{how}"}}'
    )


def show(kind: str, name: str, result: dict[str, Any], *, as_yaml: bool) -> None:
    errors, big = result["error_percent"], result["error_percent_big"]
    line = f"{kind:10s} {name:14s} {result['rows']:6d} rows  error {errors[0]:.1f}/{errors[1]:.1f} %"
    line += f"  large {big[0]:.1f}/{big[1]:.1f} %" if big else ""
    sys.stdout.write(f"{line}  {result['library']}\n")
    for key, c in result["coefficients"].items():
        if as_yaml:
            sys.stdout.write(f"    {fact(key, c, result)}\n")
            continue
        sys.stdout.write(f"    {key:28s} {c['value']:<10g} [{c['low']:g}, {c['high']:g}]\n")
    if "uneven_experts" in result:
        sys.stdout.write(f"    uneven experts, P10 P50 P90  {result['uneven_experts']}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", default=["gemm", "attention", "moe", "nccl"])
    parser.add_argument("--yaml", action="store_true")
    arguments = parser.parse_args()
    import pandas as pd

    sys.stdout.write(f"fitted on {dt.date.today().isoformat()}, tables in {arguments.folder}\n")

    results: dict[str, Any] = {}
    for kind in arguments.only:
        table = pd.read_parquet(arguments.folder / f"{kind}.parquet")
        for system, name in SYSTEMS.items():
            accelerator = catalog.accelerator(name).spec
            if kind == "moe":
                accelerator = with_products(accelerator, results.get("gemm", {}))
            found: dict[str, dict[str, Any] | None] = {}
            if kind in ("gemm", "moe"):
                one = fit_gemm if kind == "gemm" else fit_moe
                for precision in accelerator.kernels.gemm:
                    found[f"{name} {precision}"] = one(table, system, accelerator, precision)
            else:
                found[name] = (fit_attention if kind == "attention" else fit_collectives)(table, system, accelerator)
            for label, result in found.items():
                if result is not None:
                    results.setdefault(kind, {})[label] = result
                    show(kind, label, result, as_yaml=arguments.yaml)
                    sys.stdout.flush()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
