"""Moving between devices: tensors, models, optimisers; arrays on the wrong side; a GPU that is full."""

import gc
import re
from contextlib import contextmanager

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops, optim
from tinynet.errors import DeviceError, DeviceMemoryError
from tinynet.training import Trainer
from tinynet.training.memory import in_memory

pytestmark = pytest.mark.usefixtures("standin_gpu")


def net():
    tn.seed(2)
    return nn.Sequential(nn.Dense(5, activation="relu"), nn.BatchNorm(), nn.Dense(3))


def devices(model):
    arrays = [p.data for p in model.parameters()] + [a for _, a in model.named_buffers()]
    return {tn.backend.device_of(a) for a in arrays}


X = np.random.default_rng(0).random((8, 4), np.float32)
Y = np.arange(8) % 3


# --- tensors ---


def test_a_tensor_goes_there_and_back_and_so_does_its_gradient():
    x = tn.tensor([1.0, 2.0], requires_grad=True)
    there = x.to("cuda") * 3
    assert there.device == "cuda:0"
    assert there.to("cuda") is there
    (there.to("cpu") * tn.tensor([1.0, 10.0])).sum().backward()
    assert type(x.grad) is np.ndarray
    np.testing.assert_array_equal(x.grad, [3, 30])


def test_a_tensor_shows_where_it_is_and_gives_its_numbers():
    x = tn.tensor([1.5, 2.0], device="cuda")
    assert repr(x) == "tensor([1.5 2. ], shape=(2,), dtype=float32, device='cuda:0')"
    np.testing.assert_array_equal(x.numpy(), [1.5, 2])
    np.testing.assert_array_equal(np.asarray(x), [1.5, 2])
    assert float(x.sum()) == 3.5
    assert (x > 1.7).device == "cuda:0"
    assert bool((x > 0).data.all())


def test_a_second_gpu_that_is_not_there():
    with pytest.raises(DeviceError, match="there is no GPU number 1: this machine has 1"):
        tn.tensor([1.0]).to("cuda:1")


# --- models ---


def test_a_model_moves_with_its_statistics_and_gives_the_same_numbers():
    model = net().build((4,))
    expected = model(X).numpy()
    state = {name: array.copy() for name, array in model.state_dict().items()}
    assert model.to("cuda") is model
    assert devices(model) == {"cuda:0"}
    np.testing.assert_allclose(model(tn.tensor(X, device="cuda")).numpy(), expected, rtol=1e-4, atol=1e-6)
    assert devices(model.to("cpu")) == {"cpu"}
    for name, array in model.state_dict().items():
        assert type(array) is np.ndarray
        assert array.shape == state[name].shape


def test_parameters_stay_the_same_objects_when_they_move():
    model = net().build((4,))
    before = model.parameters()
    after = model.to("cuda").parameters()
    assert all(a is b for a, b in zip(before, after, strict=True))


def test_a_model_without_sizes_gets_its_parameters_where_it_was_put():
    model = net().to("cuda")
    model.build((4,))
    assert devices(model) == {"cuda:0"}
    fresh = net().to("cuda").compile("sgd")
    fresh.fit(X, Y, verbose=0)
    assert devices(fresh) == {"cuda:0"}
    back = net().to("cuda").to("cpu")
    back(X)
    assert devices(back) == {"cpu"}


def test_parameters_made_by_the_first_call_lie_beside_the_input():
    model = net()
    model(tn.tensor(X, device="cuda"))
    assert devices(model) == {"cuda:0"}


@pytest.mark.parametrize("make", [lambda p: optim.Adam(p, 0.01), lambda p: optim.SGD(p, 0.1, momentum=0.9)])
@pytest.mark.parametrize(
    "path", [("cuda",), ("cpu", "cuda"), ("cuda", "cpu"), ("cpu", "cuda", "cpu", "cuda")]
)
def test_an_optimiser_follows_its_model(make, path):
    """Made before or after the move, with steps on each device: the same as on one device throughout."""
    losses = []
    for places in (path, ("cpu",) * len(path)):
        model = net().build((4,))
        optimizer = make(model.parameters())
        for place in places:
            model.to(place)
            for _ in range(2):
                optimizer.zero_grad()
                loss = ops.cross_entropy(model(tn.tensor(X).to(place)), tn.tensor(Y).to(place))
                loss.backward()
                optimizer.step()
        losses.append(float(loss))
        arrays = [a for state in optimizer._state for a in state.values() if tn.backend.is_array(a)]
        assert {tn.backend.device_of(a) for a in arrays} == devices(model)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_state_of_an_optimiser_loads_on_the_other_side():
    model = net().build((4,)).to("cuda")
    trainer = Trainer(model, optim.Adam(model.parameters()), "cross_entropy")
    trainer.fit(X, Y, verbose=0)
    state = trainer.optimizer.state_dict()
    other = net().build((4,))
    optimizer = optim.Adam(other.parameters())
    optimizer.load_state_dict(state)
    again = optimizer.state_dict()
    assert list(again) == list(state)
    assert all(isinstance(a, np.ndarray | int | float) for a in again.values())


# --- arrays on the wrong side ---


@pytest.mark.parametrize(("inputs", "weights"), [("cpu", "cuda"), ("cuda", "cpu")])
@pytest.mark.parametrize("layer", [nn.Dense(3), nn.Conv1D(3, 2), nn.LSTM(3), nn.BatchNorm(), nn.LayerNorm()])
def test_an_input_on_the_other_side_is_refused_with_both_ways_out(layer, inputs, weights):
    shape = (6, 4) if isinstance(layer, (nn.Conv1D, nn.LSTM)) else (4,)
    layer.forget()
    model = nn.Sequential(layer).build(shape).to(weights)
    x = tn.tensor(np.ones((2, *shape), np.float32), device=inputs)
    for value, training in ((x, True), (x.data, False)):
        model._set_all(training=training)
        with pytest.raises(DeviceError) as caught:
            model(value)
        text = str(caught.value)
        names = {"cpu": "cpu", "cuda": "cuda:0"}
        assert f"the input is on {names[inputs]}, the weights are on {names[weights]}" in text
        assert f".to('{names[weights]}')" in text
        assert f"model.to('{names[inputs]}')" in text


def test_plain_arithmetic_between_devices_names_both():
    with pytest.raises(DeviceError, match=r"Add got tensors on cpu and cuda:0\. Move one"):
        tn.tensor([1.0]) + tn.tensor([1.0], device="cuda")


def test_labels_on_the_other_side():
    logits = tn.tensor(X, device="cuda")
    with pytest.raises(DeviceError, match="the target of cross_entropy is on cpu, but the input is on cuda"):
        ops.cross_entropy(logits, Y)
    with pytest.raises(DeviceError, match=r"got tensors on cpu and cuda:0. Move one of them: .to\('cpu'\)"):
        ops.mse(tn.tensor(X), logits)


# --- a GPU that is full ---


@contextmanager
def room_for(gpu, size):
    """CuPy may take so many bytes more than it has now."""
    gc.collect()  # what earlier tests have left behind
    pool = gpu.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + int(size))
    try:
        yield
    finally:
        pool.set_limit(size=0)


MEMORY = re.compile(r"the memory of the GPU is full: .* more were asked for, .* of .* are free")


def test_a_tensor_that_is_too_large(standin_gpu):
    with room_for(standin_gpu, 2**20), pytest.raises(DeviceMemoryError) as caught:
        tn.tensor(np.zeros(2**20, np.float32), device="cuda")
    assert str(caught.value) == (
        "the memory of the GPU is full: 4 MiB more were asked for, 1 MiB of "
        + str(caught.value).rpartition(" of ")[2]
    )
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, DeviceError)


def test_a_model_that_is_too_large_stays_where_it_is_as_a_whole(standin_gpu):
    model = nn.Sequential(nn.Dense(200), nn.Dense(200), nn.Dense(200)).build((200,))
    before = model.state_dict()
    with room_for(standin_gpu, 400_000), pytest.raises(DeviceMemoryError, match=MEMORY):
        model.to("cuda")
    assert devices(model) == {"cpu"}
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def big(device="cuda"):
    tn.seed(3)
    model = nn.Sequential(
        nn.Conv2D(8, 3, padding="same", activation="relu"), nn.BatchNorm(), nn.Dropout(0.2), nn.Flatten(),
        nn.Dense(3),
    )  # fmt: skip
    return model.build((16, 16, 1)).to(device).compile("adam", "cross_entropy", lr=0.01)


PICTURES = np.random.default_rng(0).random((64, 16, 16, 1), np.float32), np.arange(64) % 3


def advice(caught):
    text = str(caught.value)
    assert MEMORY.search(text)
    assert "in a batch of 64. About batch_size=" in text
    return int(re.search(r"About batch_size=(\d+) would fit", text)[1])


VERBS = {
    "fit": lambda model, n: model.fit(*PICTURES, batch_size=n, verbose=0, seed=1),
    "evaluate": lambda model, n: model.evaluate(*PICTURES, batch_size=n),
    "predict": lambda model, n: model.predict(PICTURES[0], batch_size=n),
}


@pytest.mark.parametrize(("verb", "room"), [("fit", 1_100_000), ("evaluate", 500_000), ("predict", 400_000)])
def test_a_batch_that_is_too_large_names_one_that_fits(standin_gpu, verb, room):
    run, model = VERBS[verb], big()
    before = {name: tn.backend.host(array) for name, array in model.state_dict().items()}
    with room_for(standin_gpu, room):
        with pytest.raises(DeviceMemoryError) as caught:
            run(model, 64)
        n = advice(caught)
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array.get(), before[name])
        assert 1 <= n < 64
        run(model, n)  # it does fit,
        with pytest.raises(DeviceMemoryError):
            run(model, min(63, 2 * n + 2))  # and is no timid guess
    expected = big()
    VERBS["fit"](expected, n)
    if verb == "fit":  # the failed batch has left no trace: no random numbers drawn, no statistics, no steps
        for (name, array), other in zip(model.state_dict().items(), expected.state_dict().values()):
            np.testing.assert_array_equal(array.get(), other.get(), err_msg=name)


def test_advice_is_tried_because_not_all_work_grows_in_line(standin_gpu):
    def work(n):  # as attention does
        return standin_gpu.zeros(1000 * n * n, np.uint8)

    with room_for(standin_gpu, 1e6):
        with pytest.raises(DeviceMemoryError) as caught:
            in_memory(lambda: work(64), work, lambda: None, 64)
        n = advice(caught)
        assert 16 <= n <= 31
        work(n)


def test_when_not_even_one_sample_fits_it_says_so(standin_gpu):
    model = big()
    with room_for(standin_gpu, 10_000), pytest.raises(DeviceMemoryError, match="Not even a single sample"):
        model.fit(*PICTURES, batch_size=64, verbose=0)


def test_memory_of_the_computer_is_another_matter(monkeypatch):
    model = big()
    monkeypatch.setattr(model, "forward", lambda x: (_ for _ in ()).throw(MemoryError("host")))
    with pytest.raises(MemoryError, match=r"^host$") as caught:
        model.fit(*PICTURES, batch_size=64, verbose=0)
    assert not isinstance(caught.value, DeviceMemoryError)
