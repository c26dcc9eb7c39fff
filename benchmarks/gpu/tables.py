"""The tables of ``python -m benchmarks gpu``, from the JSON of a run alone; the shortest comes last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.gpu import environment
from benchmarks.gpu.bars import unfit
from benchmarks.gpu.ceilings import floor_seconds
from benchmarks.gpu.kernels import crossover
from benchmarks.gpu.training import BAR_PRECISION
from benchmarks.report import Table, digits, seconds

_INVALID = "INVALID: results are wrong, see below; no time here counts. "


def heading(result: dict[str, Any]) -> str:
    """What this is, in a sentence, and the facts."""
    facts = result["environment"] | {"machine": result["machine"]}
    return f"# CPU and GPU\n\n{sentence(result)}\n\n{environment.summary(facts, result['card'])}"


def sentence(result: dict[str, Any]) -> str:
    """The run in one sentence."""
    if result["no_device"]:
        return f"Nothing was measured: {result['no_device']}."
    state = "" if result["finished"] else "The run did not come to its end. "
    if result["faults"]:
        return f"{state}{len(result['faults'])} results are wrong: no time counts."
    reason = unfit(result)
    if reason:
        return f"{state}This is {reason} and no measurement."
    verdicts = [bar["verdict"] for bar in result["bars"]]
    return f"{state}{verdicts.count('PASS')} bars are reached, {verdicts.count('MISS')} are missed."


def tables_of(result: dict[str, Any]) -> list[Table]:
    """Everything that was measured so far."""
    if result["no_device"]:
        return []
    sections = result["sections"]
    tables = [
        table for name, make in _MAKERS.items() if name in sections for table in make(sections[name], result)
    ]
    gone = [[name, reason] for name, reason in result["left_out"].items()]
    tables += [Table("Left out", ["engine", "why"], gone)] if gone else []
    tables += [Table("WRONG", ["what"], [[fault] for fault in result["faults"]])] if result["faults"] else []
    return [*tables, bars_table(result)]


def bars_table(result: dict[str, Any]) -> Table:
    """The bars, and what became of them."""
    rows = [
        [
            bar["bar"], f"({bar['net']})", str(bar["batch"] or "-"), bar["precision"],
            "-" if bar["least"] is None else f"{bar['least']:g}",
            "-" if bar["ratio"] is None else digits(bar["ratio"]), bar["verdict"],
        ]
        for bar in result["bars"]
    ]  # fmt: skip
    note = (
        "tinynet's samples/s (recorded steps) over the peer's (its fastest way), medians at one precision. "
        "Of MNIST seconds, of which there may be no more than the bar."
    )
    return Table(
        "The bars", ["against", "net", "batch", "precision", "bar", "measured", "verdict"], rows, note, 4
    )


def _ceilings(section: dict[str, Any], result: dict[str, Any]) -> Iterator[Table]:
    rows = []
    if section["copy"]:
        moved = section["copy"]["bytes"] / 2**30
        rows.append(["copy", f"{digits(section['copy']['gb_per_s'])} GB/s", f"{digits(moved)} GiB moved"])
    for precision, found in section["products"].items():
        if found:
            rows.append(
                [f"product, {precision}", f"{digits(found['tflops'])} TFLOP/s", f"side {found['side']}"]
            )
    for name, value in (section["launches"] or {}).items():
        what = name.removesuffix("_us").replace("_", " ")
        where = "on the card, one after the other" if what == "node" else "of the host"
        rows.append(
            [f"launch: {what}" if what != "node" else "node of a graph", f"{digits(value)} us", where]
        )
    yield Table("What the card can do", ["what", "rate", "with"], rows)


def _correctness(section: dict[str, Any], result: dict[str, Any]) -> Iterator[Table]:
    worst: dict[tuple[str, str], dict[str, Any]] = {}
    for row in section["kernels"]:
        key = row["kernel"], row["precision"]
        if key not in worst or _size(row) > _size(worst[key]):
            worst[key] = row
    rows = [[*key, row["case"], _error(row), row["fault"] or "ok"] for key, row in worst.items()]
    note = f"The worst case of each: relative norm against float64. Seed {section['seed']}."
    note += f" No time for: {', '.join(section['skipped'])}." if section["skipped"] else ""
    yield Table("Kernels: are they right?", ["kernel", "precision", "case", "error", ""], rows, note, 3)
    steps = [[r["net"], r["how"], r["precision"], _error(r), r["fault"] or "ok"] for r in section["training"]]
    note = "The largest relative error of the first twenty losses against float64 on the CPU."
    yield Table("Training steps: are they right?", ["net", "how", "precision", "error", ""], steps, note, 3)


def _size(row: dict[str, Any]) -> float:
    return float("inf") if row["fault"] or row["error"] is None else row["error"]


def _error(row: dict[str, Any]) -> str:
    return "-" if row["error"] is None else f"{row['error']:.0e}"


def _decisions(section: dict[str, Any], result: dict[str, Any]) -> Iterator[Table]:
    rows = []
    for found in filter(None, section["library_graph"]):
        rows.append(
            [f"1024 x 1024 in a graph, workspace {found['workspace'] >> 20} MiB", seconds(found["seconds"])]
        )
    for found in section["conv"]:
        for way, time in found["seconds"].items():
            if time:
                name = f"conv 32 to 64, batch {found['batch']}, {found['precision']}: {way}"
                rows.append([name, f"{seconds(time)}, {digits(found['flops'] / time / 1e12)} TFLOP/s"])
    epoch = section["epoch_graph"]
    if epoch:
        times = seconds(epoch["record_seconds"]), seconds(epoch["replay_seconds"])
        rows.append([f"graph of {epoch['nodes']} nodes", f"recorded in {times[0]}, computed in {times[1]}"])
    yield Table("What the design depends on", ["what", "measured"], rows)


_KERNEL_NOTE = (
    "Medians. 1 thread, all: Numba on the CPU. Called: one after the other from Python, launches included; "
    "in a graph: the kernel's own time. Faster: all threads over called. Of floor: the least time by the "
    "ceilings above over the time in a graph (or called)."
)


def _kernels(section: dict[str, Any], result: dict[str, Any]) -> Iterator[Table]:
    note = _note(result, _KERNEL_NOTE)
    ceilings = result["sections"].get("ceilings") or {}
    rows = [_kernel_cells(row, p, ceilings) for row in section["rows"] if not row["tiny"] for p in row["gpu"]]
    names = [
        "kernel",
        "case",
        "precision",
        "NumPy",
        "1 thread",
        "all",
        "called",
        "in a graph",
        "faster",
        "of floor",
    ]
    yield Table("Kernels on CPU and GPU", names, rows, note, 3)
    yield crossover_table(section["batches"])


def _kernel_cells(row: dict[str, Any], precision: str, ceilings: dict[str, Any]) -> list[str]:
    rooms, gpu = row["rooms"], row["gpu"][precision]
    called, graph = gpu["called"]["host"]["median"], gpu["graph"]
    own = graph["median"] if graph else gpu["called"]["device"]["median"]
    floor = floor_seconds(ceilings, row["flops"], row["bytes"], precision)
    return [
        row["kernel"], row["case"], precision,
        *(seconds(rooms[room]["median"]) for room in ("numpy", "fast, 1 thread", "fast")),
        seconds(called), seconds(graph["median"]) if graph else "-",
        digits(rooms["fast"]["median"] / called), f"{100 * floor / own:.0f} %" if floor else "-",
    ]  # fmt: skip


def crossover_table(rows: list[dict[str, Any]]) -> Table:
    """From which batch on the GPU is ahead."""
    there, copied = crossover(rows, "gpu"), crossover(rows, "copied")
    cells = [[kernel, _batch(there[kernel]), _batch(copied[kernel])] for kernel in there]
    note = (
        "Against all threads of the CPU, in fp32. With copies: arguments come from the host, results go back."
    )
    return Table(
        "From which batch on the GPU is ahead", ["kernel", "data on the card", "with copies"], cells, note, 1
    )


def _batch(batch: int | None) -> str:
    return "never" if batch is None else str(batch)


_TRAINING_NOTE = (
    "SGD with momentum, data on the card, batches picked there. Medians of the rounds by the host's clock, "
    "quartiles in brackets. On the card: the same by events, where the engine has any. Memory: what the card "
    "had less of after the first steps, of JAX not known. First 20: until the first twenty losses, compiling "
    "included."
)


def _training(section: dict[str, Any], result: dict[str, Any]) -> Iterator[Table]:
    names = [
        "engine",
        "how",
        "precision",
        "samples/s",
        "step",
        "on the card",
        "epoch",
        "TFLOP/s",
        "memory",
        "first 20",
    ]
    for task in section["tasks"]:
        title = f"Net ({task['net']}), batch {task['batch']}: a training step"
        rows = [_training_cells(row, task) for row in task["rows"]]
        skipped = f" No time for: {'; '.join(task['skipped'])}." if task["skipped"] else ""
        best = f" The bar of this net is at {BAR_PRECISION[task['net']]}."
        yield Table(title, names, rows, _note(result, _TRAINING_NOTE) + best + skipped, 3)
    faults = [
        [task["net"], str(task["batch"]), row["engine"], row["how"], row["precision"], row["fault"]]
        for task in section["tasks"]
        for row in task["rows"]
        if row["fault"]
    ]
    if faults:
        yield Table("NOT compared", ["net", "batch", "engine", "how", "precision", "why"], faults, left=6)
    if section["skipped"]:
        yield Table("No time for", ["what"], [[what] for what in section["skipped"]])


def _training_cells(row: dict[str, Any], task: dict[str, Any]) -> list[str]:
    cells = [row["engine"], row["how"], row["precision"]]
    if row["fault"] or not row["rounds"]:
        return [*cells, "NOT compared" if row["fault"] else "not measured", *["-"] * 6]
    rate, inside = row["samples_per_second"], row["device_rounds"]
    device = sorted(inside)[len(inside) // 2] if inside else None
    return [
        *cells, f"{rate['median']:,.0f} ({rate['low']:,.0f}-{rate['high']:,.0f})",
        seconds(task["batch"] / rate["median"]),
        seconds(task["batch"] / device) if device else "-", seconds(row["epoch_seconds"]),
        digits(rate["median"] * task["flops_per_sample"] / 1e12),
        f"{row['bytes'] / 2**20:,.0f} MiB" if row["bytes"] else "-", seconds(row["begin_seconds"]),
    ]  # fmt: skip


def _accuracy(section: dict[str, Any], result: dict[str, Any]) -> Iterator[Table]:
    if "runs" not in section:
        yield Table("MNIST", ["what"], [[f"skipped: {section['skipped']}"]])
        return
    rows = [
        [
            run["precision"],
            str(run["seed"]),
            str(i + 1),
            f"{100 * epoch['accuracy']:.2f} %",
            seconds(epoch["seconds"]),
        ]
        for run in section["runs"]
        for i, epoch in enumerate(run["epochs"])
    ]
    note = f"Net ({section['net']}), batch {section['batch']}, Adam; seconds of training, without the tests."
    yield Table(
        "MNIST: test digits read after each epoch",
        ["precision", "seed", "epoch", "right", "after"],
        rows,
        note,
    )


def _note(result: dict[str, Any], note: str) -> str:
    return (_INVALID if result["faults"] else "") + note


_MAKERS = {
    "ceilings": _ceilings, "correctness": _correctness, "decisions": _decisions, "kernels": _kernels,
    "training": _training, "accuracy": _accuracy,
}  # fmt: skip
