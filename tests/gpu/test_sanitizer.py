"""Every kernel once under AddressSanitizer and UndefinedBehaviorSanitizer.

They find what no number shows: a read one element behind an array, a tile indexed past its row, a float4 at
an address that a card would refuse. cases.py holds the table of calls.
"""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import cases
import pytest
import shim

TEXT = Path(__file__).with_name("test_shim.cu").read_text()


@functools.cache
def library_of_sanitizer():
    """The file to preload, or None: g++ returns the bare name of a file that it does not have."""
    if not shim.available():
        return None
    command = ["g++", "-print-file-name=libasan.so"]
    found = Path(subprocess.run(command, capture_output=True, text=True).stdout.strip())
    return found if found.is_absolute() else None


needs_sanitizer = pytest.mark.skipif(
    library_of_sanitizer() is None, reason="needs g++ with the library of AddressSanitizer"
)


def findings(*arguments):
    """What the sanitizer says while sanitized.py runs; nothing when all is well."""
    settings = {"LD_PRELOAD": str(library_of_sanitizer()), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, str(Path(__file__).with_name("sanitized.py")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings})
    cases_done = [f"clean: {case}" for case in arguments if case in cases.CASES]
    if done.returncode == 0 and done.stdout.splitlines() == cases_done:
        return ""
    return done.stderr or f"ended with {done.returncode} after {done.stdout}"


@needs_sanitizer
@pytest.mark.parametrize("family", cases.FAMILIES)
def test_nothing_is_touched_outside_of_an_array(family):
    assert findings(*cases.FAMILIES[family]) == ""


@needs_sanitizer
@pytest.mark.parametrize(
    ("kernel", "text"),
    [
        ("past_the_array", "heap-buffer-overflow"),
        ("past_the_tile", "global-buffer-overflow"),
        ("past_the_dynamic_memory", "heap-buffer-overflow"),
        ("past_the_row", "index 4 out of bounds for type 'float [4]'"),
        ("crooked_float4", "misaligned address"),
    ],
)
def test_what_the_sanitizers_see(kernel, text):
    line = 1 + TEXT[: TEXT.index(f"void {kernel}(")].count("\n")
    report = findings("--kernel", kernel)
    assert text in report
    assert line - 2 <= int(re.search(r"kernels\.cu:(\d+)", report)[1]) <= line + 4


@needs_sanitizer
def test_a_process_that_fails_for_another_reason_is_no_pass():
    assert "KeyError" in findings("no such case")
