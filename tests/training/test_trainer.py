"""Training one model against a plain loop, and the state in which it leaves the process."""

from __future__ import annotations

import copy
import csv
import dataclasses
import hashlib
import io
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models import lora
from lora_mnist_cli.models.adapted_linear import adapter_tensors, load_adapter_tensors
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig, TrainingConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import DivergedError, UsageError
from lora_mnist_cli.training.optimizers import PLATEAU_PATIENCE, WARM_UP, Plateau, cosine_share
from lora_mnist_cli.training.trainer import EpochRecord, SplitData, fit, history_csv

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 330


@pytest.fixture(scope="module")
def mnist() -> MNISTDataset:
    """The first images of 0-4."""
    return MNISTDataset(*MNISTDataset.load("train", DigitSet.parse("0-4"))[:COUNT])


def start(seed: int = 0) -> MNISTModel:
    model = MNISTModel((16, 12))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return model


def stream(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def plain_loop(
    model: nn.Module, data: MNISTDataset, optimizer: torch.optim.Optimizer, *, seed: int, epochs: int, batch_size: int
) -> list[tuple[float, float, float, float]]:
    """What the recipe says, with nothing but PyTorch: a row of losses and accuracies for each state of the weights."""
    shuffled = torch.randperm(len(data), generator=stream(seed, "split"))
    n_train = int(0.8 * len(data))
    train, val = shuffled[:n_train], shuffled[n_train:]

    def measure() -> tuple[float, float, float, float]:
        row: list[float] = []
        with torch.no_grad():
            for part in (train[:2048], val):
                logits = model(data.images[part]).double()
                row.append(float(F.cross_entropy(logits, data.labels[part])))
                row.append(float((logits.argmax(1) == data.labels[part]).double().mean()))
        return row[0], row[1], row[2], row[3]

    order, rows = stream(seed, "order"), [measure()]
    for _ in range(epochs):
        permutation = train[torch.randperm(n_train, generator=order)]
        for batch in permutation.split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(model(data.images[batch]), data.labels[batch]).backward()
            optimizer.step()
        rows.append(measure())
    return rows


@pytest.mark.parametrize(
    ("name", "decay", "make"),
    [
        ("adam", None, lambda p: torch.optim.Adam(p, lr=0.01)),
        ("adam", 0.1, lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1)),
        ("adamw", None, lambda p: torch.optim.AdamW(p, lr=0.01)),
        ("adamw", 0.3, lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3)),
        ("sgd", None, lambda p: torch.optim.SGD(p, lr=0.01)),
    ],
)
def test_it_is_the_plain_loop(mnist, name, decay, make):
    ours, theirs = start(), start()
    config = BaseConfig(epochs=3, batch_size=2, lr=0.01, optimizer=name, weight_decay=decay, seed=7)
    history = fit(ours, mnist, config)
    rows = plain_loop(theirs, mnist, make(theirs.parameters()), seed=7, epochs=3, batch_size=2)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, atol=2e-4, rtol=1e-3, msg=key)
    assert [record.epoch for record in history] == [0, 1, 2, 3]
    for record, row in zip(history, rows, strict=True):
        got = (record.train_loss, record.train_accuracy, record.val_loss, record.val_accuracy)
        assert got == pytest.approx(row, rel=2e-3, abs=0.02)
    assert history[0].train_loss == pytest.approx(rows[0][0], rel=1e-6)
    assert history[3].train_loss < 0.7 * history[0].train_loss


def test_it_is_the_plain_loop_to_the_last_bit_in_double_precision(mnist):
    """Without float32's rounding there is no room left for another order, split, step or optimiser."""
    ours, theirs = start(), start().double()
    history = fit(ours, mnist, BaseConfig(epochs=2, batch_size=2, lr=0.01, seed=3, precision="64-true"))
    double = MNISTDataset(mnist.images.double(), mnist.labels)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01)
    rows = plain_loop(theirs, double, optimizer, seed=3, epochs=2, batch_size=2)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value.float(), atol=1e-7, rtol=1e-6, msg=key)
    assert history[2].val_loss == pytest.approx(rows[2][2], rel=1e-9)


def test_an_adapter_is_the_plain_loop_and_the_frozen_weights_stay(mnist):
    ours, theirs = (lora.attach(start(), 3, init="kaiming") for _ in range(2))
    load_adapter_tensors(theirs, adapter_tensors(ours))
    before = copy.deepcopy(ours.state_dict())
    fit(ours, mnist, TrainingConfig(epochs=2, batch_size=8, optimizer="adamw", precision="64-true"))
    theirs.double()
    trainable = [p for p in theirs.parameters() if p.requires_grad]
    double = MNISTDataset(mnist.images.double(), mnist.labels)
    plain_loop(theirs, double, torch.optim.AdamW(trainable), seed=0, epochs=2, batch_size=8)
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[key].float(), atol=1e-7, rtol=1e-6, msg=key)
        assert torch.equal(value, before[key]) is ("base" in key)


@pytest.fixture(params=["plain", "lightning"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Each engine in turn."""
    return Runtime(engine=request.param)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_the_precision_is_what_it_says(mnist, precision, runtime):
    model, seen = start(), set()
    model.fc1.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    history = fit(model, mnist, BaseConfig(epochs=2, batch_size=8, lr=0.01, precision=precision), runtime=runtime)
    assert seen == {{"32-true": torch.float32, "64-true": torch.float64, "bf16-mixed": torch.bfloat16}[precision]}
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert history[2].train_loss < history[0].train_loss
    assert torch.get_default_dtype() == torch.float32


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items())


def test_no_epochs_leave_the_start_untouched(mnist, recorder):
    model = start()
    history = fit(model, mnist, BaseConfig(epochs=0), reporter=recorder, title="nothing")
    assert equal(model, start())
    assert [record.epoch for record in history] == [0]
    assert recorder.events == [("begin", "nothing", 0, 5), ("end",)]


def test_without_a_validation_split_all_images_are_trained_on(mnist, recorder):
    config = BaseConfig(epochs=1, batch_size=100, val_split=0.0)
    history = fit(start(), mnist, config, reporter=recorder)
    assert [(record.val_loss, record.val_accuracy) for record in history] == [(None, None)] * 2
    assert recorder.events[0] == ("begin", "training", 1, 4)
    assert recorder.all("epoch_done") == [(1, None, None)]
    logits = start()(mnist.images)
    assert history[0].train_accuracy == pytest.approx(float((logits.argmax(1) == mnist.labels).double().mean()))


@pytest.mark.parametrize("val_split", [0.2, 0.0])
def test_a_plateau_divides_the_rate_by_ten(mnist, val_split):
    """Epoch 1 is the best so far, epochs 2 to 12 are eleven without a better one: more than the patience of ten."""
    config = BaseConfig(
        epochs=15, batch_size=300, lr=1e-7, optimizer="sgd", schedule="plateau", val_split=val_split
    )  # fmt: skip
    rates = [record.lr for record in fit(start(), mnist, config)]
    assert rates == pytest.approx([1e-7] * 13 + [1e-8] * 3, rel=1e-9, abs=0)


def test_a_plateau_is_seen_in_the_validation_loss_and_not_in_the_training_loss(mnist):
    noise = MNISTDataset(mnist.images, torch.randint(10, (COUNT,), generator=torch.Generator().manual_seed(0)))
    config = BaseConfig(epochs=20, batch_size=16, lr=0.01, schedule="plateau")
    history = fit(start(), noise, config)
    best = min(range(1, 21), key=lambda epoch: history[epoch].val_loss or math.inf)
    assert best < 5
    assert history[20].train_loss < history[best].train_loss
    assert [record.lr for record in history] == pytest.approx(
        [0.01] * (best + 12) + [0.001] * (21 - best - 12)
    )  # fmt: skip


def test_the_constant_schedule_is_constant(mnist):
    history = fit(start(), mnist, BaseConfig(epochs=14, batch_size=300, lr=1e-9))
    assert {record.lr for record in history} == {1e-9}


@pytest.mark.parametrize("batch_size", [8, 1000])
def test_what_diverges_says_so(mnist, recorder, batch_size):
    config = BaseConfig(epochs=3, batch_size=batch_size, lr=1e20, optimizer="sgd")
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) in epoch \d") as caught:
        fit(start(), mnist, config, reporter=recorder)
    assert (caught.value.hint, caught.value.value) == ("a lower --lr than 1e+20 may help", 1e20)
    assert caught.value.exit_code == 2
    assert recorder.all("end") == [()]


def test_the_same_seed_gives_the_same_bits_whatever_the_global_generator_says(mnist):
    def trained(seed: int, global_seed: int) -> nn.Module:
        model = lora.attach(start(), 2, dropout=0.5)
        with torch.no_grad():
            for value in adapter_tensors(model).values():
                value.fill_(0.01)
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        fit(model, mnist, TrainingConfig(epochs=2, batch_size=16, seed=seed))
        assert torch.equal(torch.get_rng_state(), state)
        return model

    first = trained(0, 1)
    assert equal(first, trained(0, 2))
    assert not equal(first, trained(1, 1))


def test_dropout_is_off_while_the_weights_are_scored(mnist):
    model, modes = lora.attach(start(), 2, dropout=0.9), []
    model.register_forward_hook(lambda module, inputs, _output: modes.append((module.training, len(inputs[0]))))
    fit(model, mnist, TrainingConfig(epochs=1, batch_size=64))
    assert [size for training, size in modes if not training] == [264, 66, 264, 66]
    assert [size for training, size in modes if training] == [64, 64, 64, 64, 8]


def test_the_reporter_hears_the_right_totals(mnist, recorder):
    history = fit(start(), mnist, BaseConfig(epochs=3, batch_size=2), reporter=recorder, title="base-0-4")
    assert (recorder.events[0], recorder.events[-1]) == (("begin", "base-0-4", 3, 132), ("end",))
    assert len(recorder.all("begin")) == len(recorder.all("end")) == 1
    advances = recorder.all("advance")
    for epoch in (1, 2, 3):
        assert sum(steps for steps, at, _ in advances if at == epoch) == 132
    assert all(math.isfinite(loss) and loss > 0 for _, _, loss in advances)
    expected = [(record.epoch, record.val_loss, record.val_accuracy) for record in history[1:]]
    assert recorder.all("epoch_done") == expected
    order = [event[0] for event in recorder.events]
    assert order[1:-1] == (["advance"] * 3 + ["epoch_done"]) * 3


@pytest.fixture
def handler() -> Iterator[Callable[..., Any]]:
    """A SIGINT handler of one's own, which works as Python's does."""
    before = signal.getsignal(signal.SIGINT)

    def own(*arguments: Any) -> None:
        signal.default_int_handler(*arguments)

    signal.signal(signal.SIGINT, own)
    yield own
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("by_signal", [False, True])
def test_ctrl_c_is_a_keyboard_interrupt_and_the_handler_is_as_before(mnist, recorder, handler, by_signal, runtime):
    calls = []

    def interrupt(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            if not by_signal:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)

    recorder.advance = interrupt
    with pytest.raises(KeyboardInterrupt):
        fit(start(), mnist, BaseConfig(epochs=200, batch_size=2), runtime=runtime, reporter=recorder)
    assert len(calls) < 10
    assert signal.getsignal(signal.SIGINT) is handler
    assert recorder.all("end") == [()]


@pytest.mark.parametrize("error", [SystemExit(7), ZeroDivisionError("in the reporter")], ids=repr)
def test_what_is_raised_inside_comes_out_as_it_is(mnist, recorder, error, runtime):
    def fail(*_: object) -> None:
        raise error

    recorder.epoch_done = fail
    model = start()
    with pytest.raises(type(error)) as caught:
        fit(model, mnist, BaseConfig(epochs=1, precision="64-true"), runtime=runtime, reporter=recorder)
    assert (model.fc1.weight.dtype, torch.get_default_dtype()) == (torch.float32, torch.float32)
    assert caught.value is error
    assert recorder.all("end") == [()]


@pytest.mark.parametrize("before", [False, True])
def test_deterministic_inside_and_as_before_afterwards(mnist, recorder, before, handler, runtime):
    inside = []
    recorder.advance = lambda *_: inside.append(torch.are_deterministic_algorithms_enabled())
    torch.use_deterministic_algorithms(before)
    try:
        fit(start(), mnist, BaseConfig(epochs=1), runtime=runtime, reporter=recorder)
        assert torch.are_deterministic_algorithms_enabled() is before
    finally:
        torch.use_deterministic_algorithms(False)
    assert set(inside) == {True}
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("threads", [1, 2])
def test_so_many_threads_inside_and_as_before_afterwards(mnist, recorder, threads):
    inside = []
    recorder.advance = lambda *_: inside.append(torch.get_num_threads())
    torch.set_num_threads(3 - threads)
    fit(start(), mnist, BaseConfig(epochs=1), runtime=Runtime(threads=threads), reporter=recorder)
    assert inside == [threads]
    assert torch.get_num_threads() == 3 - threads


def test_it_can_run_in_another_thread(mnist, runtime):
    histories: list[list[EpochRecord]] = []
    train = partial(fit, start(), mnist, BaseConfig(epochs=1), runtime=runtime)
    thread = threading.Thread(target=lambda: histories.append(train()))
    thread.start()
    thread.join()
    assert histories == [fit(start(), mnist, BaseConfig(epochs=1))]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_accelerator_that_is_not_there_is_refused(mnist, runtime):
    with pytest.raises(UsageError, match="no accelerator 'gpu' here"):
        fit(start(), mnist, BaseConfig(epochs=1), runtime=dataclasses.replace(runtime, accelerator="gpu"))


def test_the_history_as_csv():
    history = [EpochRecord(0, 2.5, 0.1, None, None, 1e-3), EpochRecord(1, 1.25, 0.5, 1.5, 0.4, 1e-4)]
    text = history_csv(history)
    assert text == (
        "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr\n0,2.5,0.1,,,0.001\n1,1.25,0.5,1.5,0.4,0.0001\n"
    )
    assert len(list(csv.reader(io.StringIO(text)))) == 3


def test_the_data_is_split_into_training_and_validation(mnist):
    data = SplitData(mnist, BaseConfig(batch_size=10))
    assert data.val is not None
    assert (data.val.images.shape, data.val.labels.shape) == ((66, 784), (66,))
    seen: list[Tensor] = list(data.blocks)
    assert sum(len(part) for part in seen) == 264
    assert SplitData(mnist, BaseConfig(val_split=0.0)).val is None


def test_the_cosine_schedule_rises_from_nothing_and_falls_to_nothing():
    shares = [cosine_share(progress / 1000) for progress in range(1001)]
    top = round(1000 * WARM_UP)
    assert (shares[0], shares[top], shares[-1]) == pytest.approx((0, 1, 0))
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    # Half a wave: what is lost on one side of the middle is gained on the other.
    assert cosine_share(WARM_UP + (1 - WARM_UP) / 2) == pytest.approx(0.5)
    assert shares[top + 100] + cosine_share(1 - 0.1) == pytest.approx(1)


def test_the_plateau_is_pytorchs():
    draw = torch.Generator().manual_seed(0)
    losses = (torch.rand(400, generator=draw) * 0.01 + torch.linspace(2, 1, 400).clamp(min=1.3)).tolist()
    losses[50], losses[60] = math.nan, losses[59] * (1 - 5e-5)
    holder = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    theirs, ours, changes = (
        torch.optim.lr_scheduler.ReduceLROnPlateau(holder, patience=PLATEAU_PATIENCE),
        Plateau(0.3),
        0,
    )
    for loss in losses:
        before = ours.rate
        changed = ours.watch(loss)
        theirs.step(loss)
        assert ours.rate == holder.param_groups[0]["lr"]
        assert changed is (ours.rate != before)
        changes += changed
    # The last rate is the one under which a tenth would be less than 1e-8 away.
    assert changes > 5
    assert ours.rate < 2e-8


def test_a_block_of_steps_has_the_cosines_rate_in_its_middle(mnist):
    config = AdapterConfig(epochs=3, batch_size=8, lr=0.02, lr_power=0.5, rank=4, schedule="cosine")
    model = MNISTModel((16, 12))
    lora.attach(model, 4)
    history = fit(model, mnist, config)
    blocks = len(SplitData(mnist, config).blocks)
    assert config.rate == pytest.approx(0.01)
    expected = [0.01 * cosine_share((blocks * epoch - 0.5) / (3 * blocks)) for epoch in (1, 2, 3)]
    assert [record.lr for record in history[1:]] == pytest.approx(expected)
