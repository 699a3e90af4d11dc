"""Names of the data in plain words, and what a plan leaves out. One place, so that every page says the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

KINDS = {
    "rent": "rent",
    "build": "build",
    "mix": "rent, then move",
}

LEVERS = {
    "step.time_factor": "time of a step, against the prediction",
    "model.candidates": "which candidate model is trained",
    "run.ready": "day on which data and recipe are ready",
    "run.execution": "share of the predicted speed that the team reaches",
    "run.restarted_work": "training thrown away and repeated",
    "run.share": "share of the cluster that this run gets",
    "failures.per_accelerator": "how often an accelerator fails",
    "failures.per_job": "how often the job fails, whatever its size",
    "recovery.detection": "time to notice a failure",
    "recovery.restart": "time to restart",
    "recovery.repair": "time to repair a node",
    "checkpoints.blocking": "standstill for a checkpoint",
    "checkpoints.save": "time until a checkpoint is safe",
}

_LEVER_PATTERNS = (
    (r"run\.share\.(\d+)", "share of the cluster that this run gets, period {n}"),
    (r"run\.stages\.(.+)\.(?:compute|flop)", "operations of {0}"),
    (r"run\.stages\.(.+)\.tokens", "tokens of {0}"),
    (r"run\.stages\.(.+)\.duration", "duration of {0}"),
    (r"options\.(.+)\.ramp\.(\d+)\.count", "{0}: accelerators in step {n} of the ramp"),
    (r"options\.(.+)\.ramp\.(\d+)\.date", "{0}: date of step {n} of the ramp"),
    (r"options\.(.+)\.price", "{0}: price"),
    (r"options\.(.+)\.available", "{0}: share that is healthy"),
    (r"sites\.(.+)\.activities\.(.+)\.duration", "{0}: duration of {1}"),
    (r"sites\.(.+)\.deliveries\.(\d+)\.date", "{0}: date of delivery {n}"),
    (r"sites\.(.+)\.power\.(.+)\.(?:from|date)", "{0}: day on which {1} gives power"),
    (r"sites\.(.+)\.power\.(.+)\.(?:capacity|count)", "{0}: power of {1}"),
    (r"sites\.([^.]+)\.burn_in", "{0}: duration of burn-in"),
    (r"sites\.([^.]+)\.first_pass_yield", "{0}: share that passes the first test"),
    (r"sites\.([^.]+)\.repair", "{0}: time to repair what fails the first test"),
    (r"cluster\.available()", "share of the cluster that is healthy"),
    (r"sites\.(.+)\.(?:install_rate|installation_rate|installation)", "{0}: accelerators installed a day"),
)
"""Path of an uncertain input -> what to call it. {0}, {1}: names in the path; {n}: a place in a list, from 1."""

LEDGER = {
    "productive": ("Training", "steps that count towards the model"),
    "wait_recipe": ("Waiting for data and recipe", "accelerators may be there, but the run is not ready to start"),
    "wait_capacity": ("Waiting for capacity", "too few accelerators are delivered, built or powered"),
    "checkpoint": ("Saving checkpoints", "training stops while the state is saved"),
    "detection": ("Noticing failures", "from the fault until it is found"),
    "restart": ("Restarting", "processes, links and weights come back"),
    "lost_work": ("Lost work", "steps since the last safe checkpoint are done again"),
    "repair_wait": ("Waiting for repair", "no spare node is left"),
    "reconfiguration": ("Growing or moving", "restarting on more accelerators, or at another site"),
    "restarted_work": ("Thrown-away attempts", "training that the team decides to repeat"),
    "calendar_stage": ("After pre-training", "post-training and evaluation that take calendar time"),
}
"""Ledger line -> (short name, what it is)."""

CAUSES = {
    "none": "nothing",
    "contract": "rented capacity not there yet",
    "permit": "permits",
    "construction": "construction",
    "cooling": "cooling",
    "network": "the network",
    "delivery": "delivery of accelerators",
    "installation": "installation",
    "commissioning": "commissioning and burn-in",
    "power": "power",
    "cluster_size": "limit on the size of one job",
    "compute": "training at full size",
    "productive": "training at full size",
    "training": "training at full size",
    "speed": "training at full size",
    "recipe": "data and recipe",
    "wait_recipe": "data and recipe",
    "wait_capacity": "waiting for capacity",
    "calendar": "work after pre-training",
    "calendar_stage": "work after pre-training",
    "failures": "failures and checkpoints",
    "failure": "failures and checkpoints",
    "checkpoint": "checkpoints",
    "detection": "noticing failures",
    "restart": "restarts after failures",
    "lost_work": "work lost in failures",
    "repair_wait": "waiting for repair",
    "reconfiguration": "growing or moving",
    "restarted_work": "training thrown away and repeated",
    "run_share": "other work on the same cluster",
    "share": "other work on the same cluster",
    "overheads": "failures and checkpoints",
    "never_started": "training that never starts",
}

CAUSE_MEANINGS = {
    "compute": "what the training would take on all accelerators of the option, without a fault: only fewer operations or faster accelerators shorten it",
    "run_share": "the run gets a part of the cluster only; so much sooner would it end if it had all",
    "contract": "rented accelerators that the contract delivers later",
    "cluster_size": "accelerators that are there but cannot work in one job",
    "failures": "saving the state, noticing a fault, waiting for repair, restarting, and doing lost steps again",
    "restarted_work": "steps that the team decides to throw away, such as after a loss spike or a change of recipe",
    "calendar_stage": "post-training and evaluation, which take calendar time whatever the capacity",
    "recipe": "accelerators may be there, but data or recipe are not",
    "reconfiguration": "standing still to grow, shrink or move, and accelerators for which a restart did not pay",
    "construction": "buildings and halls that are not ready",
    "power": "accelerators that are installed but have no firm power",
    "delivery": "accelerators that the maker has not delivered",
    "installation": "delivered accelerators that crews have not put up",
    "commissioning": "installed accelerators still under test",
    "cooling": "halls without cooling",
    "network": "halls without their network",
    "permit": "building or power that waits for a permit",
}

TRAINING_CAUSES = frozenset({"compute", "productive", "training", "speed", "none"})
"""Causes that are the work itself: named only when nothing else holds a date back."""

COSTS = {
    "rent": "Rent",
    "unused_commitment": "Rent paid but not used",
    "commitment": "Rent paid but not used",
    "depreciation": "Depreciation",
    "compute_depreciation": "Depreciation of servers",
    "construction_depreciation": "Depreciation of buildings",
    "capital": "Cost of capital",
    "cost_of_capital": "Cost of capital",
    "energy": "Energy",
    "power": "Power",
    "power_fixed": "Power, fixed charges",
    "generation_fixed": "Hire of generators",
    "move": "Moving",
    "substation": "Substation",
    "batteries": "Batteries",
    "staff": "Staff",
    "maintenance": "Maintenance",
    "compute": "Servers, network and storage",
    "construction": "Buildings, power distribution, cooling",
}

STEP_PARTS = {
    "compute": "Matrix products",
    "gemm": "Matrix products",
    "attention": "Attention",
    "recompute": "Recomputation",
    "elementwise": "Memory-bound work (norms, activations)",
    "moe": "Routing of experts",
    "experts": "Experts",
    "permute": "Routing of tokens to experts",
    "router": "Scoring and sorting of tokens",
    "expert_elementwise": "Activation of experts",
    "head": "Head and loss",
    "bubble": "Pipeline bubble",
    "optimizer": "Optimizer",
    "jitter": "Waiting for the slowest",
    "tp": "Tensor-parallel communication",
    "tp_exposed": "Tensor-parallel communication",
    "pp": "Pipeline communication",
    "dp": "Data-parallel communication",
    "cp": "Context-parallel communication",
    "ep": "Expert-parallel communication",
    "fsdp": "Gathering sharded weights",
    "host": "Launch overhead",
    "casts": "Casts to low precision",
    "scan": "Mamba-2 scan",
    "offload": "Host link",
}

MEMORY = {
    "weights": "Weights",
    "gradients": "Gradients",
    "optimizer": "Optimizer state",
    "activations": "Activations",
    "logits": "Logits and loss",
    "buffers": "Communication buffers",
    "fragmentation": "Held by the allocator",
    "overhead": "Context and communicators",
}

FACT_KINDS = {
    "assumed": "no source found; the reason and a range are given",
    "decision": "the planner's own choice",
    "quoted": "a dated price or promise",
    "derived": "computed from other facts",
    "published": "printed in a paper, filing or article",
    "datasheet": "printed by the maker",
    "measured": "measured; the source says by whom",
}

OBSERVED = {
    "first_training": "First training",
    "all_installed": "All accelerators installed",
    "all_powered": "All accelerators powered",
    "pretraining": "End of pre-training",
    "completion.pretraining": "End of pre-training",
    "release": "Release",
    "completion.release": "Release",
    "installed": "Accelerators installed",
    "powered": "Accelerators powered",
    "usable": "Accelerators usable in one job",
    "used": "Accelerators the run computes on",
    "energy_j": "Energy",
    "peak_power_w": "Peak power",
    "cost_of_model_usd": "Cost of the model",
    "committed_usd": "Committed money",
    "capex_usd": "Capital",
    "goodput": "Goodput",
    "accelerator_s": "Accelerator time",
    "note": "Note",
}

NOT_MODELLED = (
    "Whether the trained model is any good. Compute, tokens and the model's shape are inputs, and so is the global batch: how large a batch still learns well is not asked.",
    "The worth of being early: revenue, competition, what the accelerators would earn elsewhere.",
    "Answers to bad news: a late building does not make anybody rent more, prices do not follow the market, a contract is not renegotiated or ended early. An earlier date costs no premium.",
    "Taxes, subsidies, insurance, land, interest during construction, resale above book value, demand charges and hourly tariffs.",
    "Events without a date or odds in the scenario: refused permits, law suits, export rules, strikes, disasters.",
    "Links between delays. Activities slip independently unless the scenario says otherwise, so the late ends of large projects are too thin; crews are not moved between halls, and there are no weekends or weather.",
    "Failures that come together (a rack, a switch, a power feed), early failures of new machines, repeat offenders, silent corruption, outages of the grid. Rates are steady means of fleets.",
    "Running on while a part is broken: a fault stops the whole job, which is harsh beyond 100,000 accelerators. Schemes that let the other replicas go on would lose less.",
    "Power beyond a provisioned peak and a mean: swings of load and what smooths them, capping accelerators so that more fit, cooling that depends on the weather.",
    "Storage and data loading as limits on speed; congestion in the network beyond one stated efficiency for each tier.",
    "Zero-bubble and DualPipe pipelines, offloading to the host, uneven routing of experts, state-space layers: layouts of that kind are not searched.",
    "Errors of the prediction outside what was measured: step times were checked against mostly NVIDIA's published runs, up to 11,616 accelerators; beyond that the interval is a judgement.",
)

LAYOUT_STATUS = {
    "heads_do_not_divide": "heads do not divide",
    "experts_do_not_divide": "experts do not divide",
    "too_many_stages": "more stages than layers",
    "vpp_needs_pipeline": "interleaving without a pipeline, or with too few micro-batches",
    "too_many_accelerators": "more accelerators than there are",
    "batch_too_small": "batch too small",
    "sequence_does_not_divide": "sequence does not divide",
    "tp_leaves_domain": "tensor parallelism wider than a scale-up domain",
    "out_of_memory": "out of memory",
    "not_supported": "not supported by the framework",
    "schedule_does_not_fit": "the schedule needs other stages or micro-batches",
    "shards_do_not_divide": "the sharding group does not divide the data-parallel ranks",
    "no_host_link": "offload, but no known link to host memory",
}
"""Why a layout is out, by the name of its `LayoutStatus`."""


def readable(name: str) -> str:
    """A dotted or underscored name as words.

    >>> readable("sites.memphis.install_rate")
    'sites: memphis: install rate'
    """
    return re.sub(r"\s+", " ", name.replace("_", " ").replace(".", ": ")).strip()


def lever_label(name: str, names: Mapping[str, str] | None = None) -> str:
    """The plain words for an uncertain input: those of `LEVERS`, a pattern's, or its path without the common folders.

    Parameters
    ----------
    names : names of options by the form they have in a path, so that they are written as in the scenario.

    >>> lever_label("run.restarted_work"), lever_label("sites.memphis.power.grid-to-50-mw.from")
    ('training thrown away and repeated', 'memphis: day on which grid to 50 mw gives power')
    >>> lever_label("options.stay-at-oracle.ramp.0.count", {"stay-at-oracle": "Stay at Oracle"})
    'Stay at Oracle: accelerators in step 1 of the ramp'
    >>> lever_label("sites.memphis.odd.0.thing")
    'memphis, odd 1, thing'
    """
    if name in LEVERS:
        return LEVERS[name]
    for pattern, text in _LEVER_PATTERNS:
        found = re.fullmatch(pattern, name)
        if found:
            groups = found.groups()
            place = str(int(groups[-1]) + 1) if groups[-1].isdigit() else ""
            return text.format(*(_part(group, names) for group in groups), n=place)
    parts = [part for part in name.split(".") if part not in ("run", "stages", "options", "sites")]
    words = [str(int(part) + 1) if part.isdigit() else _part(part, names) for part in parts]
    return re.sub(r", (\d+)\b", r" \1", ", ".join(words))


def _part(part: str, names: Mapping[str, str] | None) -> str:
    if names and part in names:
        return names[part]
    return part if part == "post-training" else re.sub(r"[-_]+", " ", part)


def reason(text: str) -> str:
    """A reason with the names of layout statuses in words.

    >>> reason("none of 540 layouts fits (405 out_of_memory, 135 not_supported)")
    'none of 540 layouts fits (405 out of memory, 135 not supported by the framework)'
    """
    text = re.sub(r"\breplicate(s?)\b", r"simulated future\1", text)
    return re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda found: LAYOUT_STATUS.get(found[0], found[0]), text)


def label(table: Mapping[str, str], name: str) -> str:
    """The plain words for a name; the name itself, made readable, where the table has none."""
    return table.get(name) or readable(name)
