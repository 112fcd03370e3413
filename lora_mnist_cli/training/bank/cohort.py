"""Many adapters on one frozen base, trained together in one program.

Adapters of one seed see the same images in the same order, so their steps share most of their work: one gather, the
frozen first layer's product (which never changes and is computed once a run), one matrix product for the A of all
members, one fused optimiser over all their parameters. The gradient is written out, and a step is a fixed list of
operations on memory that is already there; see :mod:`lora_mnist_cli.training.bank.layers` for the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, groupby, pairwise
from typing import TypeGuard

import torch
from torch import Tensor, nn

from lora_mnist_cli.models.architecture import SCORED_AT_ONCE
from lora_mnist_cli.models.lora import LoRALinear
from lora_mnist_cli.training.bank.inputs import FrozenInputs
from lora_mnist_cli.training.bank.layers import BesideLayer, Call, Flow, Layer, MergedLayer, Run, SharedInputLayer
from lora_mnist_cli.training.bank.losses import avoid_calls, loss_calls
from lora_mnist_cli.training.cuda_graph import Captured
from lora_mnist_cli.training.optimizers import BareStep, joined


class Program:
    """The operations of one step for batches of one size, and the memory that they work on.

    Args:
        inputs: where the images come from.
        layers: from the input on.
        sizes: features of the input, of each hidden layer, and classes.
        seeds: how many there are.
        shapes: how many adapters each seed has.
        n: images of a batch.
        training: with backward pass and dropout.
        lowest: the first layer that has an adapter: below it, no gradient is needed.
    """

    def __init__(
        self, inputs: FrozenInputs, layers: Sequence[Layer], sizes: Sequence[int], seeds: int, shapes: int,
        n: int, *, training: bool, lowest: int = 0,
    ) -> None:  # fmt: skip
        self.batch = inputs.batch(seeds, n)
        hidden = [inputs.images.new_empty(shapes * seeds, size, n) for size in sizes[1:]]
        self.logits = hidden[-1]
        gradients = [torch.empty_like(each) for each in hidden] if training else hidden
        forward: list[Call] = [partial(hidden[0].view(shapes, seeds, -1, n).copy_, self.batch.columns)]
        backward: list[Call] = []
        images = self.batch.images.mT
        before: list[Tensor] = [images.expand(shapes, -1, -1) if seeds == 1 else images, *hidden]
        for i, layer in enumerate(layers):
            below = gradients[i - 1] if i > lowest else None
            ahead, back = layer.calls(Flow(before[i], hidden[i], gradients[i], below, training))
            forward += ahead
            if i < len(layers) - 1:
                forward.append(hidden[i].relu_)
            if below is not None:
                # A ReLU passes a gradient on where it put out something above 0.
                relu_backward = torch.ops.aten.threshold_backward.grad_input
                back.append(partial(relu_backward, below, hidden[i - 1], 0, grad_input=below))
            backward = back + backward
        self.forward = forward
        self.step = forward
        if training:
            if inputs.terms:
                loss = loss_calls(self.logits, gradients[-1], self.batch.make_terms(inputs.terms), (shapes, seeds))
            else:
                loss = [
                    partial(torch.softmax, self.logits, 1, out=gradients[-1]),
                    partial(gradients[-1].view(shapes, seeds, -1, n).sub_, self.batch.targets.mT),
                ]
            self.step = [*forward, *loss, partial(gradients[-1].mul_, 1 / n), *backward]


class Cohort:
    """Adapters that are trained in the same steps: of one seed, or of several seeds that have the same shapes each.

    Those of one seed see the same images in the same order. The factors of the models become views of one flat tensor,
    :attr:`flat`, and so do their gradients (:attr:`gradient`): the optimiser then has few tensors to update. The models
    are scored and saved as before. A member that leaves the finite numbers stays there, and disturbs no other.

    Args:
        models: the base with each member's adapters attached; the base's own layers are the same in all. With several
            seeds, the first shape's for each seed in turn, then the second's, and so on.
        inputs: of the data set that they learn.
        batch_size: images an optimiser step.
        seeds: how many.
        generators: of each member's dropout; needed where there is dropout.
        avoided: for each layer, orthonormal directions of its inputs (in × d) that its A are kept orthogonal to; none
            for A that are free.

    Raises:
        ValueError: where a shape is not the same for each seed, or several seeds have dropout.
    """

    def __init__(
        self, models: Sequence[nn.Module], inputs: FrozenInputs, batch_size: int, *, seeds: int = 1,
        generators: Sequence[torch.Generator] = (), avoided: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        self.inputs, self.batch_size, self.members, self.seeds = inputs, batch_size, len(models), seeds
        self._columns: list[list[nn.Linear | LoRALinear]] = [
            list(c) for c in zip(*map(linear_layers, models), strict=True)
        ]
        if seeds > 1 and any(self._shape(m) != self._shape(m - m % seeds) for m in range(len(models))):
            raise ValueError("the shapes of several seeds are not the same")
        if seeds > 1 and any(layer and layer[2] for m in range(len(models)) for layer in self._shape(m)):
            raise ValueError("with dropout, seeds have nothing in common")
        self._lowest = min(i for i, column in enumerate(self._columns) if any(map(_adapted, column)))
        bare = [_bare(column[0]) for column in self._columns]
        self.sizes = (bare[0].in_features, *(layer.out_features for layer in bare))
        self._place(inputs.images)
        self.layers = [self._layer(i, base, generators) for i, base in enumerate(bare)]
        self._programs: dict[tuple[int, bool], Program] = {}
        self._draws = any(layer and layer[2] for m in range(len(models)) for layer in self._shape(m))
        self._recorded: dict[int, tuple[Callable[[], object], Captured]] = {}
        runs = [layer.runs for layer in self.layers]
        self._avoid = (
            [call for own, U in zip(runs, avoided, strict=True) for call in avoid_calls(own, U)] if avoided else []
        )
        self.keep_out()

    @torch.no_grad()
    def keep_out(self) -> None:
        """Make every A orthogonal to what it is to avoid."""
        for call in self._avoid:
            call()

    @torch.no_grad()
    def steps(self, rows: Tensor, optimizer: Callable[[], object]) -> Tensor:
        """One optimiser step a batch, in order; returns each member's mean cross-entropy in the last, before its step.

        On a GPU a step is recorded once and then launched as one graph, unless it drops inputs, which draws numbers.

        Args:
            rows: of the data set, those of one batch after the other; with several seeds, a line a seed.
            optimizer: updates :attr:`flat` from :attr:`gradient`.
        """
        batches = torch.split(rows.view(self.seeds, -1), self.batch_size, 1)
        if isinstance(optimizer, BareStep) and optimizer.recordable and not self._draws:
            optimizer.set_rates()
            for batch in batches:
                self._recorded_step(batch, optimizer)
        else:
            for batch in batches:
                self._step(optimizer, batch)
        return self._losses(self._program(batches[-1].shape[1], training=True).logits, batches[-1]).mean(1)

    @torch.no_grad()
    def scores(self, rows: Tensor) -> tuple[list[float], list[float]]:
        """Mean cross-entropy and accuracy of each member on rows of the data set, without dropout.

        Args:
            rows: with several seeds, a line a seed.
        """
        rows = rows.view(self.seeds, -1)
        loss = torch.zeros(self.members, dtype=torch.float64, device=rows.device)
        hits = torch.zeros_like(loss)
        for batch in torch.split(rows, SCORED_AT_ONCE, 1):
            logits = self._run(batch, training=False)
            loss += self._losses(logits, batch).sum(1)
            # Not argmax, which takes a seventh of the whole pass along this dimension.
            hits += (logits.gather(1, self._labels(batch)).squeeze(1) >= logits.amax(1)).sum(1)
        count = rows.shape[1]
        return (loss / count).tolist(), (hits / count).tolist()

    def _step(self, optimizer: Callable[[], object], batch: Tensor) -> None:
        self._run(batch, training=True)
        optimizer()
        for call in self._avoid:
            call()

    def _recorded_step(self, batch: Tensor, optimizer: Callable[[], object]) -> None:
        """One optimiser step, as a graph where there were enough of them."""
        n = batch.shape[1]
        if n not in self._recorded or self._recorded[n][0] is not optimizer:
            # The optimiser becomes another one when members' rates part or meet, and the old graph then is of no use.
            self._recorded[n] = optimizer, Captured(partial(self._step, optimizer), batch)
        _, step = self._recorded[n]
        step(batch)

    def _run(self, rows: Tensor, *, training: bool) -> Tensor:
        """The logits (members × classes × n) of rows (seeds × n); in training, the gradients are filled as well."""
        program = self._program(rows.shape[1], training=training)
        self.inputs.load(rows, program.batch)
        for call in program.step:
            call()
        return program.logits

    def _labels(self, rows: Tensor) -> Tensor:
        """The labels of rows (seeds × n), as members × 1 × n."""
        labels = self.inputs.labels.index_select(0, rows.reshape(-1))
        return labels.view(self.seeds, 1, -1).repeat(self.members // self.seeds, 1, 1)

    def _losses(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The cross-entropy (members × n) of logits (members × classes × n)."""
        # Not F.cross_entropy: for logits in this order it does not repeat bit for bit on a GPU.
        return torch.log_softmax(logits.double(), 1).gather(1, self._labels(rows)).squeeze(1).neg()

    def _program(self, n: int, *, training: bool) -> Program:
        if (n, training) not in self._programs:
            self._programs[n, training] = Program(
                self.inputs, self.layers, self.sizes, self.seeds, self.members // self.seeds, n, training=training,
                lowest=self._lowest,
            )  # fmt: skip
        return self._programs[n, training]

    def _shape(self, m: int) -> list[tuple[int, float, float] | None]:
        """What decides a member's operations: rank, scale and dropout of each layer; None for one without adapter."""
        layers = [column[m] for column in self._columns]
        return [(x.rank, x.alpha * x.scale, x.dropout) if isinstance(x, LoRALinear) else None for x in layers]

    def _place(self, like: Tensor) -> None:
        """Move all factors into the flat tensor: each seed's A of the first layer; then member by member."""
        members = range(self.members)
        by_seed = [m for seed in range(self.seeds) for m in members[seed :: self.seeds]]
        places = [(0, m, "lora_A") for m in by_seed if _adapted(self._columns[0][m])]
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
        self.parts_b: list[list[slice]] = [[] for _ in members]
        """And those of its factors B."""
        for (_, m, which), factor, (start, end) in zip(places, factors, pairwise(ends), strict=True):
            factor.data = self.flat[start:end].view(factor.shape)
            self.parts[m] = joined([*self.parts[m], slice(start, end)])
            if which == "lora_B":
                self.parts_b[m].append(slice(start, end))

    def _layer(self, i: int, base: nn.Linear, generators: Sequence[torch.Generator]) -> Layer:
        """The way to compute a layer that costs least."""
        runs = self._runs(i, generators)
        weight, bias = base.weight.detach(), base.bias.detach()
        dropping = any(run.dropout for run in runs)
        if dropping and self.seeds > 1:
            raise ValueError("with dropout, seeds have nothing in common")
        if dropping or (i > 0 and weight.numel() > self.batch_size * (base.in_features + base.out_features)):
            return BesideLayer(weight if i else None, bias, runs)
        if i == 0:
            rows = self._shared // base.in_features // self.seeds
            A, dA = (
                each[: self._shared].view(self.seeds, rows, base.in_features) for each in (self.flat, self.gradient)
            )
            return SharedInputLayer(A, dA, runs)
        return MergedLayer(weight, bias, self.members, runs)

    def _runs(self, i: int, generators: Sequence[torch.Generator]) -> list[Run]:
        """Neighbours of one shape in all layers, so that they lie at equal distances; one if there are seeds."""
        column = self._columns[i]

        def alike(m: int) -> object:
            ranks = [each and each[0] for each in self._shape(m)]
            return self._shape(m)[i], ranks, m // self.seeds if self.seeds > 1 else None

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
