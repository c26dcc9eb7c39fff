"""How far a result is from the truth."""

from __future__ import annotations

from typing import Any

import numpy as np


def relative_error(got: Any, truth: Any) -> float:
    """Norm of the difference over that of the truth, in float64; infinite where NaN or inf do not agree."""
    got, truth = (np.asarray(a.get() if hasattr(a, "get") else a, np.float64) for a in (got, truth))
    assert got.shape == truth.shape, f"shape {got.shape}, should be {truth.shape}"
    fine = np.isfinite(truth)
    if not np.array_equal(got[~fine], truth[~fine], equal_nan=True) or not np.isfinite(got[fine]).all():
        return np.inf
    size = np.linalg.norm(truth[fine])
    return float(np.linalg.norm(got[fine] - truth[fine]) / (size or 1))
