"""What a result file of ``python -m benchmarks gpu`` must hold, so that others can rely on it."""

from __future__ import annotations

from typing import Any

NUMBER, TEXT, YES_NO = (int, float), (str,), (bool,)
SPREAD = {"median": NUMBER, "low": NUMBER, "high": NUMBER, "count": NUMBER}


class Optional:
    """Either None or what stands inside."""

    def __init__(self, inside: Any):
        self.inside = inside


class Each:
    """A dict with any names, whose values are all of one kind."""

    def __init__(self, inside: Any):
        self.inside = inside


# A dict: these names at least. A list: any number of its one kind. A tuple: one of these types.
_TRAINING_ROW = {
    "engine": TEXT, "how": TEXT, "precision": TEXT, "losses": [NUMBER], "fault": TEXT, "rounds": [NUMBER],
    "device_rounds": [NUMBER],
}  # fmt: skip
_CHECKED = {"precision": TEXT, "error": Optional(NUMBER), "fault": TEXT}
_ON_GPU = {"called": {"device": SPREAD, "host": SPREAD}, "graph": Optional(SPREAD), "copies": NUMBER}
_SECTIONS: dict[str, Any] = {
    "environment": {},
    "ceilings": {
        "copy": Optional({"gb_per_s": NUMBER, "bytes": NUMBER}),
        "products": Each(Optional({"tflops": NUMBER, "side": NUMBER})),
        "launches": Optional(Each(NUMBER)),
    },
    "correctness": {
        "seed": NUMBER,
        "kernels": [{"kernel": TEXT, "case": TEXT} | _CHECKED],
        "training": [{"net": TEXT, "how": TEXT} | _CHECKED],
        "skipped": [TEXT],
    },
    "decisions": {
        "library_graph": [Optional({"workspace": NUMBER, "seconds": NUMBER})],
        "conv": [{"batch": NUMBER, "precision": TEXT, "flops": NUMBER, "seconds": Each(Optional(NUMBER))}],
        "epoch_graph": Optional({"nodes": NUMBER, "record_seconds": NUMBER, "replay_seconds": NUMBER}),
    },
    "kernels": {
        "rows": [
            {
                "kernel": TEXT, "case": TEXT, "tiny": YES_NO, "flops": Optional(NUMBER), "bytes": NUMBER,
                "rooms": Each(SPREAD), "gpu": Each(_ON_GPU),
            }
        ],
        "batches": [{"kernel": TEXT, "batch": NUMBER, "cpu": SPREAD, "gpu": SPREAD, "copied": SPREAD}],
        "skipped": [TEXT],
        "failed": [TEXT],
    },
    "training": {
        "tasks": [
            {
                "net": TEXT, "batch": NUMBER, "parameters": NUMBER, "flops_per_sample": NUMBER,
                "rows": [_TRAINING_ROW], "skipped": [TEXT],
            }
        ],
        "skipped": [TEXT],
    },
    "accuracy": {},
}  # fmt: skip
_RESULT = {
    "benchmark": TEXT, "format": NUMBER, "machine": {"date": TEXT, "cpu": TEXT, "cores": NUMBER},
    "settings": {"quick": YES_NO, "device": TEXT, "minutes": NUMBER, "threads": NUMBER, "seed": NUMBER},
    "environment": {"packages": Each(TEXT), "nvidia_smi": Each(TEXT), "virtual": TEXT},
    "no_device": TEXT, "card": Optional({"kind": TEXT, "name": TEXT}), "engines": Each({"hows": [TEXT]}),
    "left_out": Each(TEXT), "faults": [TEXT], "finished": YES_NO, "seconds": Each(NUMBER),
    "sections": Each({}),
    "bars": [{"bar": TEXT, "least": Optional(NUMBER), "ratio": Optional(NUMBER), "verdict": TEXT}],
}  # fmt: skip


def problems(result: Any) -> list[str]:
    """What is missing or of the wrong kind, each with its place; empty for a file that is in order."""
    found = _problems(result, _RESULT, "result")
    if found:
        return found
    if (result["benchmark"], result["format"]) != ("gpu", 1):
        return [f"result: {result['benchmark']} in format {result['format']}, not gpu in format 1"]
    for name, section in result["sections"].items():
        found += _problems(section, _SECTIONS.get(name, ()), f"sections.{name}")
    return found


def _problems(value: Any, kind: Any, where: str) -> list[str]:
    if isinstance(kind, Optional):
        return [] if value is None else _problems(value, kind.inside, where)
    if isinstance(kind, tuple):
        right = isinstance(value, kind) and (kind is YES_NO or not isinstance(value, bool))
        return (
            []
            if right
            else [f"{where}: {value!r:.40} is not {' or '.join(k.__name__ for k in kind) or 'known'}"]
        )
    if isinstance(kind, list):
        return _inside(value, list, where, lambda: [(i, v, kind[0]) for i, v in enumerate(value)])
    if isinstance(kind, Each):
        return _inside(value, dict, where, lambda: [(k, v, kind.inside) for k, v in value.items()])
    missing = [
        f"{where}: {name} is missing" for name in kind if isinstance(value, dict) and name not in value
    ]
    return missing or _inside(
        value, dict, where, lambda: [(k, value[k], inside) for k, inside in kind.items()]
    )


def _inside(value: Any, type_: type, where: str, parts: Any) -> list[str]:
    if not isinstance(value, type_):
        return [f"{where}: {value!r:.40} is no {type_.__name__}"]
    return [problem for name, part, kind in parts() for problem in _problems(part, kind, f"{where}.{name}")]
