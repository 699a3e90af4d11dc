"""Sizes beyond which a number is a slip of the pen: far above anything built, low enough that nothing overflows."""

from __future__ import annotations

MOST_ACCELERATORS = 10_000_000
"""Accelerators of a pool or a cluster."""

MOST_LAYERS = 10_000
"""Layers of a model."""

MOST = 1_000_000_000
"""Any other whole number: widths, vocabularies, tokens of a sequence."""

FIRST_YEAR, LAST_YEAR = 1990, 2200
"""Years of `as_of` and of prices."""
