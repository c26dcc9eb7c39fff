"""``python -m benchmarks kernels``, ``train``, ``curves``, ``gpu`` and ``report``; each has ``--help``."""

from __future__ import annotations

import argparse
import sys

from benchmarks import curves, kept, kernels, train
from benchmarks.gpu import command as gpu


def main(words: list[str] | None = None) -> int:
    """Run a benchmark. Exit code 0: measured; 1: something is wrong or crashed; 2: wrong use; 130: Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what tinynet does.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in (kernels, train, curves, gpu, kept):
        verb.add_arguments(verbs)
    arguments = parser.parse_args(words)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
