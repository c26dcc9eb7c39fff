"""``LD_PRELOAD=libasan.so python sanitized.py [OPTION...] CASE...``: cases under AddressSanitizer.

A process of its own, because the sanitizer ends the process where it finds something, and because it has to
be loaded before everything else. The stand-in gives every array memory of exactly its size, so that one
element too far is outside.
"""

import argparse
from pathlib import Path

import cases
import mutants
import numpy as np
import shim
import standin


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--mutant", help="run the cases with this mistake in the kernels")
    parser.add_argument("--kernel", help="run this kernel of test_shim.cu")
    choice = parser.parse_args()
    if choice.mutant:
        mutants.MUTANTS[choice.mutant].install()
    if choice.kernel:
        run_kernel(choice.kernel)
    cupy = standin.install("forward")
    for case in choice.cases:
        cases.on_card(case, cupy)
        print(f"clean: {case}", flush=True)


def run_kernel(name: str) -> None:
    """With 8 threads, an array of 8 ones, and shared memory for 8 floats."""
    code = Path(__file__).with_name("test_shim.cu").read_text()
    library = shim.build(code, ("-DTHREADS=8", "-DWITH_BARRIER=1"))
    y = np.ones(8, np.float32)
    library.launch(name, (1,), (8,), (shim.Pointer(y.ctypes.data),), 32)


if __name__ == "__main__":
    main()
