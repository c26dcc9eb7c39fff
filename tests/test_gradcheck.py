"""The gradient checker finds wrong gradients, and tells them from kinks."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import ops
from tinynet.errors import ArgumentError
from tinynet.gradcheck import check_op, gradcheck


class Wrong(tn.Op):
    """x^2 whose gradient is wrong at one element."""

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, grad):
        grad = 2 * self.x * grad
        grad.ravel()[-1] *= 1.001
        return grad


def test_a_wrong_gradient_is_found_and_located():
    report = gradcheck(Wrong.apply, np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert not report and not report.ok
    assert report.inputs[0].at == "(1, 1)"
    assert report.max_error == pytest.approx(abs(report.inputs[0].numeric) * 0.001, rel=1e-3)
    assert "DIFFER" in str(report) and "(1, 1)" in str(report)


def test_a_wrong_gradient_of_a_large_input_is_found_along_directions():
    x = np.random.default_rng(0).normal(size=300)
    assert not gradcheck(Wrong.apply, np.append(x, 4.0))
    assert not gradcheck(Wrong.apply, np.array([1.0, 4.0]), directional=True)
    assert gradcheck(lambda t: ops.tanh(t), x).inputs[0].along == "directions"
    assert gradcheck(lambda t: ops.tanh(t), x, directional=False).inputs[0].compared == 300


def test_a_missing_gradient_is_found():
    assert not gradcheck(lambda x: x * x.detach(), np.array([1.0, 2.0]))
    assert not gradcheck(lambda x, y: x + y.detach(), np.ones(2), np.ones(2))
    nan = type("Nan", (Wrong,), {"backward": lambda self, grad: grad * np.nan})
    assert not gradcheck(nan.apply, np.ones(2))


def test_the_report_is_a_table():
    text = str(gradcheck(ops.mul, np.ones((2, 3)), np.ones(3)))
    assert text.splitlines()[0].startswith("gradients agree, largest error")
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["input", "0", "1"]
    assert "(2, 3)" in text and "6 elements" in text and "3 elements" in text


def test_inputs_on_kinks_are_moved_and_the_report_says_so():
    report = gradcheck(ops.relu, np.array([0.0, 1.0, 0.0, -1.0]))
    assert report and report.inputs[0].moved == 2 and report.inputs[0].compared == 4
    assert report.notes == ("input 0: 2 elements lay on a kink or tie and were moved",)
    assert "note: input 0" in str(report)


def test_ties_are_broken():
    for f in (ops.max, lambda x: ops.max_pool(x.reshape(1, -1, 1), 2)):
        report = gradcheck(f, np.ones(6))
        assert report and report.inputs[0].moved > 0


def test_a_kink_in_a_large_input_is_moved_too():
    report = gradcheck(ops.relu, np.zeros(400))
    assert report and report.inputs[0].along == "directions" and report.inputs[0].moved


def test_curvature_is_no_kink():
    for f, x in [
        (lambda t: 1 / t, 0.02),
        (lambda t: t**2, 0.0),
        (ops.exp, 15.0),
        (lambda t: 1e6 * t**2, 0.0),
    ]:
        report = gradcheck(f, np.array([x]), rtol=1e-4)
        assert report and not report.inputs[0].moved, report


def test_outside_of_the_domain_the_input_is_moved():
    with np.errstate(invalid="ignore"):
        report = gradcheck(ops.sqrt, np.array([0.0, 1.0]))
    assert report and report.inputs[0].moved


def test_a_step_function_stays_on_its_kink_only_where_it_steps():
    report = gradcheck(lambda x: ops.where(x > x.detach() - 1e-9, 1.0 + 0 * x, 2.0 + 0 * x), np.array([1.0]))
    assert report


def test_several_outputs_of_any_shape_and_integer_inputs():
    def f(x, index):
        return x[index.data], x.sum(), x > 0

    assert gradcheck(f, np.array([1.0, 2.0, 3.0]), np.array([0, 0, 2]))


def test_inputs_are_copied_to_float64():
    x = tn.tensor([1.0, 2.0])
    seen = set()

    def f(t):
        seen.add(t.dtype)
        t.data[...] += 0
        return t * t

    assert gradcheck(f, x) and seen == {np.dtype("float64")}
    assert x.dtype == "float32" and x.grad is None


def test_a_function_that_writes_to_its_input_does_no_harm():
    def f(t):
        y = t * 2
        with tn.no_grad():
            t.data[...] = 0
        return y

    assert gradcheck(f, np.array([1.0, 2.0]))


def test_random_functions_are_refused():
    with pytest.raises(ArgumentError, match=r"different values for the same inputs.*tn\.seed\(0\) inside f"):
        gradcheck(lambda x: ops.dropout(x, 0.5), np.ones(50))


def test_what_f_must_return():
    with pytest.raises(ArgumentError, match="f must return tensors, got float"):
        gradcheck(lambda x: 1.0, np.ones(2))


def test_check_op_knows_the_operations():
    assert check_op("relu")
    with pytest.raises(ArgumentError, match=r"unknown operation 'reluu'. Did you mean 'relu'"):
        check_op("reluu")


def test_tn_gradcheck_is_the_function():
    assert tn.gradcheck is gradcheck


def test_there_must_be_something_to_differentiate():
    for f, x in ((lambda a: a * a, np.arange(3)), (lambda a: (a > 0) * 1, np.ones(3))):
        with pytest.raises(ArgumentError, match="neither inputs nor outputs may all be integers"):
            tn.gradcheck(f, x)
