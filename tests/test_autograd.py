"""The graph: recording, the walk back, accumulation, release."""

import gc
import threading
import weakref

import numpy as np
import pytest

import tinynet as tn
from tinynet import ops
from tinynet.errors import DTypeError, GraphError, ShapeError


def leaf(*values):
    return tn.tensor(np.array(values, "float64"), requires_grad=True)


def test_shared_subexpressions_are_walked_once_and_add_up():
    x = leaf(3.0)
    y = x * x  # 9
    z = y * y + y * x  # x^4 + x^3
    z.sum().backward()
    assert x.grad.tolist() == [4 * 27 + 3 * 9]


def test_a_leaf_used_many_times_in_one_operation():
    x = leaf(2.0)
    (x * x).backward()
    assert x.grad.tolist() == [4.0]
    y = leaf(1.0, 2.0)
    ops.concat([y, y, y]).sum().backward()
    assert y.grad.tolist() == [3.0, 3.0]


def test_the_walk_follows_age_not_the_order_of_discovery():
    x = leaf(2.0)
    early = x * 3
    late = early + x
    for _ in range(3):
        late = late * early
    (late + early).sum().backward()
    # late = (3x + x) * 27 x^3 = 108 x^4
    assert x.grad.tolist() == [432 * 8 + 3]


def test_leaves_accumulate_until_told_otherwise():
    x = leaf(1.0, 2.0)
    for _ in range(3):
        (x * 2).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]
    first = x.grad
    (x * 2).sum().backward()
    assert first.tolist() == [6.0, 6.0]  # what the user holds does not change under their hands


def test_inner_tensors_keep_no_gradient():
    x = leaf(1.0)
    y = x * 2
    (y * 3).backward()
    assert y.grad is None and x.grad.tolist() == [6.0]


def test_a_second_backward_says_what_to_do():
    x = leaf(1.0)
    y = ops.exp(x) * x
    y.backward()
    with pytest.raises(
        GraphError, match=r"came to Mul, whose graph was released.*inside the loop, or detach\(\)"
    ):
        y.backward()
    z = ops.exp(x)
    (z * 2).backward()
    with pytest.raises(GraphError, match="came to Exp, whose graph was released"):
        (z * 3).backward()


def test_backward_without_a_graph():
    with pytest.raises(GraphError, match="made from nothing that requires a gradient"):
        tn.tensor([1.0]).backward()
    with tn.no_grad():
        y = leaf(1.0) * 2
    with pytest.raises(GraphError, match="made from nothing that requires a gradient"):
        y.backward()


def test_backward_needs_a_single_number_or_a_gradient_of_the_right_shape():
    x = leaf(1.0, 2.0)
    with pytest.raises(
        GraphError, match=r"needs a single number, got shape \(2,\).*loss\.mean\(\)\.backward\(\)"
    ):
        (x * 2).backward()
    with pytest.raises(ShapeError, match=r"a tensor of shape \(2,\) got a gradient of shape \(3,\)"):
        (x * 2).backward(np.ones(3))
    (x * 2).backward([1, 10])
    assert x.grad.tolist() == [2.0, 20.0]
    (x * 2).backward(tn.tensor([1.0, 1.0]))  # float32 is taken in the dtype of the tensor
    assert x.grad.dtype == "float64"


def test_backward_of_a_leaf_copies_the_gradient():
    x, grad = leaf(1.0, 2.0), np.ones(2)
    x.backward(grad)
    grad[0] = 7
    assert x.grad.tolist() == [1.0, 1.0]


def test_leaves_share_no_memory_even_where_a_gradient_is_only_passed_on():
    x, y, w = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
    (x + y + w.reshape(2, 1).reshape(2)).backward(np.ones(2))
    grads = [x.grad, y.grad, w.grad]
    x.grad *= 10
    w.grad *= 10
    assert [g.tolist() for g in grads] == [[10.0, 10.0], [1.0, 1.0], [10.0, 10.0]]


def test_detach_and_constants_stop_the_gradient():
    x = leaf(2.0)
    ((x * 3).detach() * x).backward()
    assert x.grad.tolist() == [6.0]
    assert np.shares_memory(x.detach().data, x.data)


def test_no_grad_is_nested_undone_by_errors_and_local_to_a_thread():
    x = leaf(1.0)
    with tn.no_grad():
        with tn.no_grad():
            pass
        assert not (x * 2).requires_grad
        seen = []
        thread = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        thread.start()
        thread.join()
        assert seen == [True]
    with pytest.raises(ZeroDivisionError), tn.no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad


def test_ten_thousand_operations_need_no_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y + 0.5
    y.backward()
    assert x.grad.tolist() == [1.0]
    for _ in range(20_000):  # and an unwalked graph is let go as well
        x = x + 0.5
    del x
    gc.collect()


def test_the_graph_is_released_after_backward_and_when_nobody_holds_it():
    class Big(tn.Op):
        def forward(self, x):
            self.stored = np.ones(10).view(type("Kept", (np.ndarray,), {}))
            seen.append(weakref.ref(self.stored))
            return x * 1

        def backward(self, grad):
            return grad

    seen: list = []
    x = leaf(1.0)
    y = Big.apply(x)
    y.backward()
    assert seen[0]() is None, "what the operation stored outlived backward()"
    y = Big.apply(x)
    del y
    assert seen[1]() is None, "what the operation stored outlived its result"


def test_values_that_no_backward_needs_are_freed_while_the_graph_stands():
    x = leaf(1.0, 2.0)
    inner = x + 1
    kept = weakref.ref(inner)
    outer = ops.relu(inner)
    del inner
    assert kept() is None
    outer.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_unused_outputs_arrive_as_none():
    class Two(tn.Op):
        def forward(self, x):
            return x * 1, x * 2

        def backward(self, first, second):
            got.append((first is None, second is None))
            return 2 * second

    got: list = []
    x = leaf(3.0)
    Two.apply(x)[1].backward()
    assert got == [(True, False)] and x.grad.tolist() == [2.0]


def test_needs_tells_which_gradients_are_wanted():
    class Probe(tn.Op):
        def forward(self, a, b, c):
            wanted.append(self.needs)
            return a * b

        def backward(self, grad):
            return grad, None, None

    wanted: list = []
    Probe.apply(leaf(1.0), tn.tensor(np.ones(1)), None)
    assert wanted == [(True, False, False)]


def test_a_gradient_in_another_dtype_or_shape_is_fitted_to_its_input():
    class Sloppy(tn.Op):
        def forward(self, x):
            return np.broadcast_to(x, (3, 2)).copy()

        def backward(self, grad):
            return grad.astype("float64")

    x = tn.tensor([1.0, 2.0], requires_grad=True)
    Sloppy.apply(x).sum().backward()
    assert x.grad.dtype == "float32" and x.grad.tolist() == [3.0, 3.0]


def test_an_operation_of_ones_own():
    class Cube(tn.Op):
        def forward(self, x):
            self.x = x
            return x**3

        def backward(self, grad):
            return 3 * self.x**2 * grad

    assert tn.gradcheck(lambda x: Cube.apply(x), np.array([1.0, -2.0]))
    with pytest.raises(TypeError, match="Op defines no forward"):
        tn.Op.apply(leaf(1.0))
    with pytest.raises(DTypeError, match="Cube2 got float64 and float32"):
        type("Cube2", (Cube,), {}).apply(leaf(1.0), tn.tensor([1.0]))


def test_arrays_mapped_from_a_file_count_as_arrays(tmp_path):
    mapped = np.memmap(tmp_path / "numbers", "float64", mode="w+", shape=(2, 3))
    labels = np.memmap(tmp_path / "labels", "int64", mode="w+", shape=(2,))
    x = leaf(1.0, 2.0, 3.0)
    ops.cross_entropy(x * mapped, labels).backward()
    assert x.grad.shape == (3,)


def test_gradients_of_gradients_are_plain_arrays():
    x = leaf(2.0)
    (x**3).backward()
    assert type(x.grad) is np.ndarray  # second derivatives are not recorded
