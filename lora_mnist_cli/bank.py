"""Many adapters on one frozen base, trained together in one program.

Adapters of one seed see the same images in the same order, so their steps share most of their work: one gather, the
frozen first layer's product (which never changes and is computed once a run), one matrix product for the A of all
members, one fused optimiser over all their parameters. The gradient is written out, and a step is a fixed list of
operations on memory that is already there; see :mod:`lora_mnist_cli.bank_layers` for the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.bank_layers import BesideLayer, Call, Flow, Layer, MergedLayer, Run, SharedInputLayer
from lora_mnist_cli.data import MNISTDataset
from lora_mnist_cli.lora import LoRALinear
from lora_mnist_cli.model import CLASSES
from lora_mnist_cli.optimizers import joined

SCORED_AT_ONCE = 512
"""Images a forward pass in evaluation: so few that the activations stay in the cache."""


def member_bytes(shapes: Sequence[tuple[int, int]], rank: int, batch_size: int, itemsize: int = 4) -> int:
    """About how much memory a member takes in training, for adapters on layers of these (in, out) features.

    Its parameters, their gradient and what Adam remembers; the merged weights and their gradient; and activations, in
    training (with gradients and signs) and in evaluation.
    """
    parameters = sum(rank * (fan_in + fan_out) for fan_in, fan_out in shapes)
    merged = sum(fan_in * fan_out for fan_in, fan_out in shapes[1:])
    features = sum(fan_out + 2 * rank for _, fan_out in shapes)
    return itemsize * (4 * parameters + 2 * merged + features * (3 * batch_size + 2 * SCORED_AT_ONCE))


class Batch(NamedTuple):
    """What all members of a cohort have of a batch of n images: it is the same memory in each step.

    Args:
        images: n × in.
        product: n × out, the frozen first layer's.
        targets: n × classes, one-hot.
        columns: out × n, the product again, as activations are laid out.
    """

    images: Tensor
    product: Tensor
    targets: Tensor
    columns: Tensor


class FrozenInputs:
    """What a bank's members share of a data set: images, labels, and the frozen first layer's product with the images.

    Args:
        dataset: on the device, and of the dtype, that is trained with.
        first: the base's first layer.
    """

    def __init__(self, dataset: MNISTDataset, first: nn.Linear) -> None:
        self.images, self.labels = dataset.images, dataset.labels
        self.weight, self.bias = first.weight.detach(), first.bias.detach()
        self.targets = F.one_hot(self.labels, CLASSES).to(self.images.dtype)
        # A product wider than the images would take more memory than they do, and is formed anew in each step.
        self.product = F.linear(self.images, self.weight, self.bias) if len(self.bias) <= len(self.images[0]) else None

        self._batches: dict[int, Batch] = {}

    def batch(self, n: int) -> Batch:
        """The memory for n images; the same each time, because the cohorts of a bank take turns."""
        if n not in self._batches:
            new = self.images.new_empty
            self._batches[n] = Batch(
                new(n, self.images.shape[1]), new(n, len(self.bias)), new(n, CLASSES), new(len(self.bias), n)
            )
        return self._batches[n]

    def load(self, rows: Tensor, batch: Batch) -> None:
        """Put chosen rows into a batch."""
        torch.index_select(self.images, 0, rows, out=batch.images)
        torch.index_select(self.targets, 0, rows, out=batch.targets)
        if self.product is None:
            torch.addmm(self.bias, batch.images, self.weight.t(), out=batch.product)
        else:
            torch.index_select(self.product, 0, rows, out=batch.product)
        batch.columns.copy_(batch.product.t())


class Program:
    """The operations of one step for batches of one size, and the memory that they work on.

    Args:
        inputs: where the images come from.
        layers: from the input on.
        sizes: features of the input, of each hidden layer, and classes.
        members: how many adapters.
        n: images of a batch.
        training: with backward pass and dropout.
        lowest: the first layer that has an adapter: below it, no gradient is needed.
    """

    def __init__(
        self, inputs: FrozenInputs, layers: Sequence[Layer], sizes: Sequence[int], members: int, n: int, *,
        training: bool, lowest: int = 0,
    ) -> None:  # fmt: skip
        self.batch = inputs.batch(n)
        hidden = [inputs.images.new_empty(members, size, n) for size in sizes[1:]]
        self.logits = hidden[-1]
        gradients = [torch.empty_like(each) for each in hidden] if training else hidden
        forward: list[Call] = [partial(hidden[0].copy_, self.batch.columns)]
        backward: list[Call] = []
        before: list[Tensor] = [self.batch.images.t().expand(members, -1, -1), *hidden]
        for i, layer in enumerate(layers):
            below = gradients[i - 1] if i > lowest else None
            ahead, back = layer.calls(Flow(before[i], hidden[i], gradients[i], below, training))
            forward += ahead
            if i < len(layers) - 1:
                forward.append(hidden[i].relu_)
            if below is not None:
                # A ReLU passes a gradient on where it put out something above 0: its output's sign is 1 there, else 0.
                sign = torch.empty_like(below)
                back += [partial(torch.sign, hidden[i - 1], out=sign), partial(below.mul_, sign)]
            backward = back + backward
        loss = [
            partial(torch.softmax, self.logits, 1, out=gradients[-1]),
            partial(gradients[-1].sub_, self.batch.targets.t()),
            partial(gradients[-1].mul_, 1 / n),
        ]
        self.forward = forward
        self.step = forward + loss + backward if training else forward


class Cohort:
    """Adapters that see the same images in the same order, and are trained in the same steps.

    The factors of the models become views of one flat tensor, :attr:`flat`, and so do their gradients
    (:attr:`gradient`): the optimiser then has few tensors to update. The models are scored and saved as before.
    A member that leaves the finite numbers stays there, and disturbs no other.

    Args:
        models: the base with each member's adapters attached; the base's own layers are the same in all.
        inputs: of the data set that they learn.
        batch_size: images an optimiser step.
        generators: of each member's dropout; needed where there is dropout.
    """

    def __init__(
        self, models: Sequence[nn.Module], inputs: FrozenInputs, batch_size: int, *,
        generators: Sequence[torch.Generator] = (),
    ) -> None:  # fmt: skip
        self.inputs, self.batch_size, self.members = inputs, batch_size, len(models)
        self._columns: list[list[nn.Linear | LoRALinear]] = [
            list(c) for c in zip(*map(linear_layers, models), strict=True)
        ]
        self._lowest = min(i for i, column in enumerate(self._columns) if any(map(_adapted, column)))
        bare = [_bare(column[0]) for column in self._columns]
        self.sizes = (bare[0].in_features, *(layer.out_features for layer in bare))
        self._place(inputs.images)
        self.layers = [self._layer(i, base, generators) for i, base in enumerate(bare)]
        self._programs: dict[tuple[int, bool], Program] = {}

    @torch.no_grad()
    def steps(self, rows: Tensor, optimizer: Callable[[], object]) -> Tensor:
        """One optimiser step a batch, in order; returns each member's mean cross-entropy in the last, before its step.

        Args:
            rows: of the data set, those of one batch after the other.
            optimizer: updates :attr:`flat` from :attr:`gradient`.
        """
        batch = rows
        for batch in torch.split(rows, self.batch_size):
            program = self._program(len(batch), training=True)
            self.inputs.load(batch, program.batch)
            for call in program.step:
                call()
            optimizer()
        return self._losses(self._program(len(batch), training=True).logits, batch).mean(1)

    @torch.no_grad()
    def scores(self, rows: Tensor) -> tuple[list[float], list[float]]:
        """Mean cross-entropy and accuracy of each member on rows of the data set, without dropout."""
        loss = torch.zeros(self.members, dtype=torch.float64, device=rows.device)
        hits = torch.zeros_like(loss)
        for batch in torch.split(rows, SCORED_AT_ONCE):
            program = self._program(len(batch), training=False)
            self.inputs.load(batch, program.batch)
            for call in program.step:
                call()
            loss += self._losses(program.logits, batch).sum(1)
            labels = self.inputs.labels.index_select(0, batch).expand(self.members, 1, -1)
            # Not argmax, which takes a seventh of the whole pass along this dimension.
            hits += (program.logits.gather(1, labels).squeeze(1) >= program.logits.amax(1)).sum(1)
        return (loss / len(rows)).tolist(), (hits / len(rows)).tolist()

    def _losses(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The cross-entropy (members × n) of logits (members × classes × n)."""
        labels = self.inputs.labels.index_select(0, rows).expand(self.members, 1, -1)
        # Not F.cross_entropy: for logits in this order it does not repeat bit for bit on a GPU.
        return torch.log_softmax(logits.double(), 1).gather(1, labels).squeeze(1).neg()

    def _program(self, n: int, *, training: bool) -> Program:
        if (n, training) not in self._programs:
            self._programs[n, training] = Program(
                self.inputs, self.layers, self.sizes, self.members, n, training=training, lowest=self._lowest
            )
        return self._programs[n, training]

    def _place(self, like: Tensor) -> None:
        """Move all factors into the flat tensor: the A of the first layer, below each other; then member by member."""
        members = range(self.members)
        places = [(0, m, "lora_A") for m in members if _adapted(self._columns[0][m])]
        split = len(places)
        for m in members:
            for i, column in enumerate(self._columns):
                if _adapted(column[m]):
                    places += [(i, m, "lora_B")] if i == 0 else [(i, m, "lora_A"), (i, m, "lora_B")]
        factors = [getattr(self._columns[i][m], factor) for i, m, factor in places]
        self.flat = torch.cat([factor.detach().to(like).reshape(-1) for factor in factors])
        self.gradient = torch.zeros_like(self.flat)
        ends = list(accumulate((factor.numel() for factor in factors), initial=0))
        self._starts = dict(zip(places, ends, strict=False))
        self._shared = ends[split]
        self.parts: list[list[slice]] = [[] for _ in members]
        """The slices of the flat tensor that are each member's."""
        for (_, m, _), factor, (start, end) in zip(places, factors, pairwise(ends), strict=True):
            factor.data = self.flat[start:end].view(factor.shape)
            self.parts[m] = joined([*self.parts[m], slice(start, end)])

    def _layer(self, i: int, base: nn.Linear, generators: Sequence[torch.Generator]) -> Layer:
        """The way to compute a layer that costs least."""
        runs = self._runs(i, generators)
        weight, bias = base.weight.detach(), base.bias.detach()
        if any(run.dropout for run in runs) or (
            i > 0 and weight.numel() > self.batch_size * (base.in_features + base.out_features)
        ):
            return BesideLayer(weight if i else None, bias, runs)
        if i == 0:
            shape = (-1, base.in_features)
            A, dA = (tensor[: self._shared].view(shape) for tensor in (self.flat, self.gradient))
            return SharedInputLayer(A, dA, runs)
        return MergedLayer(weight, bias, self.members, runs)

    def _runs(self, i: int, generators: Sequence[torch.Generator]) -> list[Run]:
        """Neighbouring members of one shape in all their layers, so that they lie at equal distances, and one scale."""

        column = self._columns[i]

        def alike(m: int) -> object:
            layer = column[m]
            if not isinstance(layer, LoRALinear):
                return None
            ranks = [other[m].rank if _adapted(other[m]) else 0 for other in self._columns]
            return ranks, layer.alpha * layer.scale, layer.dropout

        runs = []
        for _, group in groupby(range(self.members), alike):
            members = list(group)
            layer = column[members[0]]
            if not isinstance(layer, LoRALinear):
                continue
            A, B, dA, dB = (
                self._view(tensor, i, members, factor)
                for tensor in (self.flat, self.gradient)
                for factor in ("lora_A", "lora_B")
            )
            own = [generators[m] for m in members] if layer.dropout else []
            chosen = slice(members[0], members[-1] + 1)
            runs.append(Run(chosen, layer.alpha * layer.scale, A, B, dA, dB, layer.dropout, own))
        return runs

    def _view(self, tensor: Tensor, i: int, members: Sequence[int], factor: str) -> Tensor:
        """One factor of neighbouring members in a flat tensor, as count × rows × columns."""
        rows, columns = getattr(self._columns[i][members[0]], factor).shape
        start = self._starts[i, members[0], factor]
        distance = self._starts[i, members[1], factor] - start if len(members) > 1 else rows * columns
        return tensor.as_strided((len(members), rows, columns), (distance, columns, 1), start)


def _adapted(layer: nn.Module) -> TypeGuard[LoRALinear]:
    return isinstance(layer, LoRALinear)


def _bare(layer: nn.Linear | LoRALinear) -> nn.Linear:
    return layer.base if isinstance(layer, LoRALinear) else layer


def linear_layers(model: nn.Module) -> list[nn.Linear | LoRALinear]:
    """A multilayer perceptron's layers, adapted or not, from the input on."""
    return [layer for layer in model.children() if isinstance(layer, (nn.Linear, LoRALinear))]
