"""The register tiles under every instruction set of this processor: right results, and the code we meant."""

import json
import os
import subprocess
import sys

import pytest
from llvmlite.binding import get_host_cpu_features

# Name, what Numba is told, what the processor must have, floats per register, the fused instruction.
SETS = [
    ("avx512", None, {"avx512f"}, 16, "vfmadd"),
    ("avx2", ("haswell", "+avx,+avx2,+fma,+sse4.2"), {"avx2", "fma"}, 8, "vfmadd"),
    ("baseline", ("x86-64", "+sse2"), {"sse2"}, 4, "mulps"),
]

PROGRAM = """
import json, re
import numba, numpy as np
from tinynet.kernels import Window, arrays, blocks, cpu
from tinynet.kernels.cpu import loops, microkernel, tiling

def worst(shape, filters, groups=1):
    rng = np.random.default_rng(0)
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    x = rng.standard_normal(shape).astype("f")
    w = rng.standard_normal((3, 3, shape[-1] // groups, filters)).astype("f")
    y, where = cpu.conv_block(x, w, None, window, groups, True, True)
    g = rng.standard_normal(y.shape).astype("f")
    got = y, *cpu.conv_block_backward(g, x, w, None, where, window, groups, (True,) * 3)
    x, w, g = (a.astype("d") for a in (x, w, g))
    y, _ = blocks.conv_block(arrays, x, w, None, window, groups, True, True)
    want = y, *blocks.conv_block_backward(arrays, g, x, w, None, where, window, groups, (True,) * 3)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(got, want))

lanes, room = microkernel.registers()
rows, vectors, _ = tiling.tile_form(100, 4 * lanes)
function = microkernel.tile_function(rows, vectors, lanes, 0, rows)
asm = numba.cfunc(loops.SIGNATURE)(function)._library.get_asm_str()
lines = [line.strip() for line in asm.splitlines()]
products = [i for i, line in enumerate(lines) if line.startswith(INSTRUCTION)]
inside = lines[products[0] : products[-1]]
print(json.dumps({
    "lanes": lanes, "tile": rows * vectors, "room": room, "products": len(products),
    "spills": sum(bool(re.search(r"mm[0-9].*%rsp|%rsp.*mm[0-9]", line)) for line in inside),
    "errors": [
        worst((2, 9, 7, 3), 10), worst((3, 9, 8, 16), 16), worst((2, 9, 7, 6), 4, 2),
        worst((2, 9, 7, 24), 24, 24),  # channels that do not mix
        worst((3, 8, 10, 1), 8), worst((2, 9, 7, 3), 16),  # few numbers under a window
        worst((3, 8, 10, 8), 16), worst((3, 8, 18, 16), 8),  # squares of 2 x 2, and winners
        worst((2, 9, 7, 12), 10), worst((2, 9, 7, 8), 20),  # winners beside direct tiles
        worst((3, 6, 6, 32), 32), worst((3, 8, 8, 32), 32),  # Winograd's tiles of 2 x 2 and of 4 x 4
    ],
}))
"""


def report(forced, instruction, tmp_path):
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    if forced:
        env |= dict(zip(("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"), forced, strict=True))
    program = PROGRAM.replace("INSTRUCTION", repr(instruction))
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name, forced, needs, lanes, instruction", SETS, ids=[s[0] for s in SETS])
def test_tiles_of_every_instruction_set(name, forced, needs, lanes, instruction, tmp_path):
    here = {feature for feature, present in get_host_cpu_features().items() if present}
    if not needs <= here:
        pytest.skip(f"this processor has no {' and '.join(sorted(needs - here))}")
    seen = report(forced, instruction, tmp_path)
    assert seen["lanes"] == lanes
    assert 8 <= seen["tile"] < seen["room"]
    assert max(seen["errors"]) < 3e-6
    # each step is one product per register of the tile (the compiler may unroll), and all stays in registers
    assert seen["products"] and seen["products"] % seen["tile"] == 0
    assert seen["spills"] == 0
