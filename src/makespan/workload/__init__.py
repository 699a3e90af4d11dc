"""From a model's shape to parameters, FLOP and bytes. Nothing here knows a machine."""

from makespan.workload.flop import (
    active_flop_per_token,
    attention_flop_per_token,
    model_flop_per_sequence,
    model_flop_per_token,
    mtp_flop_per_token,
)
from makespan.workload.layers import LayerKind, body_names, layer_kinds
from makespan.workload.operators import (
    Gemm,
    attention_flop,
    attention_gemms,
    dense_ffn_gemms,
    expert_gemms,
    head_gemm,
    router_gemm,
    side_ffn_gemms,
)
from makespan.workload.parameters import (
    active_parameter_count,
    layer_counts,
    parameter_count,
    parameters_by_part,
)

__all__ = [
    "Gemm",
    "LayerKind",
    "active_flop_per_token",
    "active_parameter_count",
    "attention_flop",
    "attention_flop_per_token",
    "attention_gemms",
    "body_names",
    "dense_ffn_gemms",
    "expert_gemms",
    "head_gemm",
    "layer_counts",
    "layer_kinds",
    "model_flop_per_sequence",
    "model_flop_per_token",
    "mtp_flop_per_token",
    "parameter_count",
    "parameters_by_part",
    "router_gemm",
    "side_ffn_gemms",
]
