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

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from harness import Timing, hardware, options, ratios, report, spread, table, timed
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset, ShuffledBlocks, split_rows
from lora_mnist_cli.evaluation.logits import mean_scores, predict
from lora_mnist_cli.models.architecture import TRAIN_SAMPLE
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, train_base
from lora_mnist_cli.stages.records.loading import load_model, twin
from lora_mnist_cli.training.bank.cohort import Cohort
from lora_mnist_cli.training.bank.grouping import cohorts
from lora_mnist_cli.training.bank.inputs import FrozenInputs
from lora_mnist_cli.training.bank.optimizer import MemberOptimizer
from lora_mnist_cli.training.bank.trainer import fit_bank

try:
    import loralib
except ModuleNotFoundError:
    loralib = None

RANKS = (1, 2, 4, 8, 16, 32, 64)
BATCH = 64
DIGITS = DigitSet(range(5, 10))


@dataclass(frozen=True)
class Setting:
    """What all loops start from."""

    base: MNISTModel
    train: MNISTDataset
    test: MNISTDataset
    epochs: int

    def batches(self, seed: int) -> list[Tensor]:
        """The rows of every batch of a run, in order: those that a bank sees."""
        rows, _ = split_rows(len(self.train), 0.2, seed)
        order = ShuffledBlocks(self.train, rows, BATCH, seed)
        return [batch for _ in range(self.epochs) for block in order for batch in block.split(BATCH)]

    def config(self, rank: int, seed: int = 0) -> AdapterConfig:
        """The reference recipe's."""
        return AdapterConfig(rank=rank, seed=seed, epochs=self.epochs, digits=DIGITS)

    def accuracy(self, model: nn.Module) -> float:
        """On the test images of the digits that were learned."""
        return mean_scores(predict(model, self.test.images), self.test.labels)[1]


Timed = Callable[[], list[nn.Module]]
Loop = Callable[[Setting], tuple[Timed, Callable[[list[nn.Module]], list[float]]]]
"""Makes what is to be timed, and what scores its result; the making is not timed."""


def eager(setting: Setting, models: Sequence[nn.Module]) -> Timed:
    """A loop of plain PyTorch over whatever of each model is to be trained, one model after the other."""

    def train() -> list[nn.Module]:
        images, labels = setting.train.images, setting.train.labels
        for model in models:
            trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
            optimizer = torch.optim.AdamW(trainable, lr=1e-3, fused=True)
            for batch in setting.batches(0):
                loss = F.cross_entropy(model(images[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return list(models)

    return train


def plain(ranks: Sequence[int]) -> Loop:
    """This project's LoRA layers in a plain loop."""
    return lambda setting: (
        eager(setting, [twin(setting.base, setting.config(rank)) for rank in ranks]),
        lambda models: [setting.accuracy(model) for model in models],
    )


def factors_of(model: nn.Module) -> dict[str, Tensor]:
    """The factors of an adapted model by the names of its parameters."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def starts(setting: Setting, rank: int) -> dict[str, Tensor]:
    """The factors that a bank's member of that rank starts with."""
    return factors_of(twin(setting.base, setting.config(rank)))


def copy_of(base: MNISTModel) -> MNISTModel:
    """The base's weights in a model of their own."""
    model = MNISTModel(base.sizes[1:-1])
    model.load_state_dict(base.state_dict())
    return model


def peft(rank: int) -> Loop:
    """PEFT's model in the same plain loop."""

    def make(setting: Setting) -> tuple[Timed, Callable[[list[nn.Module]], list[float]]]:
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["fc1", "fc2", "fc3"], lora_dropout=0.0)
        model = get_peft_model(copy_of(setting.base), config)  # type: ignore[arg-type]
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in starts(setting, rank).items():
                parameters[f"base_model.model.{name}.default.weight"].copy_(value)
        return eager(setting, [model]), lambda models: [setting.accuracy(models[0])]

    return make


def loralib_loop(rank: int) -> Loop:
    """loralib's layers in the same plain loop."""

    def make(setting: Setting) -> tuple[Timed, Callable[[list[nn.Module]], list[float]]]:
        model, factors = copy_of(setting.base), starts(setting, rank)
        for name, layer in list(model.named_children()):
            new = loralib.Linear(layer.in_features, layer.out_features, r=rank, lora_alpha=rank)
            new.load_state_dict(layer.state_dict(), strict=False)
            with torch.no_grad():
                new.lora_A.copy_(factors[f"{name}.lora_A"])
                new.lora_B.zero_()
            model.set_submodule(name, new)
        loralib.mark_only_lora_as_trainable(model)
        return eager(setting, [model]), lambda models: [setting.accuracy(models[0])]

    return make


def ensemble(ranks: Sequence[int]) -> Loop:
    """torch.func's ensembling: stacked factors, padded with zeros to the highest rank, under ``vmap(grad(…))``."""

    def make(setting: Setting) -> tuple[Timed, Callable[[list[nn.Module]], list[float]]]:
        wide = twin(setting.base, setting.config(max(ranks)))
        frozen = {name: value.detach() for name, value in wide.state_dict().items() if "lora" not in name}
        stacked: dict[str, nn.Parameter] = {}
        for name, widest in factors_of(wide).items():
            stack = torch.zeros(len(ranks), *widest.shape)
            for one, rank in zip(stack, ranks, strict=True):
                value = starts(setting, rank)[name]
                one[: value.shape[0], : value.shape[1]] = value
            stacked[name] = nn.Parameter(stack)

        def loss(factors: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(wide, {**frozen, **factors}, (images,)), labels)

        gradients = vmap(grad(loss), in_dims=(0, None, None))

        def train() -> list[nn.Module]:
            images, labels = setting.train.images, setting.train.labels
            optimizer = torch.optim.AdamW(stacked.values(), lr=1e-3, fused=True)
            values = {name: parameter.detach() for name, parameter in stacked.items()}
            for batch in setting.batches(0):
                for name, gradient in gradients(values, images[batch], labels[batch]).items():
                    stacked[name].grad = gradient
                optimizer.step()
            return [wide]

        def score(models: list[nn.Module]) -> list[float]:
            reached = []
            for m in range(len(ranks)):
                factors = {name: parameter.detach()[m] for name, parameter in stacked.items()}
                for name, value in factors.items():
                    models[0].get_parameter(name).data.copy_(value)
                reached.append(setting.accuracy(models[0]))
            return reached

        return train, score

    return make


def bank(ranks: Sequence[int], seeds: Sequence[int] = (0,), *, scored: bool = False) -> Loop:
    """The bank's own loop: as the peers', it trains and nothing else; or it scores both splits each epoch as well."""

    def make(setting: Setting) -> tuple[Timed, Callable[[list[nn.Module]], list[float]]]:
        configs = [setting.config(rank, seed) for seed in seeds for rank in ranks]
        models = [twin(setting.base, config) for config in configs]

        def train() -> list[nn.Module]:
            inputs = FrozenInputs(setting.train, setting.base.fc1)  # type: ignore[arg-type]
            for members, count in cohorts(configs):
                own = [configs[m] for m in members]
                cohort = Cohort([models[m] for m in members], inputs, BATCH, seeds=count)
                optimizer = MemberOptimizer(cohort.flat, cohort.gradient, cohort.parts, own)
                splits = [split_rows(len(setting.train), 0.2, config.seed) for config in own[:count]]
                orders = [
                    ShuffledBlocks(setting.train, rows, BATCH, config.seed)
                    for config, (rows, _) in zip(own, splits, strict=False)
                ]
                samples = [
                    torch.stack([rows[:TRAIN_SAMPLE] for rows, _ in splits]),
                    torch.stack([rows for _, rows in splits if rows is not None]),
                ]
                for epoch in range(setting.epochs + 1):
                    for blocks in zip(*(order for order in orders), strict=True) if epoch else ():
                        cohort.steps(torch.stack(blocks), optimizer.step)
                    for rows in samples if scored else ():
                        cohort.scores(rows)
            return list(models)

        return train, lambda models: [setting.accuracy(model) for model in models]

    return make


def lightning(ranks: Sequence[int], seeds: Sequence[int] = (0,)) -> Loop:
    """What ``sweep`` runs: the bank under Lightning's Trainer, both splits scored each epoch."""

    def make(setting: Setting) -> tuple[Timed, Callable[[list[nn.Module]], list[float]]]:
        configs = [setting.config(rank, seed) for seed in seeds for rank in ranks]
        models = [twin(setting.base, config) for config in configs]

        def train() -> list[nn.Module]:
            fit_bank(models, setting.train, configs, runtime=Runtime(accelerator="cpu"))
            return list(models)

        return train, lambda models: [setting.accuracy(model) for model in models]

    return make


def floor(setting: Setting) -> float:
    """Seconds that the products of seven ranks' steps would take at the speed of a large sgemm."""
    a = torch.randn(1024, 1024)
    start = time.process_time()
    for _ in range(40):
        torch.mm(a, a)
    rate = 40 * 2 * 1024**3 / (time.process_time() - start)
    return flop(setting.base, RANKS) * len(setting.batches(0)) / rate


def flop(base: MNISTModel, ranks: Sequence[int]) -> float:
    """Floating-point operations of one step: the first layer's two products with the images, and the other layers."""
    total = 0.0
    (fan_in, first), *inner = [(layer.in_features, layer.out_features) for layer in base.children()]  # type: ignore[misc]
    for rank in ranks:
        total += 2 * BATCH * rank * (2 * fan_in + 3 * first)
        total += sum(6 * rank * i * o + 6 * BATCH * i * o for i, o in inner)
    return total


def measure(what: str, loop: Loop, setting: Setting) -> tuple[Timing, list[float]]:
    """Time a loop, and score what it trained."""
    train, score = loop(setting)
    timing = timed(what, train)
    return timing, score(timing.result)


def tables(
    runs: dict[str, list[tuple[Timing, list[float]]]], per: dict[str, int], floors: Sequence[float], epochs: int
) -> list[str]:
    """The times, and the ratios of times per adapter."""
    timings = {what: [timing for timing, _ in each] for what, each in runs.items()}
    rows = [
        (what, str(len(each)), spread([t.clock for t in each], 2, " s"), f"{median(t.cpu for t in each):.2f} s",
         " ".join(f"{value:.1%}" for value in runs[what][0][1][:7]), f"{max(t.others for t in each):.2f}")
        for what, each in timings.items()
    ]  # fmt: skip
    rows.append(("seven ranks' products at the speed of sgemm", str(len(floors)), "", spread(floors, 2, " s"), "", ""))
    head = (
        f"{epochs} epochs on {DIGITS}", "n", "clock", "CPU, median", "test accuracy by rank", "cores others took, max",
    )  # fmt: skip
    pairs = [
        (f"{peer} ÷ {ours}", str(len(timings[ours])), *(
            spread(ratios(timings[peer], timings[ours], clock, per[ours] / per[peer])) for clock in ("clock", "cpu")
        ))
        for peer, ours in PAIRS
        if peer in timings and ours in timings
    ]  # fmt: skip
    return [table(head, rows), table(("per adapter, within each round", "n", "clock", "CPU"), pairs)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed" if package != "loralib" or loralib is None else "of unknown version"


SEVEN, SEVENTY, ONE, MANY = "seven ranks", "seven ranks × ten seeds", "rank 8 alone", "rank 8, 32 seeds"
LOOPS: dict[str, tuple[Loop, int]] = {
    f"{SEVEN}: plain PyTorch, one after the other": (plain(RANKS), 7),
    f"{SEVEN}: torch.func ensemble, padded": (ensemble(RANKS), 7),
    f"{SEVEN}: the bank": (bank(RANKS), 7),
    f"{SEVEN}: the bank, scored each epoch": (bank(RANKS, scored=True), 7),
    f"{SEVEN}: the bank under Lightning, scored each epoch": (lightning(RANKS), 7),
    f"{SEVENTY}: the bank": (bank(RANKS, range(10)), 70),
    f"{MANY}: the bank": (bank([8], range(32)), 32),
    f"{ONE}: plain PyTorch": (plain([8]), 1),
    f"{ONE}: PEFT": (peft(8), 1),
    f"{ONE}: loralib": (loralib_loop(8), 1),
    f"{ONE}: a bank of one": (bank([8]), 1),
    f"{ONE}: a bank of one, scored each epoch": (bank([8], scored=True), 1),
    f"{ONE}: a bank of one under Lightning, scored each epoch": (lightning([8]), 1),
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
    parser = options(__doc__, epochs=10)
    parser.add_argument("--only", default="", help="measure what has this in its name")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        workspace = Workspace(runs_dir=Path(folder))
        base = load_model(workspace.registry, train_base(BaseConfig(epochs=2), workspace=workspace)).model
    train, test = (MNISTDataset.load(split, DIGITS) for split in ("train", "test"))
    setting = Setting(base, train, test, given.epochs)
    loops = {what: pair for what, pair in LOOPS.items() if given.only in what and (loralib or "loralib" not in what)}
    # Each once on little, so that none pays for lazy imports and first calls in its timer.
    few = Setting(base, MNISTDataset(*train[:800]), MNISTDataset(*test[:100]), 1)
    for loop, _ in loops.values():
        loop(few)[0]()
    floors = []
    runs: dict[str, list[tuple[Timing, list[float]]]] = {what: [] for what in loops}
    for _ in range(given.rounds):
        floors.append(floor(setting))
        for what, (loop, _) in loops.items():
            runs[what].append(measure(what, loop, setting))
    peers = ", ".join(f"{name} {_version(name)}" for name in ("peft", "loralib"))
    per = {what: count for what, (_, count) in loops.items()}
    report(given, *tables(runs, per, floors, given.epochs), f"{hardware()} {peers}. One thread.")


if __name__ == "__main__":
    main()
