"""How long adapters take: a bank beside loops of plain PyTorch, PEFT, loralib and torch.func, in one process, in turn.

Run it from the root of the checkout: ``python benchmarks/bank.py --rounds 3`` (loralib, if it is to be met, from PyPI).

All train adapters on digits 5-9 of the same frozen base: the same images in the same order, batches of 64, AdamW with
its fused kernel, the same starts. The loops train and nothing else, but for the rows that say that both splits are
scored each epoch: what Lightning's Trainer costs is the difference between two of those. Peers train one adapter after
the other, but for torch.func, which trains an ensemble padded to the highest rank. They take turns, so that a machine
which slows down or warms up meets all, and ratios are taken within a round. CPU seconds are this process's own, and
say more than the clock where others took a part of a core.

The floor is the arithmetic of the bank's products at the speed of a large sgemm, measured in the same round.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from harness import MEASURED, Timing, compared, hardware, in_turn, measured, options, report, table, timed
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset, ShuffledBlocks, split_rows
from lora_mnist_cli.evaluation.logits import mean_scores, predict
from lora_mnist_cli.evaluation.original_study import NEW_DIGITS, RANKS
from lora_mnist_cli.models.architecture import TRAIN_SAMPLE
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, train_base
from lora_mnist_cli.stages.records.loading import load_model, twin
from lora_mnist_cli.training.bank.cohort import Cohort
from lora_mnist_cli.training.bank.grouping import cohorts
from lora_mnist_cli.training.bank.inputs import FrozenInputs
from lora_mnist_cli.training.bank.optimizer import MemberOptimizer
from lora_mnist_cli.training.bank.trainer import CohortData, fit_bank
from lora_mnist_cli.training.objective import Objective

try:
    import loralib
except ModuleNotFoundError:
    loralib = None

BATCH = 64


@dataclass(frozen=True)
class Setting:
    """What all loops start from."""

    base: MNISTModel
    train: MNISTDataset
    test: MNISTDataset
    epochs: int

    def batches(self) -> list[Tensor]:
        """The rows of every batch of a run with seed 0, in order: those that a bank sees."""
        rows, _ = split_rows(len(self.train), 0.2, 0)
        order = ShuffledBlocks(self.train, rows, BATCH, 0)
        return [batch for _ in range(self.epochs) for block in order for batch in block.split(BATCH)]

    def config(self, rank: int, seed: int = 0) -> AdapterConfig:
        """The reference recipe's."""
        return AdapterConfig(rank=rank, seed=seed, epochs=self.epochs, digits=NEW_DIGITS)

    def adapted(self, rank: int) -> nn.Module:
        """A model with an adapter that starts as the bank's member of that rank."""
        return twin(self.base, self.config(rank))

    def members(self, ranks: Sequence[int], seeds: Sequence[int]) -> tuple[list[AdapterConfig], list[nn.Module]]:
        """The configs of a bank, and a model of each."""
        configs = [self.config(rank, seed) for seed in seeds for rank in ranks]
        return configs, [twin(self.base, config) for config in configs]

    def accuracy(self, model: nn.Module) -> float:
        """On the test images of the digits that were learned."""
        return mean_scores(predict(model, self.test.images), self.test.labels)[1]


Made = tuple[Callable[[], object], Sequence[nn.Module]]
"""A loop, which is to be timed, and the models that it trains; the making is not timed."""


def eager(setting: Setting, models: Sequence[nn.Module]) -> Made:
    """A loop of plain PyTorch over whatever of each model is to be trained, one model after the other."""

    def train() -> None:
        images, labels = setting.train.images, setting.train.labels
        for model in models:
            trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
            optimizer = torch.optim.AdamW(trainable, lr=1e-3, fused=True)
            for batch in setting.batches():
                loss = F.cross_entropy(model(images[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    return train, models


def plain(setting: Setting, ranks: Sequence[int]) -> Made:
    """This project's LoRA layers in a plain loop."""
    return eager(setting, [setting.adapted(rank) for rank in ranks])


def factors_of(model: nn.Module) -> dict[str, Tensor]:
    """The factors of an adapted model by the names of its parameters."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def peft(setting: Setting, rank: int) -> Made:
    """PEFT's model in the same plain loop."""
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["fc1", "fc2", "fc3"], lora_dropout=0.0)
    model = get_peft_model(copy.deepcopy(setting.base), config)  # type: ignore[arg-type]
    for name, value in factors_of(setting.adapted(rank)).items():
        model.get_parameter(f"base_model.model.{name}.default.weight").data.copy_(value)
    return eager(setting, [model])


def loralib_loop(setting: Setting, rank: int) -> Made:
    """loralib's layers in the same plain loop."""
    model, factors = copy.deepcopy(setting.base), factors_of(setting.adapted(rank))
    for name, layer in list(model.named_children()):
        new = loralib.Linear(layer.in_features, layer.out_features, r=rank, lora_alpha=rank)
        new.load_state_dict(layer.state_dict(), strict=False)
        new.lora_A.data.copy_(factors[f"{name}.lora_A"])
        new.lora_B.data.zero_()
        model.set_submodule(name, new)
    loralib.mark_only_lora_as_trainable(model)
    return eager(setting, [model])


def ensemble(setting: Setting, ranks: Sequence[int]) -> Made:
    """torch.func's ensembling: stacked factors, padded with zeros to the highest rank, under ``vmap(grad(…))``."""
    models, wide = [setting.adapted(rank) for rank in ranks], setting.adapted(max(ranks))
    frozen = {name: value.detach() for name, value in wide.state_dict().items() if "lora" not in name}
    stacked = {name: nn.Parameter(torch.zeros(len(ranks), *value.shape)) for name, value in factors_of(wide).items()}
    # Each model's factors, and the part of the stack that starts with their values.
    parts = [
        (value, stacked[name].data[m, : value.shape[0], : value.shape[1]])
        for m, model in enumerate(models)
        for name, value in factors_of(model).items()
    ]
    for value, part in parts:
        part.copy_(value)

    def loss(factors: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(wide, {**frozen, **factors}, (images,)), labels)

    gradients = vmap(grad(loss), in_dims=(0, None, None))

    def train() -> None:
        images, labels = setting.train.images, setting.train.labels
        optimizer = torch.optim.AdamW(stacked.values(), lr=1e-3, fused=True)
        values = {name: parameter.detach() for name, parameter in stacked.items()}
        for batch in setting.batches():
            for name, gradient in gradients(values, images[batch], labels[batch]).items():
                stacked[name].grad = gradient
            optimizer.step()
        for value, part in parts:
            value.copy_(part)

    return train, models


def bank(setting: Setting, ranks: Sequence[int], seeds: Sequence[int] = (0,), *, scored: bool = False) -> Made:
    """The bank's own loop: as the peers', it trains and nothing else; or it scores both splits each epoch as well."""
    configs, models = setting.members(ranks, seeds)

    def train() -> None:
        inputs = FrozenInputs(setting.train, setting.base.fc1)  # type: ignore[arg-type]
        for members, count in cohorts(configs):
            data = CohortData.of(members, count, configs, Objective.of(setting.train))
            cohort = Cohort([models[m] for m in members], inputs, BATCH, seeds=count)
            own = [configs[m] for m in members]
            optimizer = MemberOptimizer(cohort.flat, cohort.gradient, cohort.parts, own)
            for epoch in range(setting.epochs + 1):
                for blocks in zip(*data.orders, strict=True) if epoch else ():
                    cohort.steps(torch.stack(blocks), optimizer.step)
                for rows in (data.train[:, :TRAIN_SAMPLE].contiguous(), data.val) if scored else ():
                    cohort.scores(rows)

    return train, models


def lightning(setting: Setting, ranks: Sequence[int]) -> Made:
    """What ``sweep --engine lightning`` runs: the bank under Lightning's Trainer, both splits scored each epoch."""
    configs, models = setting.members(ranks, [0])
    runtime = Runtime(accelerator="cpu", engine="lightning")
    return partial(fit_bank, models, setting.train, configs, runtime=runtime), models


def floor(setting: Setting) -> float:
    """Seconds that the products of seven ranks' steps would take at the speed of a large sgemm."""
    a = torch.randn(1024, 1024)
    start = time.process_time()
    for _ in range(40):
        torch.mm(a, a)
    rate = 40 * 2 * 1024**3 / (time.process_time() - start)
    return flop(setting.base, RANKS) * len(setting.batches()) / rate


def flop(base: MNISTModel, ranks: Sequence[int]) -> float:
    """Floating-point operations of one step: the first layer's two products with the images, and the other layers."""
    total = 0.0
    (fan_in, first), *inner = [(layer.in_features, layer.out_features) for layer in base.children()]  # type: ignore[misc]
    for rank in ranks:
        total += 2 * BATCH * rank * (2 * fan_in + 3 * first)
        total += sum(6 * rank * i * o + 6 * BATCH * i * o for i, o in inner)
    return total


def measure(what: str, make: Callable[[Setting], Made], setting: Setting) -> Timing:
    """Time a loop; the result is the accuracy of each model that it trained."""
    train, models = make(setting)
    return dataclasses.replace(timed(what, train), result=[setting.accuracy(model) for model in models])


def tables(timings: dict[str, list[Timing]], floors: Sequence[float], epochs: int) -> list[str]:
    """The times, and the ratios of times per adapter."""
    rows = [
        (what, *measured(each), " ".join(f"{100 * value:.1f}" for value in each[0].result[:7]))
        for what, each in timings.items()
    ]
    rows.append(
        ("seven ranks' products at the speed of sgemm", str(len(floors)), "", f"{median(floors):.2f} s", "", "")
    )
    head = (f"{epochs} epochs on {NEW_DIGITS}", *MEASURED, "test accuracy by rank, %")
    amounts = {what: count for what, (_, count) in LOOPS.items()}
    return [table(head, rows), compared("per adapter, within each round", timings, PAIRS, amounts=amounts)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


SEVEN, SEVENTY, ONE, MANY = "seven ranks", "seven ranks × ten seeds", "rank 8 alone", "rank 8, 32 seeds"
LOOPS: dict[str, tuple[Callable[[Setting], Made], int]] = {
    f"{SEVEN}: plain PyTorch, one after the other": (partial(plain, ranks=RANKS), 7),
    f"{SEVEN}: torch.func ensemble, padded": (partial(ensemble, ranks=RANKS), 7),
    f"{SEVEN}: the bank": (partial(bank, ranks=RANKS), 7),
    f"{SEVEN}: the bank, scored each epoch": (partial(bank, ranks=RANKS, scored=True), 7),
    f"{SEVEN}: the bank under Lightning, scored each epoch": (partial(lightning, ranks=RANKS), 7),
    f"{SEVENTY}: the bank": (partial(bank, ranks=RANKS, seeds=range(10)), 70),
    f"{MANY}: the bank": (partial(bank, ranks=[8], seeds=range(32)), 32),
    f"{ONE}: plain PyTorch": (partial(plain, ranks=[8]), 1),
    f"{ONE}: PEFT": (partial(peft, rank=8), 1),
    f"{ONE}: loralib": (partial(loralib_loop, rank=8), 1),
    f"{ONE}: a bank of one": (partial(bank, ranks=[8]), 1),
    f"{ONE}: a bank of one, scored each epoch": (partial(bank, ranks=[8], scored=True), 1),
    f"{ONE}: a bank of one under Lightning, scored each epoch": (partial(lightning, ranks=[8]), 1),
}
"""What is timed, and how many adapters it trains."""

ALONE, SCORED = f"{ONE}: a bank of one", " under Lightning, scored each epoch"
PAIRS = [
    *((peer, f"{SEVEN}: the bank{how}") for how in ("", SCORED) for peer in list(LOOPS)[:2]),
    (f"{SEVEN}: plain PyTorch, one after the other", f"{SEVENTY}: the bank"),
    *((f"{ONE}: {peer}", f"{ALONE}{how}") for how in ("", SCORED) for peer in ("plain PyTorch", "PEFT", "loralib")),
    (f"{ONE}: plain PyTorch", f"{MANY}: the bank"),
    *((f"{ours}{SCORED}", f"{ours}, scored each epoch") for ours in (f"{SEVEN}: the bank", ALONE)),
    (f"{SEVEN}: the bank, scored each epoch", f"{SEVEN}: the bank"),
]
"""Peer and ours, whose times for an adapter are compared."""


def main() -> None:
    """Measure, and print the tables."""
    parser = options(__doc__, rounds=1, epochs=10)
    parser.add_argument("--only", default="", help="measure what has this in its name")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        workspace = Workspace(runs_dir=Path(folder))
        base = load_model(workspace.registry, train_base(BaseConfig(epochs=2), workspace=workspace)).model
    train, test = (MNISTDataset.load(split, NEW_DIGITS) for split in ("train", "test"))
    setting = Setting(base, train, test, given.epochs)
    loops = {
        what: loop for what, (loop, _) in LOOPS.items() if given.only in what and (loralib or "loralib" not in what)
    }
    # Each once on little, so that none pays for lazy imports and first calls in its timer.
    few = Setting(base, MNISTDataset(*train[:800]), MNISTDataset(*test[:100]), 1)
    for loop in loops.values():
        loop(few)[0]()
    ways = {what: partial(measure, what, loop, setting) for what, loop in loops.items()}
    results = in_turn({"floor": partial(floor, setting), **ways}, given.rounds)
    floors = results.pop("floor")
    peers = ", ".join(f"{name} {_version(name)}" for name in ("peft", "loralib"))
    report(given, *tables(results, floors, given.epochs), f"{hardware()} {peers}. One thread.")


if __name__ == "__main__":
    main()
