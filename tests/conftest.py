"""Fixtures and profiles that all tests share."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import tinynet as tn

settings.register_profile(
    "tinynet",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("tinynet")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside the repository; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs real data in {SHARED.parent.name}/{SHARED.name} beside the repository")
    return SHARED


@pytest.fixture(autouse=True)
def clean_state():
    """Every test starts from seed 0 with all threads, and leaves room and recording mode as they were."""
    tn.seed(0)
    np.random.seed(0)
    before = tn.kernels.room()
    if threads := sys.modules.get("tinynet.kernels.cpu.threads"):  # another test may have set them
        threads.set_thread_count(threads.most_threads()[0])
    yield
    assert tn.kernels.room() == before, "the test left another kernel room behind"
    assert tn.autograd.is_recording(), "the test left recording switched off"
