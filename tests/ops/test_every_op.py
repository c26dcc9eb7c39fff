"""What holds for all operations alike: gradients, dtypes, memory."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import autograd, ops
from tinynet.errors import DTypeError
from tinynet.gradcheck import check_op
from tinynet.ops.cases import NOT_DIFFERENTIABLE, gradcheck_cases

NAMES = sorted(gradcheck_cases)

# These accept whole numbers as well, as in NumPy.
ANY_NUMBERS = {
    "abs", "add", "astype", "broadcast_to", "clip", "concat", "expand_dims", "flatten", "flip",
    "getitem", "max", "maximum", "min", "minimum", "mul", "neg", "pad", "pow", "reshape", "split",
    "squeeze", "stack", "sub", "sum", "to_device", "transpose", "where",
}  # fmt: skip


def outputs_of(name, dtype, requires_grad=True):
    f, inputs = gradcheck_cases[name]()
    leaves = [tn.tensor(np.asarray(x, dtype), requires_grad=requires_grad) for x in inputs]
    result = f(*leaves)
    return leaves, list(result) if isinstance(result, tuple) else [result]


def test_every_public_operation_is_checked():
    assert set(ops.__all__) == set(gradcheck_cases) | set(NOT_DIFFERENTIABLE)
    assert not set(gradcheck_cases) & set(NOT_DIFFERENTIABLE)
    assert all(callable(getattr(ops, name)) and getattr(ops, name).__doc__ for name in ops.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_agrees_with_finite_differences(name):
    report = check_op(name)
    assert report, f"\n{report}"
    assert all(c.compared for c in report.inputs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [n for n in NAMES if n != "astype"])
def test_dtype_in_is_dtype_out_forward_and_backward(name, dtype, monkeypatch):
    wrong, fit = [], autograd._fit

    def watched(grad, shape, dtype):
        if grad.dtype != dtype:
            wrong.append(grad.dtype)
        return fit(grad, shape, dtype)

    monkeypatch.setattr(autograd, "_fit", watched)
    leaves, outputs = outputs_of(name, dtype)
    assert [y.dtype for y in outputs] == [dtype] * len(outputs)
    ops.add(sum(y.sum() for y in outputs), 0).backward()
    assert [x.grad.dtype for x in leaves] == [dtype] * len(leaves)
    assert not wrong, "a gradient was computed in another dtype and had to be converted"


@pytest.mark.parametrize("name", NAMES)
def test_leaf_gradients_have_memory_of_their_own(name):
    leaves, outputs = outputs_of(name, "float64")
    arrays = [x.data for x in leaves] + [y.data for y in outputs]
    grad = np.ones(())
    sum(y.sum() for y in outputs).backward(grad)
    grads = [x.grad for x in leaves]
    for i, g in enumerate(grads):
        assert g.flags.writeable and g.shape == leaves[i].shape
        assert not any(np.shares_memory(g, other) for other in [*arrays, grad, *grads[:i]])


@pytest.mark.parametrize("name", NAMES)
def test_backward_leaves_values_and_incoming_gradients_alone(name, monkeypatch):
    original = autograd.Node.backward

    def watched(node, grads):
        before = [None if g is None else g.copy() for g in grads]
        result = original(node, grads)
        assert all(g is None or (g == b).all() for g, b in zip(grads, before)), node.name
        return result

    monkeypatch.setattr(autograd.Node, "backward", watched)
    leaves, outputs = outputs_of(name, "float64")
    before = [t.data.copy() for t in leaves + outputs]
    sum(y.sum() for y in outputs).backward()
    assert all((t.data == b).all() for t, b in zip(leaves + outputs, before))


@pytest.mark.parametrize("name", sorted(set(NAMES) - ANY_NUMBERS - {"bce_with_logits"}))
def test_integers_are_refused_with_the_cast_to_type(name):
    f, inputs = gradcheck_cases[name]()
    with pytest.raises(DTypeError, match=r"\.astype\('float32'\)|\.astype\('float64'\)"):
        f(*(tn.tensor(np.asarray(x).astype(int)) for x in inputs))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_recorded_without_need(name):
    _, outputs = outputs_of(name, "float64", requires_grad=False)
    assert not any(y.requires_grad or y.node for y in outputs)
    with tn.no_grad():
        _, outputs = outputs_of(name, "float64")
    assert not any(y.node for y in outputs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", [ops.add, ops.sub, ops.mul, ops.div, ops.pow, ops.maximum, ops.minimum])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_python_and_numpy_numbers_take_the_dtype_of_the_tensor(op, dtype, shape):
    x = tn.tensor(np.full(shape, 1.5, dtype))
    for number in (2, 0.5, True, np.float32(0.5), np.float64(0.5), np.int64(2)):
        assert op(x, number).dtype == dtype
        assert op(number, x).dtype == dtype
        assert isinstance(op(x, number).data, np.ndarray)


@pytest.mark.parametrize(
    "name", ["relu", "exp", "tanh", "sigmoid", "softplus", "gelu", "elu", "sqrt", "sum", "var"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_0d_tensor_stays_an_array_of_its_dtype(name, dtype):
    x = tn.tensor(np.asarray(0.7, dtype), requires_grad=True)
    y = getattr(ops, name)(x)
    y.backward()
    for array in (y.data, x.grad):
        assert type(array) is np.ndarray and array.shape == () and array.dtype == dtype


@pytest.mark.parametrize(
    "name", ["dense", "conv", "max_pool", "avg_pool", "layer_norm", "upsample", "softmax"]
)
def test_an_empty_batch_passes_through(name):
    shapes = {"dense": (0, 3), "softmax": (0, 3), "layer_norm": (0, 3)}
    x = tn.tensor(np.zeros(shapes.get(name, (0, 4, 4, 3)), "float32"), requires_grad=True)
    more = {
        "dense": (np.zeros((3, 2), "float32"),), "conv": (np.zeros((3, 3, 3, 2), "float32"),),
        "layer_norm": (np.ones(3, "float32"), np.zeros(3, "float32")), "upsample": (2,),
    }.get(name, ())  # fmt: skip
    y = getattr(ops, name)(x, *more)
    assert y.shape[0] == 0
    y.sum().backward()
    assert x.grad.shape == x.shape
