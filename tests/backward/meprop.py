"""The oracle: meProp's and MSBP's backward formulas in float64 NumPy, one example after the other."""

import numpy as np


def top(row: np.ndarray, k: int) -> np.ndarray:
    """The row with its k largest magnitudes kept, ties to the lower index."""
    out = np.zeros_like(row)
    chosen = np.argsort(-np.abs(row), kind="stable")[:k]
    out[chosen] = row[chosen]
    return out


def unified(u: np.ndarray, k: int) -> np.ndarray:
    """u with the k columns of largest absolute sum kept."""
    out = np.zeros_like(u)
    chosen = np.argsort(-np.abs(u).sum(0), kind="stable")[:k]
    out[:, chosen] = u[:, chosen]
    return out


def step(
    x: np.ndarray,
    weight: np.ndarray,
    dh: np.ndarray,
    k: int,
    decay: float = 0.0,
    memory: np.ndarray | None = None,
    shared: bool = False,
) -> dict[str, np.ndarray]:
    """One backward step with the paper's mean or slot memory m (not the stored total).

    weight is [n_out, n_in] as in the paper; a memory of dh's shape is a slot memory.
    """
    x, weight, dh = (np.asarray(a, np.float64) for a in (x, weight, dh))
    m = np.zeros(dh.shape[1]) if memory is None else np.asarray(memory, np.float64)
    u = dh + m
    g = unified(u, k) if shared else np.stack([top(row, k) for row in u])
    dropped = u - g
    new = decay * (dropped if m.ndim == 2 else dropped.mean(0))
    return {"g": g, "m": new, "dW": g.T @ x, "dx": g @ weight, "db": dh.sum(0)}
