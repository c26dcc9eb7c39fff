"""Devices: what stands in the way of a GPU is told apart into four causes, each with its own next step.

No GPU is needed: a stand-in for the ``cupy`` package is written into a folder and imported from there.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet as tn
from tinynet import backend
from tinynet.errors import ArgumentError, DeviceError

READY = """
class ndarray:
    def __init__(self, values, number):
        self.values, self.device = values, type("Device", (), dict(id=number))

    def get(self):
        return self.values


class cuda:
    current = 0

    def is_available():
        return {available}

    class runtime:
        def driverGetVersion():
            {driver}

        def runtimeGetVersion():
            return {runtime}

        def getDeviceCount():
            return 2

    class Device:
        def __init__(self, number):
            self.number = number

        def __enter__(self):
            cuda.current = self.number

        def __exit__(self, *error):
            cuda.current = 0


def asarray(values):
    return ndarray(values, cuda.current)
"""

# CuPy loads a library when its name is looked up here; an import of the submodule itself goes past that.
LIBRARIES = """
import importlib


def __getattr__(name):
    looked_up.append(name)
    return importlib.import_module(f"cupy_backends.cuda.libs.{name}")


looked_up = []
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Write the ``cupy`` package that the test describes, and remove every trace of it afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(backend, "cupy_packages", lambda: ["cupy-cuda13x"])
    forget = [name for name in sys.modules if name.partition(".")[0] in ("cupy", "cupy_backends")]
    for name in forget:
        monkeypatch.delitem(sys.modules, name)

    def write(source="", available=True, driver="return 13000", runtime=13000, nvrtc="return 13", cublas=""):
        text = source or READY.format(available=available, driver=driver, runtime=runtime)
        write_module(tmp_path / "cupy", text)
        for name in ("cupy_backends", "cupy_backends/cuda"):
            write_module(tmp_path / name, "")
        write_module(tmp_path / "cupy_backends/cuda/libs", LIBRARIES)
        write_module(tmp_path / "cupy_backends/cuda/libs/nvrtc", f"def getVersion():\n    {nvrtc}\n")
        write_module(tmp_path / "cupy_backends/cuda/libs/cublas", cublas)
        importlib.invalidate_caches()

    yield write
    for name in [n for n in sys.modules if n.partition(".")[0] in ("cupy", "cupy_backends")]:
        del sys.modules[name]


def write_module(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").write_text(text)


def why_not(name: str = "cuda") -> str:
    with pytest.raises(DeviceError) as caught:
        tn.device(name)
    return str(caught.value)


# --- cause 1: not installed ---


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed here")
def test_without_cupy_the_pip_command_is_named():
    text = why_not()
    assert "needs CuPy, which is not installed" in text
    assert 'pip install -e ".[cuda13]"' in text
    assert '".[cuda12]"' in text


def test_a_tensor_asked_onto_a_missing_gpu_raises_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # Python's own way to say: not importable
    monkeypatch.setattr(backend, "cupy_packages", list)
    with pytest.raises(DeviceError, match="CuPy, which is not installed"):
        tn.tensor([1.0], device="cuda")


# --- cause 2: installed, but broken ---


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('libcupy.so: undefined symbol')", "undefined symbol"),
        ("import a_module_that_is_nowhere", "a_module_that_is_nowhere"),
        ("raise RuntimeError('several CUDA versions')", "several CUDA versions"),
    ],
)
def test_a_cupy_that_cannot_be_imported_is_quoted(fake, source, reason):
    fake(source)
    text = why_not()
    assert text.startswith("CuPy is installed but cannot be imported: ")
    assert reason in text


def test_two_cupy_packages_are_found_and_named(tmp_path, monkeypatch):
    for name in ("cupy_cuda12x", "cupy_cuda13x"):
        folder = tmp_path / f"{name}-14.2.0.dist-info"
        folder.mkdir()
        folder.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 14.2.0\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    text = why_not()
    assert "several CuPy packages are installed (cupy-cuda12x, cupy-cuda13x)" in text
    assert "pip uninstall -y cupy-cuda12x cupy-cuda13x" in text


def test_other_packages_with_cupy_in_their_name_do_not_count(tmp_path, monkeypatch):
    before = backend.cupy_packages()
    folder = tmp_path / "cupyx_tools-1.0.dist-info"
    folder.mkdir()
    folder.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: cupyx-tools\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert backend.cupy_packages() == before


# --- cause 3: no driver, or no device ---


@pytest.mark.parametrize("driver", ["return 0", "raise RuntimeError('no libcuda')"])
def test_a_machine_without_a_driver(fake, driver):
    fake(available=False, driver=driver)
    assert why_not() == "no NVIDIA driver is loaded on this machine; nvidia-smi shows what is there"


def test_a_driver_that_shows_no_device_is_named_with_its_version(fake):
    fake(available=False, driver="return 13010")
    text = why_not()
    assert "the NVIDIA driver (CUDA 13.1) shows no usable GPU" in text
    assert "CUDA_VISIBLE_DEVICES" in text


def test_a_driver_for_cuda_12_is_too_old_for_cupy_13_and_both_ways_out_are_named(fake):
    fake(available=False, driver="return 12040")
    assert why_not() == (
        "the NVIDIA driver (for CUDA 12.4) is too old for the installed CuPy, which needs CUDA 13. Install a "
        "newer driver, or the CuPy for CUDA 12: "
        'pip uninstall -y cupy-cuda13x && pip install -e ".[cuda12]"'
    )


def test_a_driver_older_than_any_supported_cuda_can_only_be_replaced(fake):
    fake(available=False, driver="return 11080", runtime=12090)
    assert why_not().endswith("which needs CUDA 12. Install a newer driver")


def test_a_newer_driver_of_the_same_major_version_is_never_too_old(fake):
    fake(available=False, driver="return 12040", runtime=12090)
    assert "shows no usable GPU" in why_not()


def test_a_gpu_number_that_does_not_exist(fake):
    fake()
    assert why_not("cuda:2") == "there is no GPU number 2: this machine has 2, counted from 0"


# --- cause 4: a library is missing ---


@pytest.mark.parametrize(
    ("library", "runtime", "package"),
    [
        ("nvrtc", 13000, "nvidia-cuda-nvrtc"),
        ("nvrtc", 12090, "nvidia-cuda-nvrtc-cu12"),
        ("cublas", 13000, "nvidia-cublas"),
        ("cublas", 12090, "nvidia-cublas-cu12"),
    ],
)
def test_a_missing_library_is_named_with_its_pip_command(fake, library, runtime, package):
    fake(runtime=runtime, **{library: "raise RuntimeError('Failure finding the library')"})
    text = why_not()
    assert f"CuPy finds no {library.upper()} library" in text
    assert text.endswith(f"Install it: pip install {package}")


def test_libraries_are_looked_for_where_cupy_loads_them(fake):
    fake(cublas="import cupy_backends.cuda.libs as libs\nassert 'cublas' in libs.looked_up, 'not loaded yet'")
    assert tn.device("cuda") == "cuda:0"


def test_what_was_found_is_not_looked_for_again(fake, monkeypatch):
    fake()
    tn.device("cuda")
    monkeypatch.setattr(backend, "cupy_packages", lambda: pytest.fail("asked twice"))
    tn.device("cuda")


# --- and when nothing stands in the way ---


def test_the_full_name_of_a_device(fake):
    fake()
    assert [tn.device(n) for n in ("cpu", "cuda", "cuda:0", "cuda:1")] == [
        "cpu",
        "cuda:0",
        "cuda:0",
        "cuda:1",
    ]


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "", None, 0])
def test_a_name_that_is_no_device(name):
    with pytest.raises(ArgumentError, match=r"unknown device .*Known: 'cpu', 'cuda', 'cuda:0'"):
        tn.device(name)


def test_arrays_go_to_the_gpu_that_was_named_and_come_back(fake):
    fake()
    array = np.arange(3.0)
    there = backend.to_device(array, "cuda:1")
    assert backend.device_of(there) == "cuda:1"
    assert backend.array_module(there) is sys.modules["cupy"]
    assert backend.is_array(there)
    assert backend.to_device(there, "cuda:1") is there
    assert backend.host(there) is array


def test_host_arrays_stay_where_they_are():
    array = np.arange(3.0)
    assert backend.to_device(array, "cpu") is array
    assert backend.host(array) is array
    assert backend.device_of(array) == "cpu"


@pytest.mark.parametrize("value", [np.zeros(2), np.float32(1), 1, 1.5, [1, 2], (1,)])
def test_everything_that_is_no_gpu_array_belongs_to_numpy(value):
    assert backend.array_module(value) is np


@pytest.mark.parametrize(
    ("value", "answer"), [(np.zeros(2), True), ([1.0], False), (1.0, False), (None, False)]
)
def test_is_array(value, answer):
    assert backend.is_array(value) is answer


# --- the cache folder ---


def test_the_cache_is_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert backend.cache_folder() == tmp_path / ".cache" / "tinynet"


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_setting_counts_as_none(value, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert backend.cache_folder() == tmp_path / ".cache" / "tinynet"


def test_the_cache_follows_the_standard_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert backend.cache_folder() == tmp_path / "tinynet"


def test_asking_for_the_folder_does_not_make_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not backend.cache_folder().exists()
