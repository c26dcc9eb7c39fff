"""The house keeps its order: who may import whom, what ``import tinynet`` costs, and what is documented.

The source is parsed, not run, so that a new file is covered from the moment it is there.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STANDARD = sys.stdlib_module_names

# Room: the rooms it may import, at load time and inside functions.
GROUND = {"errors", "backend", "random"}
GRAPH = {*GROUND, "tensor", "autograd"}
MAY_IMPORT = {
    "kernels": set(),
    "errors": set(),
    "backend": {"errors"},
    "random": {"errors"},
    "files": {"errors", "backend"},
    "tensor": {"errors", "backend"},
    "autograd": {"errors", "backend", "tensor"},
    "ops": {*GRAPH, "kernels"},
    "gradcheck": {*GRAPH, "ops"},
    "nn": {*GRAPH, "kernels", "ops", "files"},
    "optim": {*GRAPH, "kernels"},
    "data": {"errors", "backend", "files", "kernels"},
    "metrics": {"errors", "backend"},
    "models": {*GRAPH, "ops", "nn"},
    "training": {*GRAPH, "kernels", "files", "ops", "nn", "optim", "data", "metrics"},
}
ANYTHING = {
    "tinynet",
    "__main__",
    "cli",
    "runs",
    "pictures",
    "io",
    "examples",
}  # the public face and what stands above the rooms

# The exceptions, all of them inside functions: (importing module, room).
LOOKS_UP = {
    ("nn.module", "training"),  # fit, evaluate and predict hand over to the trainer
    ("tensor", "autograd"),  # backward(); the graph is made of tensors, so it cannot be the other way round
}

# Other people's packages: at load time, and (third column) only inside functions.
OUTSIDE = {
    "kernels": ({"numpy", "numba", "llvmlite"}, {"cupy", "cupyx"}),
    "backend": ({"numpy"}, {"cupy"}),
    "files": ({"numpy"}, {"safetensors"}),
    "data": ({"numpy"}, {"numba", "PIL"}),
    "training": ({"numpy"}, {"PIL", "rich", "matplotlib"}),
    "pictures": ({"numpy"}, {"PIL", "matplotlib"}),
    "cli": ({"numpy"}, {"numba", "PIL", "rich", "matplotlib", "safetensors", "cupy"}),
}
COMPILED = {"data.pen", "data.sampling"}  # modules of compiled loops, imported when the first digit is drawn


def modules() -> dict[str, Path]:
    """Dotted name without the leading ``tinynet.``, and file, of every module of the package."""
    found = {}
    for folder, prefix in (("tinynet", ()), ("kernels", ("kernels",)), ("examples", ("examples",))):
        for path in (ROOT / folder).rglob("*.py"):
            parts = [*prefix, *path.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(p for p in parts if p != "__init__") or "tinynet"] = path
    return dict(sorted(found.items()))


MODULES = modules()
PUBLIC = {n: p for n, p in MODULES.items() if not any(part.startswith("_") for part in n.split("."))}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def room(name: str) -> str:
    return name.partition(".")[0]


def at_load_time(node: ast.AST) -> Iterator[ast.stmt]:
    """Import statements that run when the module is imported; those for the type checker do not count."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from at_load_time(child)


def anywhere(node: ast.AST) -> Iterator[ast.stmt]:
    """All import statements that run at any time."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from anywhere(child)


def targets(statement: ast.stmt) -> Iterator[str]:
    """Full names that a statement asks for: ``from tinynet import nn`` asks for ``tinynet.nn``."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        assert statement.level == 0, "imports are absolute in this house"
        for alias in statement.names:
            full = f"{statement.module}.{alias.name}"
            yield full if full.removeprefix("tinynet.") in MODULES else str(statement.module)


def own(names: Iterator[str]) -> set[str]:
    return {n.removeprefix("tinynet.") for n in names if n.partition(".")[0] == "tinynet"}


def foreign(names: Iterator[str]) -> set[str]:
    return {n.partition(".")[0] for n in names} - set(STANDARD) - {"tinynet"}


def imports(name: str, statements=anywhere) -> list[str]:
    return [target for s in statements(tree(name)) for target in targets(s)]


def test_a_room_imports_only_the_rooms_below_it():
    wrong = []
    for name in MODULES.keys() - {n for n in MODULES if room(n) in ANYTHING}:
        below, lifted = MAY_IMPORT[room(name)] | {room(name)}, {r for m, r in LOOKS_UP if m == name}
        wrong += [f"{name} -> {n}" for n in own(imports(name)) if room(n) not in below | lifted]
        wrong += [
            f"{name} -> {n} (at load)" for n in own(imports(name, at_load_time)) if room(n) not in below
        ]
    assert not wrong


def test_other_peoples_packages_are_imported_where_they_belong():
    wrong = []
    for name in MODULES:
        always, inside = OUTSIDE.get(room(name), ({"numpy"}, set()))
        always = always | {"numba"} if name in COMPILED else always
        wrong += [f"{name} -> {n} (at load)" for n in foreign(imports(name, at_load_time)) - always]
        wrong += [f"{name} -> {n}" for n in foreign(imports(name)) - always - inside]
    assert not wrong


def test_nobody_but_the_backend_looks_for_cupy_and_the_cuda_room_takes_what_it_found():
    asks = {n for n in MODULES if "cupy" in foreign(imports(n)) or '"cupy"' in MODULES[n].read_text()}
    outside = {n for n in asks if not n.startswith("kernels.cuda.")}
    assert outside <= {"backend", "kernels.arrays._library", "kernels.live", "cli.doctor"}
    assert not [n for n in asks - {"backend"} if "cupy" in foreign(imports(n, at_load_time))]


def test_there_are_no_circles_at_load_time():
    edges = {name: own(imports(name, at_load_time)) & set(MODULES) - {name, "tinynet"} for name in MODULES}
    finished: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, "circle: " + " -> ".join([*path[path.index(name) :], name])
        if name not in finished:
            for following in edges[name]:
                walk(following, (*path, name))
            finished.add(name)

    for name in MODULES:
        walk(name, ())


def test_the_test_of_circles_sees_the_graph():
    edges = own(imports("autograd", at_load_time))
    assert {"backend", "errors", "tensor"} <= edges


# --- what an import costs ---

HEAVY = {"numba", "cupy", "PIL", "matplotlib", "rich", "safetensors", "onnx"}


def loaded_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_tinynet_loads_nothing_heavy():
    assert not loaded_by("import tinynet") & HEAVY


def test_the_command_line_answers_without_anything_heavy():
    assert not loaded_by("import tinynet.cli") & HEAVY


@pytest.mark.parametrize("name", ["nn", "ops", "optim", "data", "metrics", "training", "models"])
def test_no_room_loads_an_optional_package(name):
    assert not loaded_by(f"import tinynet.{name}") & (HEAVY - {"numba"})


def test_import_tinynet_is_quick():
    script = (
        "import time, numpy\nstart = time.perf_counter()\nimport tinynet\nprint(time.perf_counter() - start)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    assert min(float(run.stdout) for run in runs) < 0.3


def test_every_public_name_of_the_package_is_there():
    import tinynet as tn

    for name in tn.__all__:
        assert getattr(tn, name) is not None
    assert set(tn.__all__) <= set(dir(tn))


# --- what is documented ---


def definitions(name: str) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef, bool]]:
    """Public functions, classes and methods (third value: is a method) of a module."""
    for node in tree(name).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield f"{name}.{node.name}", node, False
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and (inner.name[0] != "_" or inner.name == "__init__"):
                    yield f"{name}.{node.name}.{inner.name}", inner, True


def documented_methods() -> set[str]:
    """Methods that some class of the package documents: a method that overrides one need not repeat it."""
    found = (d for name in MODULES for d in definitions(name))
    return {node.name for _, node, is_method in found if is_method and ast.get_docstring(node)}


def is_one_statement(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return len(node.body) == 1


def test_every_module_says_what_it_is():
    assert not [name for name in PUBLIC if not ast.get_docstring(tree(name))]


def test_every_public_name_is_documented():
    methods = documented_methods()
    kernels = {node.name for _, node, _ in definitions("kernels")}
    bare = []
    for name in PUBLIC:
        for path, node, is_method in definitions(name):
            if ast.get_docstring(node) or node.name == "__init__":  # that one is described by its class
                continue
            if room(name) == "kernels" and node.name in kernels:  # documented once, in kernels/__init__.py
                continue
            if not (is_method and (node.name in methods or is_one_statement(node))):
                bare.append(path)
    assert not bare


def missing_annotations(node: ast.FunctionDef, is_method: bool) -> list[str]:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    static = any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
    skip = 1 if is_method and not static else 0
    bare = [a.arg for a in arguments[skip:] if a.annotation is None]
    stars = [a.arg for a in (node.args.vararg, node.args.kwarg) if a is not None and a.annotation is None]
    return bare + stars + ([] if node.returns is not None or node.name == "__init__" else ["return"])


def test_every_public_function_is_annotated():
    bare = {}
    for name in PUBLIC.keys() - COMPILED:
        if name.startswith("kernels."):
            continue  # loops for the compiler; their contract stands in kernels/__init__.py
        for path, node, is_method in definitions(name):
            if isinstance(node, ast.FunctionDef) and not is_op_method(path):
                bare[path] = missing_annotations(node, is_method)
    assert not {path: missing for path, missing in bare.items() if missing}


def is_op_method(path: str) -> bool:
    """``forward`` and ``backward`` of an Op take and give arrays, as the class Op says once for all."""
    return path.startswith("ops.") and path.endswith((".forward", ".backward"))


# --- what has no place here ---

LEFTOVER = re.compile(r"\b(TO" + "DO|FIX" + "ME|XX" + r"X)\b")
MACHINE = re.compile(r"(?<![\w.])/(home|root|work|tmp|opt|Users|mnt)/\w")


def texts() -> list[Path]:
    folders = ["tinynet", "kernels", "benchmarks", "examples", "tests", ".ci"]
    inside = [
        p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in ("", ".py", ".md", ".toml")
    ]
    return [p for p in [*inside, *ROOT.glob("*.md"), *ROOT.glob("*.toml")] if p.is_file()]


def test_nothing_mentions_a_path_of_one_machine():
    found = [f"{p.relative_to(ROOT)}: {m[0]}" for p in texts() for m in MACHINE.finditer(p.read_text())]
    assert not found


def test_nothing_is_left_for_later():
    found = [f"{p.relative_to(ROOT)}: {m[0]}" for p in texts() for m in LEFTOVER.finditer(p.read_text())]
    assert not found


def test_the_top_level_is_what_it_should_be():
    expected = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "tinynet",
        "kernels",
        "benchmarks",
        "tests",
        "examples",
    }
    assert expected <= {p.name for p in ROOT.iterdir()}
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        names = {line.partition("/")[0] for line in listed.splitlines()}
        assert {name for name in names if not name.startswith(".")} <= expected
