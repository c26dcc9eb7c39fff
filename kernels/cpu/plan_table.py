"""A plan as a kernel sees it: head, jobs, blocks (see tiling.py) and segments in one row of integers."""

from __future__ import annotations

from numba import carray
from numba.core import types
from numba.extending import intrinsic

from tinynet.kernels.cpu.jit import inner_kernel

# Columns of the table of jobs. Origins and strides in floats, counts in pixels.
JOB = (
    "a_origin", "a_depth", "a_height", "a_width", "out_origin", "out_depth", "out_height", "out_width",
    "depth", "height", "width", "first_segment", "n_segments", "first_block", "n_blocks", "start_origin",
)  # fmt: skip


# The head of a plan. A padded source has "padded" (depth, height, numbers in a row), and the source itself
# starts in it at "before". Output rows below r need the padded rows below r * need_step + need_lead. Of
# "pooled" x "pooled" pixels, 1 or 2 each way, one is written: then the strides of the output are those of it.
HEAD = (
    "before_depth", "before_height", "before_number", "padded_depth", "padded_height", "padded_numbers",
    "steps", "step", "bands", "need_step", "need_lead", "n_jobs", "n_blocks", "n_segments",
    "channels", "pooled", "n_tiles",
)  # fmt: skip


@inner_kernel
def unpack(plan):
    """Head, jobs, blocks and segments of a plan's table."""
    head, first = plan[: len(HEAD)], len(HEAD)
    jobs = first + head[11] * 16
    blocks = jobs + head[12] * 5
    return (
        head,
        carray(_integers(plan, first), (head[11], 16)),
        carray(_integers(plan, jobs), (head[12], 5)),
        carray(_integers(plan, blocks), (head[13], 2)),
    )


@intrinsic
def _integers(typingctx, plan, first):
    """What begins at number ``first`` of a plan. Arrays of it compile sooner than reshaped slices."""

    def codegen(context, builder, signature, values):
        return builder.gep(
            context.make_array(signature.args[0])(context, builder, values[0]).data, [values[1]]
        )

    return types.CPointer(types.int64)(plan, types.int64), codegen
