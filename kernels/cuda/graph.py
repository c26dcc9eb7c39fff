"""CUDA graphs: the launches of a function, recorded once and then repeated with a single call.

Launching a kernel from Python costs more than a small kernel takes to run. A recorded step costs one launch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

from tinynet.kernels.live import Table, record_into


def on_device(name: str) -> Any:
    """A context in which the GPU called ``name`` ("cuda:1") is the current one."""
    return sys.modules["cupy"].cuda.Device(int(name.partition(":")[2] or 0))


class Graph:
    """What ``function()`` launches on the current device; ``result`` is what it returned.

    While it is recorded nothing is computed. All arrays made in ``function`` come from a memory pool of the
    graph's own, because each replay writes to the same places again; they live as long as the graph or the
    arrays. Arrays from outside must be kept alive by others. ``capacity`` limits the number of live numbers.
    An error in ``function`` ends the recording and is passed on.
    """

    def __init__(self, function: Callable[[], Any], capacity: int = 4096):
        cuda = sys.modules["cupy"].cuda
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()  # of runs that were not recorded
        self._pool, self._table = cuda.MemoryPool(), Table(capacity)
        stream = cuda.Stream(non_blocking=True)
        with stream, cuda.using_allocator(self._pool.malloc), record_into(self._table):
            stream.begin_capture()
            try:
                self.result = function()
            except BaseException:
                _give_up(stream)
                raise
            self._graph = stream.end_capture()

    def replay(self) -> None:
        """Compute everything once more, on the current stream, with new live numbers."""
        stream = sys.modules["cupy"].cuda.get_current_stream()
        self._table.refill(stream)
        self._graph.launch(stream)

    def kernels(self) -> int:
        """How many operations (launches, copies, fills) a replay consists of."""
        return len(re.findall(r'^\s*"graph_\d+_node_\d+"\s*\[', self._graph.debug_dot_str(), re.MULTILINE))


def _give_up(stream: Any) -> None:
    """End a recording that failed; CUDA may have ended it already, and says so with an error."""
    try:
        stream.end_capture()
    except RuntimeError:
        return
