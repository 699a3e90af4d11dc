"""Free text of a row (recompute, sharding, graphs, overlap, notes) as fields of a `Layout`.

Every reader answers None where the text says nothing of its matter, and adds a note where it had to interpret.
"""

from __future__ import annotations

import re

from makespan.specs.layout import ContextKind, CudaGraphs, Offload, Recompute, Schedule, Sharding
from makespan.validation.cells import text_of
from makespan.validation.files import Row

_MODULES = (
    # (searched in the text, module). "moe_act" is the experts' activation function, "moe" the experts themselves.
    (r"\bmoe[_ ]act\w*|\bswiglu|\bgelu\b|\bsilu\b|(?<!saved )\bactivation[_ ]func\w*", Recompute.ACTIVATION),
    (r"layer[_ ]?norm|rms[_ ]?norm|\bnorms?\b", Recompute.NORM),
    (r"core[_ ]?att\w*|\bsdpa\b|attention[_ ]only|\battn\b(?!_)", Recompute.CORE_ATTENTION),
    (r"(mla[_ -]?)?up[_ -]?proj\w*", Recompute.UP_PROJECTION),
    (r"\bmlp\b|\bffn\b|shared[_ ]expert\w*", Recompute.MLP),
    (r"\bmoe\b(?![_ ](act|layer norm))|\bexperts?\b(?<!shared expert)(?<!shared experts)", Recompute.EXPERTS),
)
_NO_RECOMPUTE = re.compile(r"^(none|no|off|false|0|disabled|null|no recompute)\b")
_MEGATRON_LIST = re.compile(r"recompute(?:[_ ]modules)?\s*[=:]?\s*(\[?[a-z_]+(?:\s*[+,]\s*[a-z_]+)*\]?)")
_NAMED_MODULES = re.compile(r"^\[?(layernorm|moe|moe_act|core_attn|mla_up_proj|mlp|shared_experts|none)\b")
_PART = re.compile(
    r"(\d+)\s*(?:/|of|out of)\s*(\d+)\s*(?:layers?|blocks?)?|(?:block|uniform|first)\s*(\d+)(?:\s*layers?)?"
)
_SAVED = re.compile(r"remat|save_|minimal|offload_dot|offloaded|checkpoint_dots|policy")


def modules_of(text: str) -> Recompute:
    """Modules named in a text, as flags; none where none is named.

    Examples
    --------
    >>> modules_of("selective (core_attn, mla_up_proj)").label, modules_of("moe_act layernorm").label
    ('core_attention+up_projection', 'selective')
    """
    policy = Recompute.NONE
    for pattern, module in _MODULES:
        if re.search(pattern, text):
            policy |= module
    return policy


def recompute_of(row: Row, *, selective: Recompute, num_stage_layers: float, notes: list[str]) -> Recompute | None:
    """What a row recomputes; None where it says nothing.

    The list of modules in the notes (`recompute_modules=...`) is more precise than the word in the cell.

    Parameters
    ----------
    selective : what the word alone means in this software.
    num_stage_layers : layers of a pipeline stage, for texts such as "block 10 layers".
    """
    text = text_of(row, "recompute")
    if not text or text.startswith("selective"):
        listed = _listed_modules(text_of(row, "notes"))
        if listed is not None:
            return listed
    if not text:
        return None
    if _NO_RECOMPUTE.match(text):
        return Recompute.NONE
    if re.search(
        r"\bfull\b|\bblock\b|\buniform\b|^layers?\b|every layer|\ball\b|^yes$|^true$", text
    ) and not _SAVED.search(text.replace("remat full", "")):
        return _whole_layers(text, num_stage_layers, notes)
    if _SAVED.search(text):
        return _saved(text, notes)
    named = modules_of(text)
    if named:
        return named
    if re.search(r"select|\bop\b|\bsac\b", text):
        return selective
    notes.append(f"recompute '{text[:40]}' not understood")
    return None


def _listed_modules(text: str) -> Recompute | None:
    """`recompute_modules=layernorm+moe_act`, or "RMSNorm + MLA up-projection recomputed", in a row's notes."""
    for found in _MEGATRON_LIST.finditer(text):
        words = found[1].strip("[]")
        if words == "none":
            return Recompute.NONE
        if _NAMED_MODULES.match(words):
            return modules_of(re.sub(r"\s*[+,]\s*", " ", words))
    sentence = re.search(r"([^;]*)\brecomputed\b", text)
    return (modules_of(sentence[1]) or None) if sentence else None


def _whole_layers(text: str, num_stage_layers: float, notes: list[str]) -> Recompute:
    """Whole layers; a `Layout` recomputes all of them or none, so a part is taken for the nearer."""
    found = _PART.search(text)
    share = 1.0
    if found and found[1] and int(found[2]):
        share = int(found[1]) / int(found[2])
    elif found and found[3] and "uniform" not in found[0]:
        share = int(found[3]) / max(1.0, num_stage_layers)
    elif re.search(r"every (2nd|second|other)|half", text):
        share = 0.5
    if share >= 1.0:
        return Recompute.FULL
    policy = Recompute.FULL if share >= 0.5 else Recompute.NONE
    notes.append(f"{share:.0%} of the layers recomputed: taken for {'all' if policy else 'none'}")
    return policy


def _saved(text: str, notes: list[str]) -> Recompute:
    """Policies of JAX name what is saved. Products saved except the feed-forward's: those run twice."""
    if re.search(r"\bfull\b|nothing_saveable|save_nothing", text):
        return Recompute.FULL
    if re.search(r"except\w*_(ffn|mlp)", text) or (
        re.search(r"save_(qkv|out|context|attn)\w*", text) and "dot" not in text
    ):
        policy = Recompute.SELECTIVE | Recompute.MLP
    else:
        policy = Recompute.SELECTIVE
    notes.append(f"rematerialisation '{text[:40]}' taken for {policy.label}")
    return policy


_SHARDING = (
    (Sharding.ZERO3, r"hsdp|zero[-_ ]?(stage )?3|fsdp|fully|full[_ ]shard|hybrid[_ ]shard|mics|\b3\b"),
    (Sharding.ZERO2, r"zero[-_ ]?(stage )?2|shard[_ ]grad|\bsdp\b|\b2\b"),
    (Sharding.ZERO1, r"zero[-_ ]?(stage )?1|dist\w*[-_ ]?opt\w*|optimizer|\b1\b"),
    (Sharding.NONE, r"none|^no$|off|ddp|\bdp\b|\b0\b|zero[-_ ]?0|replicat"),
)


def sharding_of(row: Row, notes: list[str]) -> Sharding | None:
    """What data-parallel ranks split; None where the row does not say."""
    text = text_of(row, "sharding")
    if not text:
        return None
    for sharding, pattern in _SHARDING:
        if re.search(pattern, text):
            return sharding
    notes.append(f"sharding '{text[:40]}' not understood")
    return None


def shard_size_of(row: Row, dp: int, per_node: int, notes: list[str]) -> int:
    """Ranks of a ZeRO-3 group inside dp; 0 for all of them. HSDP of unknown size shards within a node, as PyTorch does."""
    text = text_of(row, "sharding")
    if not re.search(r"hsdp|hybrid|mics|group", text):
        return 0
    found = re.search(r"group(?: of| size)?\s*=?\s*(\d+)", text) or re.search(
        r"\bfsdp\s*=?\s*(\d+)", text_of(row, "notes")
    )
    size = int(found[1]) if found else per_node
    if found is None:
        notes.append(f"size of a sharding group not stated: a node of {per_node}")
    if size >= dp or size < 2:
        return 0
    if dp % size:
        notes.append(f"a sharding group of {size} does not divide {dp} replicas: sharded over all")
        return 0
    return size


def graphs_of(row: Row) -> CudaGraphs | None:
    """How far launches are recorded; None where neither the cell nor the name of a configuration says."""
    text = text_of(row, "cuda_graphs")
    if re.match(r"(none|no|off|false|0|disabled)\b", text):
        return CudaGraphs.NONE
    if re.search(r"full", text):
        return CudaGraphs.FULL
    if text:
        return CudaGraphs.PARTIAL
    return CudaGraphs.PARTIAL if re.search(r"config\S*_cg(_\w+)?\.sh", text_of(row, "notes")) else None


def _overlap_text(row: Row) -> str:
    return "; ".join(text_of(row, name) for name in ("overlap_notes", "schedule", "notes", "sharding"))


def schedule_of(row: Row) -> Schedule:
    """The pipeline's schedule: 1F1B unless another is named."""
    text = _overlap_text(row)
    if re.search(r"dualpipe", text):
        return Schedule.DUALPIPE
    if re.search(r"zero[- ]?bubble|\bzb[-_]?(h1|h2|v|1p)\b|\bzbv\b", text):
        return Schedule.ZERO_BUBBLE
    if re.search(r"\bgpipe\b|all[- ]forward[- ]all[- ]backward|\bafab\b", text):
        return Schedule.GPIPE
    return Schedule.ONE_F_ONE_B


def ep_overlap_of(row: Row) -> bool:
    """Whether expert all-to-all of one micro-batch runs behind another's compute."""
    text = _overlap_text(row)
    hidden = (
        r"(a2a|ep|expert[- ]parallel|moe|all-to-all)( comm\w*)? overlap(ped)?( is)?( on\b|=on|=true|$|;)|"
        r"overlap_moe_expert_parallel_comm(=true)?|moe a2a overlap(?! off)|ep a2a overlapped|batch[- ]level overlap"
    )
    return bool(re.search(hidden, text)) and not re.search(r"(a2a|ep comm|ep) overlap(=| )off", text)


def has_expert_dispatcher(row: Row) -> bool:
    """Whether a library that moves tokens between expert-parallel ranks is named: there are several, then."""
    return bool(re.search(r"deep[-_ ]?ep\b|hybrid[-_ ]?ep\b", _overlap_text(row)))


def cp_kind_of(row: Row) -> ContextKind:
    """How context-parallel ranks exchange keys and values: a ring unless all-to-all is named."""
    text = _overlap_text(row)
    if re.search(r"a2a\+p2p", text):
        return ContextKind.RING
    found = re.search(r"ulysses|cp_comm_type=a2a|(cp|context[- ]parallel\w*)( by| via|=)? ?(a2a|all-to-all)", text)
    return ContextKind.ALL_TO_ALL if found else ContextKind.RING


def offload_of(row: Row, num_layers: int, notes: list[str]) -> Offload:
    """What lives in host memory. A part of the layers is taken for all where it is half or more, else for none."""
    text = _overlap_text(row)
    offload = Offload.NONE
    if re.search(
        r"optimizer[- _]?(states? )?(cpu[- _]?)?offload|offload\w* (the )?optimizer|cpu[_ ]offload[_ ]optim", text
    ):
        offload |= Offload.OPTIMIZER
    found = re.search(
        r"activation[- _]?offload\w*(?!\s+likely)(?:\s*,?\s*layers\s*=\s*(\d+))?|offload\w* activations", text
    )
    if found and "offload likely" not in text:
        part = int(found[1]) if found.lastindex and found[1] else num_layers
        if 2 * part >= num_layers:
            offload |= Offload.ACTIVATIONS
        if part < num_layers:
            taken = "all" if 2 * part >= num_layers else "none"
            notes.append(f"activations of {part} of {num_layers} layers offloaded: taken for {taken}")
    return offload


def flag_of(row: Row, name: str) -> bool | None:
    """A yes or no; None for a blank cell and for words that are neither."""
    text = text_of(row, name)
    if re.match(r"(yes|y|true|on|1|enabled)\b", text):
        return True
    return False if re.match(r"(no|n|none|false|off|0|disabled)\b", text) else None
