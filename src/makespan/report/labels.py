"""Names of the data in plain words, and what a plan leaves out. One place, so that every page says the same."""

from __future__ import annotations

import re

KINDS = {
    "rent": "rent",
    "build": "build",
    "mix": "rent, then move",
}

LEVERS = {
    "step.time_factor": "time of a step against the prediction",
    "model.candidates": "which of the models is trained",
    "run.ready": "date when data and recipe are ready",
    "run.execution": "execution of the team",
    "run.restarted_work": "work thrown away and repeated",
    "failures.per_accelerator": "failures that grow with size",
    "failures.per_job": "failures that do not grow with size",
    "recovery.detection": "time to notice a failure",
    "recovery.restart": "time to restart",
    "recovery.repair": "time to repair a node",
    "checkpoints.blocking": "stop for a checkpoint",
    "checkpoints.save": "time until a checkpoint is safe",
}

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
    "contract": "the rental contract",
    "permit": "permits",
    "construction": "construction",
    "cooling": "cooling",
    "network": "the network",
    "delivery": "delivery of accelerators",
    "installation": "installation",
    "commissioning": "commissioning and burn-in",
    "power": "power",
    "cluster_size": "the size of the cluster",
    "compute": "the training itself",
    "productive": "the training itself",
    "training": "the training itself",
    "speed": "the training itself",
    "recipe": "data and recipe",
    "wait_recipe": "data and recipe",
    "wait_capacity": "waiting for capacity",
    "calendar": "work after pre-training",
    "calendar_stage": "work after pre-training",
    "failures": "failures",
    "failure": "failures",
    "checkpoint": "checkpoints",
    "detection": "noticing failures",
    "restart": "restarts after failures",
    "lost_work": "work lost in failures",
    "repair_wait": "waiting for repair",
    "reconfiguration": "growing or moving",
    "restarted_work": "attempts thrown away",
    "run_share": "the run's share of the cluster",
    "share": "the run's share of the cluster",
    "overheads": "failures and checkpoints",
    "never_started": "training that never starts",
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
    "elementwise": "Norms, activations and other memory-bound work",
    "moe": "Routing of experts",
    "experts": "Experts",
    "permute": "Routing of tokens to experts",
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
}

MEMORY = {
    "weights": "Weights",
    "gradients": "Gradients",
    "optimizer": "Optimizer state",
    "activations": "Activations",
    "logits": "Logits and loss",
    "buffers": "Communication buffers",
    "overhead": "Context and allocator",
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
    "Whether the trained model is any good: a run either finishes its budget or does not.",
    "Competition, revenue and the worth of being early.",
    "Money beyond the model: taxes, subsidies, financing structure, resale of spare capacity.",
    "Changes of price during a contract, and renegotiation.",
    "Disasters, export rules, strikes and law suits, except where a scenario puts odds on them.",
    "Storage and data pipelines as a limit on speed; the network is described by tiers, not by cable.",
    "Failures that spread (a whole row, switch or cooling loop at once) and hardware that gets worse with age.",
    "Swings of power within a step and what smoothing them needs; power is a provisioned peak and a mean.",
    "Weather: cooling and power availability are the same all year.",
    "People learning on the job: crews and training teams work at one pace.",
)


def readable(name: str) -> str:
    """A dotted or underscored name as words.

    >>> readable("sites.memphis.install_rate")
    'sites: memphis: install rate'
    """
    return re.sub(r"\s+", " ", name.replace("_", " ").replace(".", ": ")).strip()


def lever_label(name: str) -> str:
    """The plain words for an uncertain input: those of `LEVERS`, or its path without the folders everything is in.

    >>> lever_label("run.restarted_work"), lever_label("sites.memphis.power.grid-to-50-mw.from")
    ('work thrown away and repeated', 'memphis, power, grid to 50 mw, from')
    >>> lever_label("options.stay-at-oracle.ramp.0.count")
    'stay at oracle, ramp 1, count'
    """
    if name in LEVERS:
        return LEVERS[name]
    parts = [part for part in name.split(".") if part not in ("run", "stages", "options", "sites")]
    words = [str(int(part) + 1) if part.isdigit() else re.sub(r"[-_]+", " ", part) for part in parts]
    joined = ", ".join(words)
    return re.sub(r", (\d+)\b", r" \1", joined)


def label(table: dict[str, str], name: str) -> str:
    """The plain words for a name; the name itself, made readable, where the table has none."""
    return table.get(name) or readable(name)
