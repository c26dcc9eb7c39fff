"""The single-node cases of the ONNX suite, which others wrote, for every operator that tinynet has."""

import fnmatch

import numpy as np
import pytest
from onnx_adapter import NOT_OFFERED, RUN
from onnx_cases import load

CASES = load(frozenset(RUN))

# What is left out, by name, and why. A pattern must match something, and every case it matches must fail.
EXCLUDED = {
    "test_arg*keepdims_example_select_last_index": "of equal values the first wins, always",
    "test_clip_default_inbounds": "clip() without any bound is an error",
    "test_clip_default_int8_inbounds": "clip() without any bound is an error",
    "test_div_int8": "div is for floating-point numbers",
    "test_div_int16": "div is for floating-point numbers",
    "test_div_int32_trunc": "div is for floating-point numbers",
    "test_div_uint*": "div is for floating-point numbers",
    "test_training_dropout": "the mask comes from NumPy's legacy generator",
    "test_training_dropout_mask": "the mask comes from NumPy's legacy generator",
    "test_training_dropout_default": "the mask comes from NumPy's legacy generator",
    "test_training_dropout_default_mask": "the mask comes from NumPy's legacy generator",
    "test_gru_seq_length": "the reset gate acts after the product; this case wants it before",
    "test_lstm_with_peepholes": "no peepholes",
    "test_maxpool_2d_uint8": "pooling is for floating-point numbers",
    "test_wrap_pad": "no such padding mode",
    "test_pow_types_float32_*int*": "integers and floats do not mix silently",
    "test_pow_types_int*_float32": "integers and floats do not mix silently",
    "test_reduce_log_sum_exp_empty_set": "an extreme of nothing is an error",
    "test_reduce_max_empty_set*": "an extreme of nothing is an error",
    "test_reduce_min_empty_set": "an extreme of nothing is an error",
    "test_resize_downsample_*": "upsample() enlarges by whole numbers only",
    "test_resize_*cubic*": "no cubic interpolation",
    "test_resize_upsample_sizes_*": "upsample() takes scales, not sizes",
    "test_resize_tf_crop_and_resize*": "upsample() does not crop",
    "test_resize_upsample_scales_linear_align_corners": "upsample() aligns pixel areas, not corners",
    "test_resize_upsample_scales_linear_half_pixel_symmetric": "upsample() enlarges by whole numbers only",
    "test_resize_upsample_scales_nearest_axes_*": "upsample() enlarges all spatial axes",
}

# Rounding in the reference itself: half precision, or float32 sums in another order.
LOOSE = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3}  # expected values with four digits
TOLERANCE = {np.dtype(np.float16): 2e-3, np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-7}


def excluded(name):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in EXCLUDED)


def run(case):
    """Compare all outputs that tinynet offers with the expected ones, in shape, dtype and value."""
    attributes = dict(case.attributes)
    if case.op != "Split":
        del attributes["n_outputs"]
    outputs = RUN[case.op](list(case.inputs), attributes)
    assert len(outputs) >= len(case.outputs)
    for got, want in zip(outputs, case.outputs):
        if got is NOT_OFFERED or want is None:
            continue
        assert got.shape == want.shape and got.dtype == want.dtype
        rtol = LOOSE.get(case.name, TOLERANCE.get(want.dtype, 0))
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", [n for n in CASES if not excluded(n)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_onnx_case(name):
    run(CASES[name])


def test_the_numbers_of_cases_are_the_stated_ones():
    left_out = [n for n in CASES if excluded(n)]
    assert len(CASES) == 652
    assert len(left_out) == 70
    assert len(CASES) - len(left_out) >= 450


@pytest.mark.parametrize("pattern", EXCLUDED)
@pytest.mark.filterwarnings("ignore")
def test_what_is_left_out_really_fails(pattern):
    names = [n for n in CASES if fnmatch.fnmatchcase(n, pattern)]
    assert names, f"{pattern} excludes nothing"
    for name in names:
        with pytest.raises((AssertionError, TypeError, ValueError)):
            run(CASES[name])
