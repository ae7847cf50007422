from decimal import Decimal
from fractions import Fraction
from math import fsum
from statistics import NormalDist

import numpy as np
import pytest
import torch

from eulerc.backends.hf.weights.tables import BINS, encode, normal_table, standard_normal

INNER = standard_normal()[1 : BINS - 1]
LOWEST = standard_normal()[BINS : 2 * BINS]
HIGHEST = standard_normal()[2 * BINS :]


def test_mean_of_the_distribution_is_exactly_zero() -> None:
    assert fsum(INNER) == 0.0
    assert fsum(LOWEST) == -fsum(HIGHEST)


def test_variance_of_the_distribution_is_one_to_float64_precision() -> None:
    squares = fsum(INNER * INNER) + fsum(LOWEST * LOWEST) / BINS + fsum(HIGHEST * HIGHEST) / BINS
    assert abs(squares / BINS - 1.0) < 1e-15


def test_kurtosis_of_the_distribution_is_three() -> None:
    fourth = fsum(INNER**4) + 2 * fsum(HIGHEST**4) / BINS
    assert fourth / BINS == pytest.approx(3.0, abs=1e-4)


def test_values_are_quantiles_at_the_middles_of_bins() -> None:
    """Up to the scale of 1.15e-6 that makes the variance 1; the standard library has its own code for the quantile."""
    normal = NormalDist()
    for bin_number in range(1, BINS - 1, 97):
        expected = normal.inv_cdf((bin_number + 0.5) / BINS)
        assert standard_normal()[bin_number] == pytest.approx(expected, rel=1.2e-6)
    for part in range(0, BINS, 97):
        assert LOWEST[part] == pytest.approx(normal.inv_cdf((part + 0.5) / BINS**2), rel=1.2e-6)


def test_refined_bins_lie_beyond_their_neighbours_and_reach_past_six_deviations() -> None:
    assert np.all(np.diff(INNER) > 0) and np.all(np.diff(LOWEST) > 0)
    assert LOWEST.max() < INNER.min()
    assert LOWEST.min() == pytest.approx(-6.338, abs=1e-3)
    assert np.array_equal(HIGHEST, -LOWEST)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_encode_rounds_as_torch_rounds(dtype: str) -> None:
    magnitudes = np.random.default_rng(0).standard_normal(20_000) * 10.0 ** np.arange(-10, 0).repeat(2_000)
    ties = np.arange(1, 2_000) / 2.0**8 + 1.0
    values = np.concatenate([magnitudes, ties, [0.0, -0.0, 1e-40]])
    expected = torch.from_numpy(values).to(torch.float32).to(getattr(torch, dtype))
    unsigned = expected.view(torch.int32 if dtype == "float32" else torch.int16).numpy()
    assert encode(values, dtype).tobytes() == unsigned.tobytes()


@pytest.mark.parametrize(("dtype", "largest"), [("float16", 65504.0), ("bfloat16", 3.3895e38), ("float32", 3.4028e38)])
def test_encode_refuses_what_the_dtype_cannot_hold(dtype: str, largest: float) -> None:
    encode(np.array([largest, -largest]), dtype)
    with pytest.raises(OverflowError, match=f"does not fit in {dtype}"):
        encode(np.array([0.0, -largest * 1.01]), dtype)


def test_deviation_scales_by_one_correctly_rounded_product() -> None:
    deviation = Decimal("0.0173205080756887729")
    entry = 12_345
    exact = Fraction(standard_normal()[entry]) * Fraction(float(deviation))
    double = float(exact)
    assert normal_table(deviation, "float32")[entry] == np.float32(double).view(np.uint32)
