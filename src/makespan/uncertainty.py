"""Uncertain numbers and the random streams that draw them.

Every draw is keyed by (seed, purpose, replicate): two options that ask for the same purpose get the same numbers, so
a comparison sees the difference between the options and not the luck. More replicates never change the earlier ones.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

_Z90 = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution(ABC):
    """An uncertain number in SI units: base class. `name` is the purpose under which it is drawn."""

    name: str = ""

    @abstractmethod
    def quantile(self, u: FloatArray) -> FloatArray:
        """Value at probability u; same shape as u."""

    @property
    @abstractmethod
    def central(self) -> float:
        """The value used when one number is needed: the mode or the median, as written."""

    @property
    def is_fixed(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed(Distribution):
    """A number without uncertainty."""

    value: float

    def quantile(self, u: FloatArray) -> FloatArray:
        import numpy as np

        return np.full(np.shape(u), self.value, dtype=np.float64)

    @property
    def central(self) -> float:
        return self.value

    @property
    def is_fixed(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform(Distribution):
    """Any value from low to high is as likely."""

    low: float
    high: float

    def quantile(self, u: FloatArray) -> FloatArray:
        return self.low + (self.high - self.low) * u

    @property
    def central(self) -> float:
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Triangular(Distribution):
    """From low to high with the mode between them: what `value` with `range` means."""

    low: float
    mode: float
    high: float

    def quantile(self, u: FloatArray) -> FloatArray:
        import numpy as np

        width = self.high - self.low
        if width <= 0:
            return np.full(np.shape(u), self.mode, dtype=np.float64)
        turn = (self.mode - self.low) / width
        left = self.low + np.sqrt(u * width * (self.mode - self.low))
        right = self.high - np.sqrt((1 - u) * width * (self.high - self.mode))
        return np.where(u < turn, left, right)

    @property
    def central(self) -> float:
        return self.mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles(Distribution):
    """Three percentiles joined by two half-normals (of the logarithm where all are positive, unless `linear`).

    `linear` is for values whose zero means nothing, such as dates. Below the median the spread is that of P10, above it that of P90, so both printed figures are met exactly. The tails end
    at `least` and `most`: a share is never over 1, whatever its P90.
    """

    p10: float
    p50: float
    p90: float
    least: float = -math.inf
    most: float = math.inf
    linear: bool = False

    def quantile(self, u: FloatArray) -> FloatArray:
        import numpy as np

        z = _normal_quantile(u) / _Z90
        if self.p10 > 0 and not self.linear:
            low, mid, high = (math.log(p) for p in (self.p10, self.p50, self.p90))
            values = np.exp(mid + np.where(z < 0, z * (mid - low), z * (high - mid)))
        else:
            values = self.p50 + np.where(z < 0, z * (self.p50 - self.p10), z * (self.p90 - self.p50))
        return np.clip(values, self.least, self.most)

    @property
    def central(self) -> float:
        return self.p50


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrete(Distribution):
    """One of several values with weights; `inf` is allowed ("never")."""

    values: tuple[float, ...]
    weights: tuple[float, ...]

    def quantile(self, u: FloatArray) -> FloatArray:
        import numpy as np

        edges = np.cumsum(self.weights) / sum(self.weights)
        index = np.minimum(np.searchsorted(edges, u, side="right"), len(self.values) - 1)
        return np.asarray(self.values, dtype=np.float64)[index]

    @property
    def central(self) -> float:
        return self.values[max(range(len(self.weights)), key=self.weights.__getitem__)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled(Distribution):
    """`factor` times another distribution; drawn under that one's name, so both stay together."""

    base: Distribution
    factor: float

    def quantile(self, u: FloatArray) -> FloatArray:
        return self.base.quantile(u) * self.factor

    @property
    def central(self) -> float:
        return self.base.central * self.factor

    @property
    def is_fixed(self) -> bool:
        return self.base.is_fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifted(Distribution):
    """Another distribution moved by `offset` and kept between `floor` and `ceiling`; drawn under that one's name.

    Values already under the floor (dates in the past) or over the ceiling stay where they are.
    """

    base: Distribution
    offset: float
    floor: float
    ceiling: float

    def quantile(self, u: FloatArray) -> FloatArray:
        import numpy as np

        before = self.base.quantile(u)
        moved = before + self.offset
        moved = np.maximum(moved, np.minimum(before, self.floor))
        return np.minimum(moved, np.maximum(before, self.ceiling))

    @property
    def central(self) -> float:
        before = self.base.central
        return min(max(before + self.offset, min(before, self.floor)), max(before, self.ceiling))

    @property
    def is_fixed(self) -> bool:
        return self.base.is_fixed


def shifted(base: Distribution, offset: float, *, floor: float = -math.inf, ceiling: float = math.inf) -> Shifted:
    """`base` moved by `offset` within bounds, under the same name."""
    return Shifted(name=base.name, base=base, offset=offset, floor=floor, ceiling=ceiling)


def scaled(base: Distribution, factor: float) -> Scaled:
    """`factor` times `base`, under the same name."""
    return Scaled(name=base.name, base=base, factor=factor)


def _as_written(value: Distribution) -> Distribution:
    """The distribution before it was scaled or shifted."""
    while isinstance(value, Scaled | Shifted):
        value = value.base
    return value


def _normal_quantile(u: FloatArray) -> FloatArray:
    """Inverse of the standard normal distribution, by P. J. Acklam's rational form (relative error under 1.2e-9)."""
    import numpy as np

    a = (
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.383577518672690e2,
        -3.066479806614716e1,
        2.506628277459239,
    )
    b = (-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1)
    c = (
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    )
    d = (7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416)
    u = np.clip(np.asarray(u, dtype=np.float64), 1e-12, 1 - 1e-12)
    tail = np.minimum(u, 1 - u)
    q = np.sqrt(-2 * np.log(tail))
    outer = np.polyval(c, q) / (np.polyval(d, q) * q + 1)
    outer = np.where(u < 0.5, outer, -outer)
    centre = u - 0.5
    r = centre * centre
    inner = np.polyval(a, r) * centre / (np.polyval(b, r) * r + 1)
    result: FloatArray = np.where(tail < 0.02425, outer, inner)
    return result


@dataclass(slots=True)
class Streams:
    """Random numbers keyed by (seed, purpose, replicate).

    The draws of named distributions are kept in `drawn`, as they were written and not as scaled or shifted since, so that
    a study can say which input moved the answer;
    `asked` holds the names asked for since it was last emptied, drawn before or not.
    """

    seed: int
    num_replicates: int
    drawn: dict[str, FloatArray] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def uniforms(self, purpose: str, num_draws: int = 1) -> FloatArray:
        """Uniform numbers in [0, 1), shape (num_replicates, num_draws). Row r does not depend on num_replicates."""
        return self.generator(purpose).random((self.num_replicates, num_draws))

    def generator(self, purpose: str) -> np.random.Generator:
        """A generator of its own for one purpose."""
        import numpy as np

        digest = hashlib.blake2b(f"{self.seed}/{purpose}".encode(), digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))

    def draw(self, distribution: Distribution, default_name: str = "") -> FloatArray:
        """One value a replicate, shape (num_replicates,). The same name always gives the same draw."""
        import numpy as np

        name = distribution.name or default_name
        if not name and not distribution.is_fixed:
            raise ValueError("an uncertain value needs a name to be drawn under")
        if distribution.is_fixed:
            return distribution.quantile(np.zeros(self.num_replicates))
        self.asked.add(name)
        uniforms = self.uniforms(name)[:, 0]
        self.drawn[name] = _as_written(distribution).quantile(uniforms)
        return distribution.quantile(uniforms)


def highest(value: Distribution) -> float:
    """The largest value a distribution can take (its P90 where it has no end)."""
    if isinstance(value, Triangular | Uniform):
        return value.high
    if isinstance(value, Percentiles):
        return value.p90
    if isinstance(value, Discrete):
        return max(value.values)
    if isinstance(value, Scaled):
        return highest(value.base) * value.factor
    return value.central


def percentiles(values: FloatArray, probabilities: Sequence[float] = (0.1, 0.5, 0.9)) -> tuple[float, ...]:
    """Order statistics (inverted distribution function) of values that may be infinite ("never")."""
    import numpy as np

    ordered = np.sort(np.asarray(values, dtype=np.float64))
    last = len(ordered) - 1
    return tuple(float(ordered[min(max(math.ceil(p * len(ordered)) - 1, 0), last)]) for p in probabilities)
