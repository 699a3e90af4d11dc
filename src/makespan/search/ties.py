"""How near two layouts must be for the model not to tell them apart."""

from __future__ import annotations

import math

from makespan.specs.hardware import FrameworkProfile

Z_90 = 1.2815515655446004
"""Standard normal quantile of 90 %."""


def comparison_sigma(profile: FrameworkProfile) -> float:
    """Spread of log(true / predicted) of the ratio of two layouts' step times. [-]

    Where the profile does not know it, the two errors are taken as independent: sqrt(2) times that of one dense step.
    """
    return profile.comparison_sigma or math.sqrt(2.0) * profile.residual_sigma


def tie_fraction(profile: FrameworkProfile) -> float:
    """How much slower than the best a layout may be predicted and still tie with it. [-]

    Notes
    -----
    One chance in ten: with normal errors of spread s, a layout predicted slower by the factor r is faster in truth with
    the probability Phi(-ln(r) / s), which is 10 % at r = exp(1.2816 s). The best is the least of very many predictions, so
    its own is more likely too small than too large; that is left out, so true ties are rather more.

    Examples
    --------
    >>> from makespan import catalog
    >>> round(tie_fraction(catalog.framework("megatron-2026").spec), 3)
    0.07
    """
    return math.exp(Z_90 * comparison_sigma(profile)) - 1.0
