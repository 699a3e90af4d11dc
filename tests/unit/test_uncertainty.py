"""Distributions hit the figures they were given; streams are keyed by purpose and replicate."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makespan.uncertainty import (
    Discrete,
    Fixed,
    Percentiles,
    Streams,
    Triangular,
    Uniform,
    _normal_quantile,
    percentiles,
    scaled,
    shifted,
)

U = np.linspace(0.0005, 0.9995, 1000)


def test_normal_quantile_equals_the_standard_library():
    expected = [NormalDist().inv_cdf(u) for u in U]
    np.testing.assert_allclose(_normal_quantile(U), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("p10", "p50", "p90"), [(1.0, 2.0, 8.0), (-3.0, 0.0, 1.0)])
def test_percentiles_are_met_exactly(p10, p50, p90):
    got = Percentiles(p10=p10, p50=p50, p90=p90).quantile(np.array([0.1, 0.5, 0.9]))
    np.testing.assert_allclose(got, [p10, p50, p90], rtol=1e-6, atol=1e-8)


def test_percentiles_of_dates_do_not_depend_on_where_time_starts():
    late = np.array([0.99])
    near = Percentiles(p10=1.0, p50=36.0, p90=180.0, linear=True).quantile(late)
    far = Percentiles(p10=1001.0, p50=1036.0, p90=1180.0, linear=True).quantile(late)
    assert far[0] - near[0] == pytest.approx(1000.0)


def test_triangular_has_its_mean_and_bounds():
    values = Triangular(low=2.0, mode=3.0, high=10.0).quantile(np.linspace(0, 1, 200_001))
    assert values[0] == 2.0
    assert values[-1] == 10.0
    assert values.mean() == pytest.approx(5.0, abs=1e-4)  # (low + mode + high) / 3


def test_triangular_without_width_is_its_mode():
    np.testing.assert_array_equal(Triangular(low=4.0, mode=4.0, high=4.0).quantile(U), 4.0)


def test_discrete_gives_each_value_its_weight_and_allows_never():
    values = Discrete(values=(1.0, math.inf), weights=(3.0, 1.0)).quantile(U)
    assert np.mean(np.isinf(values)) == pytest.approx(0.25, abs=0.002)


@given(st.lists(st.floats(0, 0.999999), min_size=2, max_size=20))
def test_quantiles_never_fall(us):
    u = np.sort(np.array(us))
    for distribution in (
        Uniform(low=-1, high=3),
        Triangular(low=0, mode=1, high=5),
        Percentiles(p10=1, p50=3, p90=4),
        Discrete(values=(1, 2, 5), weights=(1, 1, 1)),
    ):
        assert np.all(np.diff(distribution.quantile(u)) >= -1e-12)


def test_the_same_name_gives_the_same_draw_and_another_seed_another():
    price = Uniform(name="price", low=0, high=1)
    first, again, other = Streams(1, 50), Streams(1, 50), Streams(2, 50)
    np.testing.assert_array_equal(first.draw(price), again.draw(price))
    assert not np.array_equal(first.draw(price), other.draw(price))


def test_more_replicates_leave_the_first_ones_alone():
    price = Uniform(name="price", low=0, high=1)
    np.testing.assert_array_equal(Streams(7, 1000).draw(price)[:100], Streams(7, 100).draw(price))


def test_an_uncertain_value_without_a_name_is_refused():
    with pytest.raises(ValueError, match="name"):
        Streams(0, 3).draw(Uniform(low=0, high=1))


def test_fixed_values_are_not_recorded_as_drawn():
    streams = Streams(0, 3)
    np.testing.assert_array_equal(streams.draw(Fixed(name="x", value=2.5)), [2.5, 2.5, 2.5])
    assert streams.drawn == {}
    assert streams.asked == set()


def test_scaled_and_shifted_share_the_draw_of_their_base():
    base = Triangular(name="date", low=0, mode=10, high=40)
    streams = Streams(3, 200)
    values = streams.draw(base)
    np.testing.assert_allclose(streams.draw(scaled(base, 2.0)), 2 * values)
    moved = streams.draw(shifted(base, -15.0, floor=0.0))
    np.testing.assert_allclose(moved, np.maximum(values - 15, 0))


def test_shifting_leaves_what_lies_under_the_floor():
    past = Fixed(value=-20.0)
    assert shifted(past, -30.0, floor=0.0).central == -20.0


def test_percentiles_of_a_sample_count_never_as_late():
    assert percentiles(np.array([3.0, 1.0, math.inf, 2.0])) == (1.0, 2.0, math.inf)
    assert percentiles(np.array([5.0])) == (5.0, 5.0, 5.0)


def test_tails_of_percentiles_end_at_the_limits_of_their_field():
    u = np.array([0.0, 0.1, 0.5, 0.9, 0.9999])
    share = Percentiles(p10=0.6, p50=0.75, p90=0.95, least=0.0, most=1.0)
    assert share.quantile(u).max() == 1.0
    np.testing.assert_allclose(share.quantile(u)[1:4], [0.6, 0.75, 0.95])
    lost = Percentiles(p10=0.0, p50=0.05, p90=0.3, least=0.0)
    assert lost.quantile(u).min() == 0.0
