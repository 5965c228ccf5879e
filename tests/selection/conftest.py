"""A slow oracle, and inputs that break selections."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest


def stable_order(*leaves: np.ndarray) -> np.ndarray:
    """Flat positions over all leaves by falling magnitude; ties to the lower, NaN first."""
    parts = [np.asarray(leaf).reshape(-1) for leaf in leaves]
    wide = np.float64 if parts[0].dtype == np.float64 else np.float32
    bits = np.abs(np.concatenate([part.astype(wide) for part in parts]))
    keys = np.where(np.isnan(bits), np.inf, bits).view(np.int64 if wide == np.float64 else np.int32)
    return np.argsort(-(keys.astype(np.int64) + np.isnan(bits)), kind="stable")


@pytest.fixture(scope="session")
def order() -> Callable[..., np.ndarray]:
    return stable_order


@pytest.fixture(scope="session")
def expected_mask() -> Callable[[Sequence[np.ndarray], int], np.ndarray]:
    """Leaves, k -> the flat mask over all leaves."""

    def mask(leaves: Sequence[np.ndarray], k: int) -> np.ndarray:
        chosen = np.zeros(sum(leaf.size for leaf in leaves), bool)
        chosen[stable_order(*leaves)[:k]] = True
        return chosen

    return mask


def awkward(size: int) -> dict[str, np.ndarray]:
    """Float32 inputs by name: ties, order, tiny and non-finite values."""
    rng = np.random.default_rng(size)
    smooth = rng.standard_normal(size).astype(np.float32)
    denormal = rng.integers(-(2**23), 2**23, size)
    signs = np.where(denormal < 0, np.int64(2**31), 0)
    special = smooth.copy()
    special[rng.integers(0, size, 1 + size // 10)] = np.inf
    special[rng.integers(0, size, 1 + size // 10)] = np.nan
    return {
        "smooth": smooth,
        "ascending": np.sort(np.abs(smooth)),
        "descending": -np.sort(np.abs(smooth))[::-1],
        "ties": rng.integers(-3, 4, size).astype(np.float32),
        "equal": np.full(size, -0.5, np.float32),
        "zeros": np.zeros(size, np.float32),
        "mostly zero": np.where(rng.random(size) < 0.01, smooth, 0).astype(np.float32),
        "rounded": (smooth.view(np.int32) & -65536).view(np.float32),
        "denormal": (np.abs(denormal) | signs).astype(np.uint32).view(np.float32),
        "not finite": special,
        "wide": smooth * np.exp2(rng.integers(-140, 120, size)).astype(np.float32),
    }


NAMES = tuple(awkward(1))


@pytest.fixture(params=NAMES)
def awkward_values(request: pytest.FixtureRequest) -> Callable[[int], np.ndarray]:
    """Size -> values, for every kind of them."""
    return lambda size: awkward(size)[request.param]
