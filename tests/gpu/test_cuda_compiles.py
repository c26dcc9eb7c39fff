"""Every ``.cu`` file compiles for three generations of cards, within its budget of registers.

nvcc needs no card. NVRTC, which compiles at run time where there is one, knows less than nvcc (no headers, so
no FLT_MAX and no uint32_t); where its library is not installed, the test of it is skipped.
"""

import ctypes
import ctypes.util
import importlib.util
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tinynet.kernels.cuda import loader
from tinynet.kernels.cuda.conv_plan import MANY, TF32_TILES, TILES

ARCHITECTURES = ("75", "80", "90")  # Turing, Ampere, Hopper: cards without and with TF32, and a new one
FILES = sorted(path.name for path in loader.FOLDER.glob("*.cu"))

# Registers a thread may use. A streaming multiprocessor has 65,536 of them: 64 each make room for 1,024
# threads at a time, 128 for 512, which is right where a thread holds a tile of sums.
REGISTERS = 64
MORE_REGISTERS = {"conv.cu": 128, "conv_weight.cu": 128}

# Bytes of memory that a thread may use as if they were registers: none, because that is slow. The exception
# is in NVIDIA's sin and cos, for arguments so large that ours never are.
STACK = {"gather.cu": 40}

# On cards before Hopper the compiler keeps some bytes of the largest tiles in memory.
MAY_SPILL_BEFORE_HOPPER = ("conv.cu", "conv_weight.cu")

# What wrappers fill in where a file leaves it open: of the many tiles of a convolution the largest.
LARGE, LONG, TENSOR = (tiles[0].defines for tiles in (TILES[math.inf], TILES[8], TF32_TILES[math.inf]))
WEIGHT, WEIGHT_TENSOR = MANY[math.inf].defines, MANY[math.inf]._replace(tf32=True).defines
DEFINES = {
    "conv.cu": [
        {**LARGE, "WIDTH": 4, "WIDTH_B": 4},
        {**LONG, "WIDTH": 1, "WIDTH_B": 1},
        {**TENSOR, "WIDTH": 4, "WIDTH_B": 4, "ADJOINT": 1, "MASK": 2},
    ],
    "conv_weight.cu": [
        {**WEIGHT, "WIDTH": 4, "WIDTH_B": 4, "MASK": 2},
        {**WEIGHT_TENSOR, "WIDTH": 4, "WIDTH_B": 4, "MASK": 1},
    ],
    "gather.cu": [{"BYTES": 1}, {"BYTES": 4}],
    "pool.cu": [{"PACK": 1}, {"PACK": 4, "WIDE": 1}],
}
BUILDS = [(file, defines) for file in FILES for defines in DEFINES.get(file, [{}])]
NAMES = [
    " ".join((file, *(f"{name}={value}" for name, value in defines.items()))) for file, defines in BUILDS
]

_REPORT = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)' for 'sm_(?P<card>\d+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


@needs_nvcc
@pytest.mark.parametrize(("file", "defines"), BUILDS, ids=NAMES)
def test_registers_and_spills(file, defines, tmp_path):
    reports = compile_with_nvcc(loader.source(file), defines, tmp_path)
    assert {report["card"] for report in reports} == set(ARCHITECTURES)
    assert [report[0] for report in reports if wasteful(file, report)] == []


def wasteful(file, report):
    """Does a kernel use more than its file may?"""
    if int(report["registers"]) > MORE_REGISTERS.get(file, REGISTERS):
        return True
    if report["card"] < "90" and file in MAY_SPILL_BEFORE_HOPPER:
        return False
    return int(report["stores"]) + int(report["loads"]) > 0 or int(report["stack"]) > STACK.get(file, 0)


@needs_nvcc
def test_a_kernel_that_spills_is_found(tmp_path):
    """A hundred sums that live through a loop do not fit in the 64 registers of 1,024 threads."""
    code = """extern "C" __global__ void __launch_bounds__(1024) greedy(const float* x, float* y, int n) {
        float sums[100] = {};
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < 100; ++j) sums[j] += x[i * 100 + j] * x[i + j];
        for (int j = 0; j < 100; ++j) y[j * n + threadIdx.x] = sums[j];
    }"""
    reports = compile_with_nvcc(code, {}, tmp_path)
    assert {report["kernel"] for report in reports} == {"greedy"}
    assert all(int(report["stores"]) > 0 for report in reports)


def compile_with_nvcc(code, defines, folder):
    (folder / "kernels.cu").write_text(code)
    options = [
        "-fatbin",
        "-std=c++17",
        "-Xptxas",
        "-v",
        *(f"-D{name}={value}" for name, value in defines.items()),
    ]
    cards = [f"-gencode=arch=compute_{card},code=sm_{card}" for card in ARCHITECTURES]
    command = ["nvcc", *options, *cards, "-o", str(folder / "kernels"), str(folder / "kernels.cu")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(_REPORT.finditer(done.stdout + done.stderr))


def test_nvrtc_compiles_every_file_without_headers():
    library = nvrtc()
    if library is None:
        pytest.skip("NVRTC is not installed")
    for file, defines in BUILDS:
        assert compile_with_nvrtc(library, loader.source(file), defines) == 0, file
    assert compile_with_nvrtc(library, "uint32_t x;", {}) != 0


def nvrtc():
    """The library, of CuPy's wheels, of a toolkit or of the system; None where there is none."""
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders for path in sorted(Path(folder).rglob("libnvrtc.so.*"))]
    toolkit = Path(shutil.which("nvcc") or "/nowhere").resolve().parents[1] / "lib64" / "libnvrtc.so"
    names = [*map(str, found), str(toolkit), ctypes.util.find_library("nvrtc") or ""]
    return next(filter(None, map(load, filter(None, names))), None)


def load(name):
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def compile_with_nvrtc(library, code, defines):
    """NVRTC's return value: 0 is success."""
    options = [
        b"-arch=sm_90",
        b"-std=c++17",
        *(f"-D{name}={value}".encode() for name, value in defines.items()),
    ]
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None)
    result = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    if result != 0:
        print(log_of(library, program))
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return result


def log_of(library, program):
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, text)
    return text.value.decode()
