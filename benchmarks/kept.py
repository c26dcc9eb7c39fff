"""``python -m benchmarks report``: results that were kept, in a sentence, in tables and in pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import machine, train_tables
from benchmarks.gpu import schema
from benchmarks.gpu import tables as gpu_tables
from benchmarks.gpu.bars import judge, unfit
from benchmarks.report import Table, digits, seconds, show

FOLDER = machine.ROOT / "benchmarks" / "results"
NOT_YET = "not yet measured on a GPU"
KINDS = ("kernels", "train", "gpu", "curves")


class Kept(NamedTuple):
    """A result and the file it stands in."""

    path: Path
    result: dict[str, Any]

    @property
    def label(self) -> str:
        """Machine and date, without which a figure means nothing."""
        facts, card = self.result["machine"], self.result.get("card")
        where = f"{card['name']}, with {facts['cpu']}" if card else facts["cpu"]
        return f"{where}, {facts['cores']} cores, {facts['date'][:10]}"


def add_arguments(verbs: Any) -> None:
    """The verb ``report`` and its options."""
    parser = verbs.add_parser(
        "report",
        help="show results that were kept",
        description="Show kept results of kernels, train and gpu: the newest of each in benchmarks/results, "
        "or those in FILES. Nothing is measured.",
        epilog="example: python -m benchmarks report --pictures pictures",
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="JSON files of this program")
    parser.add_argument("--pictures", metavar="FOLDER", help="draw crossover and roofline (needs matplotlib)")
    parser.set_defaults(run=run, fail=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Show what is there; 2 when a file cannot be used."""
    try:
        everything = [load(path) for path in arguments.files or sorted(FOLDER.rglob("*.json"))]
    except ValueError as error:
        arguments.fail(str(error))
    kept = newest(everything)
    show(f"# Kept results\n\n{sentence(kept)}", list(tables_of(kept, everything)))
    if arguments.pictures:
        _draw(arguments.pictures, kept)
    return 0


def load(path: Path) -> Kept:
    """A result file; ValueError with a sentence when it is none."""
    try:
        result = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(result, dict) or result.get("benchmark") not in KINDS:
        raise ValueError(f"{path} is no result of python -m benchmarks")
    if result["benchmark"] == "gpu" and (wrong := schema.problems(result)):
        raise ValueError(f"{path} is no complete result: {wrong[0]}")
    return Kept(path, result)


def newest(everything: list[Kept]) -> dict[str, Kept]:
    """Of each benchmark the last one; of the GPU's, one that did measure a GPU, and did so rightly."""
    usable = [kept for kept in everything if kept.result["benchmark"] != "gpu" or _is_measured(kept.result)]
    return {k.result["benchmark"]: k for k in sorted(usable, key=lambda k: k.result["machine"]["date"])}


def _is_measured(result: dict[str, Any]) -> bool:
    return not result["no_device"] and not unfit(result)


# --- the sentence ---


def sentence(kept: dict[str, Kept]) -> str:
    """What was measured, in one paragraph, each figure with its machine and date."""
    parts = [say(kept[name]) for name, say in _SENTENCES.items() if name in kept]
    return " ".join([*parts, *([] if "gpu" in kept else [f"CUDA kernels are {NOT_YET}."])])


def _kernels_sentence(kept: Kept) -> str:
    ratios = [
        row["rooms"]["numpy"]["median"] / row["rooms"]["fast"]["median"]
        for row in kept.result["rows"]
        if not row["tiny"] and "rooms" in row
    ]
    if not ratios:
        return f"No kernel was timed ({kept.label})."
    return (
        f"Numba's kernels are {digits(min(ratios))} to {digits(max(ratios))} times as fast as whole-array "
        f"NumPy, half of them {digits(median(ratios))} times or more ({kept.label})."
    )


def _train_sentence(kept: Kept) -> str:
    found = {
        (c["net"], c["batch"]): c["ratios"]["torch"]["adam"]["median"]
        for c in kept.result["comparisons"]
        if "adam" in c["ratios"].get("torch", {})
    }
    if not found:
        return f"Training was compared with no peer ({kept.label})."
    spread = f"{digits(min(found.values()))} to {digits(max(found.values()))}"
    return f"Training steps are {spread} times as fast as PyTorch's on the CPU ({kept.label})."


def _gpu_sentence(kept: Kept) -> str:
    return f"On the GPU {gpu_tables.sentence(kept.result)[:-1]} ({kept.label})."


_SENTENCES = {"kernels": _kernels_sentence, "train": _train_sentence, "gpu": _gpu_sentence}


# --- the tables ---


def tables_of(kept: dict[str, Kept], everything: list[Kept]) -> Iterator[Table]:
    """Kernels, training, the GPU's bars, and which files there are."""
    rows = kept.get("gpu") or kept.get("kernels")
    if rows:
        yield from kernel_tables(rows)
    if "train" in kept:
        for table in train_tables.tables_of(kept["train"].result)[:2]:
            yield table._replace(note=f"{kept['train'].label}. {table.note}")
    yield _bars_table(kept.get("gpu"))
    yield Table(
        "Files",
        ["benchmark", "machine and date", "commit", "file"],
        [_file_cells(k) for k in everything],
        left=4,
    )


def kernel_tables(kept: Kept) -> Iterator[Table]:
    """Plain loops, NumPy, Numba and CUDA for each kernel: on a tiny shape, then on a real one."""
    sections = kept.result.get("sections", {})
    rows = sections["kernels"]["rows"] if "kernels" in sections else kept.result.get("rows", [])
    rows = [row for row in rows if "rooms" in row]
    names = ["kernel", "case", "reference", "NumPy", "Numba", "CUDA"]
    for tiny, title in ((True, "a tiny shape, mostly the cost of a call"), (False, "a real shape")):
        some = {row["kernel"]: row for row in reversed(rows) if row["tiny"] == tiny}
        cells = [_kernel_cells(row) for row in reversed(some.values())]
        note = f"{kept.label}. Reference: plain loops, only for tiny shapes. CUDA: called from Python, fp32."
        yield Table(f"Kernels on {title}", names, cells, note)


def _kernel_cells(row: dict[str, Any]) -> list[str]:
    rooms = (row["rooms"].get(room) for room in ("reference", "numpy", "fast"))
    times = [seconds(room["median"]) if room else "-" for room in rooms]
    cuda = seconds(row["gpu"]["fp32"]["called"]["host"]["median"]) if "gpu" in row else NOT_YET
    return [row["kernel"], row["case"], *times, cuda]


def _bars_table(kept: Kept | None) -> Table:
    if kept is not None:
        table = gpu_tables.bars_table(kept.result)
        return table._replace(note=f"{kept.label}. {table.note}")
    empty = {"settings": {"device": "cuda", "quick": False}, "sections": {}}
    bars = [bar | {"verdict": NOT_YET} for bar in judge(empty)]
    return gpu_tables.bars_table({"bars": bars})


def _file_cells(kept: Kept) -> list[str]:
    path = kept.path.resolve()
    short = path.relative_to(machine.ROOT) if path.is_relative_to(machine.ROOT) else kept.path
    return [kept.result["benchmark"], kept.label, kept.result["machine"]["commit"] or "unknown", str(short)]


# --- the pictures ---


def _draw(folder: str, kept: dict[str, Kept]) -> None:
    try:
        from benchmarks.kept_pictures import draw
    except ImportError as error:
        print(f"no pictures, {error}: pip install matplotlib", file=sys.stderr)
        return
    for path in draw(Path(folder), kept):
        print(f"drawn: {path}")
    if "gpu" not in kept:
        print(f"no crossover: {NOT_YET}")
