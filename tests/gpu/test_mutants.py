"""The tests of the tests: mistakes are put into the real kernels, and every one of them must be found."""

import cases
import mutants
import pytest
import shim
import standin
from measure import relative_error
from test_sanitizer import findings, needs_sanitizer

from tinynet.kernels.cuda import loader

WITH_CUBLAS = {("matmul.cu", "finish_all")}  # runs after NVIDIA's library, which the stand-in does not have

pytestmark = pytest.mark.skipif(not shim.available(), reason="needs g++ to run the kernels on the CPU")


@pytest.fixture
def is_right(standin_gpu, monkeypatch):
    """Gives a case the right numbers, and no crash, with the threads of a block in this order?"""
    monkeypatch.setattr(loader, "source", loader.source)  # so that a mistake does not stay
    forget_kernels()

    def ask(case, order):
        monkeypatch.setattr(standin, "order", order)
        truth = cases.truth(case)
        try:
            found = cases.on_card(case, standin_gpu)
        except shim.ShimError:
            return False
        return len(found) == len(truth) and all(
            relative_error(a, b) < cases.bar(case) for a, b in zip(found, truth)
        )

    yield ask
    forget_kernels()


def forget_kernels():
    loader._kernel.cache_clear()
    loader._module.cache_clear()


@pytest.mark.parametrize("order", shim.ORDERS)
def test_every_case_is_right_and_they_run_every_kernel(order, is_right, monkeypatch):
    ran = noted_kernels(monkeypatch)
    assert [case for case in cases.CASES if not is_right(case, order)] == []
    files = [path.name for path in loader.FOLDER.glob("*.cu")]
    written = {(file, name) for file in files for name in shim.kernels(loader.source(file))}
    assert written - ran == WITH_CUBLAS


def noted_kernels(monkeypatch):
    """File and name of the kernels that run from now on."""
    found, kernel = set(), loader._kernel

    def noted(name, file, *settings):
        found.add((file, name))
        return kernel(name, file, *settings)

    noted.cache_clear = kernel.cache_clear
    monkeypatch.setattr(loader, "_kernel", noted)
    return found


@pytest.mark.parametrize("name", mutants.NUMBERS)
def test_wrong_numbers(name, is_right):
    mutants.MUTANTS[name].install()
    assert not all(is_right(mutants.MUTANTS[name].case, order) for order in shim.ORDERS)


@needs_sanitizer
@pytest.mark.parametrize("name", mutants.SANITIZER)
def test_outside_of_an_array(name):
    text = findings("--mutant", name, mutants.MUTANTS[name].case)
    assert "ERROR: AddressSanitizer" in text or "runtime error" in text, text
