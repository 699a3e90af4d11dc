"""One training step of one layout, or of a million: time with bounds, memory by kind, and whether it can run."""

from makespan.step.arrays import LayoutArrays, StepArrays
from makespan.step.estimate import interval_sigma, step_estimate, step_estimates
from makespan.step.evaluate import evaluate

__all__ = ["LayoutArrays", "StepArrays", "evaluate", "interval_sigma", "step_estimate", "step_estimates"]
