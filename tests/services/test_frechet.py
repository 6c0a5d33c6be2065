"""The Fréchet distance of Gaussians whose distance is known."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from services.reward.frechet import frechet_distance


def test_equal_spreads_are_as_far_apart_as_their_means() -> None:
    features = np.random.default_rng(0).normal(size=(50, 4))
    assert frechet_distance(features.tolist(), (features + np.array([3, 0, 4, 0])).tolist()) == pytest.approx(
        25
    )


def test_in_one_dimension_it_is_the_means_and_the_deviations() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(0, 1, (400, 1)), rng.normal(2, 3, (300, 1))
    by_hand = (one.mean() - other.mean()) ** 2 + (one.std(ddof=1) - other.std(ddof=1)) ** 2
    assert frechet_distance([[x] for x in one[:, 0]], other.tolist()) == pytest.approx(by_hand)


@pytest.mark.parametrize("count", [6, 200], ids=["fewer pictures than features", "more"])
def test_it_is_the_formula_with_the_matrix_square_root(count: int) -> None:
    rng = np.random.default_rng(count)
    one, other = rng.normal(size=(count, 8)), rng.normal(size=(count + 3, 8)) @ rng.normal(size=(8, 8))
    spreads = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = np.real(sqrtm(spreads[0] @ spreads[1]))
    formula = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(spreads[0] + spreads[1] - 2 * root)
    assert frechet_distance(one.tolist(), other.tolist()) == pytest.approx(formula, rel=1e-5)
