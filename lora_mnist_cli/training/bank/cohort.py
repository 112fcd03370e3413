"""Many adapters on one frozen base, trained together in one program.

Adapters of one seed see the same images in the same order, so their steps share most of their work: one gather, the
frozen first layer's product (computed once per training), one matrix product for the A of all members, one fused
optimiser over all their parameters. The gradient is written out (:mod:`.program` and :mod:`.layers`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, groupby, pairwise
from typing import TypeGuard

import torch
from torch import Tensor, nn

from lora_mnist_cli.models.architecture import SCORED_AT_ONCE
from lora_mnist_cli.models.lora import LoRALinear, linear_layers
from lora_mnist_cli.training.bank.inputs import FrozenInputs
from lora_mnist_cli.training.bank.layers import (
    BesideLayer,
    Layer,
    MemberGroup,
    MergedLayer,
    SharedInputLayer,
    avoid_calls,
)
from lora_mnist_cli.training.bank.optimizer import merged_slices
from lora_mnist_cli.training.bank.products import numbers_of, product_calls
from lora_mnist_cli.training.bank.program import Program
from lora_mnist_cli.training.cuda_graph import GraphedStep
from lora_mnist_cli.training.fused_optimizer import FusedOptimizer


class Cohort:
    """Adapters that are trained in the same steps: of one seed, or of several seeds that all have the same shapes.

    The factors of the models become views of one flat tensor, :attr:`flat`, and their gradients of :attr:`gradient`:
    the optimiser then has few tensors to update. The models are scored and saved as before. A member whose numbers are
    no longer finite disturbs no other.

    Args:
        models: the base with each member's adapters attached; the base's layers are the same in all. With several
            seeds, the first shape's model of each seed in turn, then the second shape's, and so on.
        inputs: the data set that they learn.
        batch_size: images per optimiser step.
        seeds: how many there are.
        generators: one per member, for its dropout; needed where there is dropout.
        avoided: per layer, orthonormal directions of its inputs (in × d) that every A is kept orthogonal to; empty
            where the A are free.

    Raises:
        ValueError: where the seeds' shapes differ, or several seeds have dropout.
    """

    def __init__(
        self, models: Sequence[nn.Module], inputs: FrozenInputs, batch_size: int, *, seeds: int = 1,
        generators: Sequence[torch.Generator] = (), avoided: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        self.inputs, self.batch_size, self.members, self.seeds = inputs, batch_size, len(models), seeds
        self._columns = [list(column) for column in zip(*map(linear_layers, models), strict=True)]
        if seeds > 1 and any(self._shape(m) != self._shape(m - m % seeds) for m in range(len(models))):
            raise ValueError("the shapes of several seeds are not the same")
        self._draws = any(layer and layer[2] for m in range(len(models)) for layer in self._shape(m))
        if seeds > 1 and self._draws:
            raise ValueError("with dropout, seeds have nothing in common")
        self._lowest = min(i for i, column in enumerate(self._columns) if any(map(_adapted, column)))
        bare = [_bare(column[0]) for column in self._columns]
        self.sizes = (bare[0].in_features, *(layer.out_features for layer in bare))
        self._place(inputs.images)
        self.layers = [self._layer(i, base, generators) for i, base in enumerate(bare)]
        self._programs: dict[tuple[int, bool], Program] = {}
        self._recorded: dict[int, tuple[Callable[[], object], GraphedStep]] = {}
        pairs = list(zip(self.layers, avoided, strict=True)) if avoided else []
        for call in [call for layer, U in pairs for call in avoid_calls(layer.groups, U)]:
            call()
        # A frozen A is out after the first time; once more would move it, by rounding.
        trained = [([group for group in layer.groups if group.trains_A], U) for layer, U in pairs]
        self._avoid = [call for groups, U in trained for call in avoid_calls(groups, U)]

    @torch.no_grad()
    def steps(self, rows: Tensor, optimizer: Callable[[], object]) -> Tensor:
        """Take one optimiser step per batch, in order; return each member's mean cross-entropy in the last, before it.

        On a GPU a step is recorded once and then launched as one graph, unless it draws random numbers for dropout.

        Args:
            rows: row numbers in the data set, batch after batch; with several seeds, one line per seed.
            optimizer: updates :attr:`flat` from :attr:`gradient`.
        """
        batches = torch.split(rows.view(self.seeds, -1), self.batch_size, 1)
        if isinstance(optimizer, FusedOptimizer) and optimizer.recordable and not self._draws:
            optimizer.set_rates()
            for batch in batches:
                self._recorded_step(batch, optimizer)
        else:
            for batch in batches:
                self._step(optimizer, batch)
        return self._losses(self._program(batches[-1].shape[1], training=True).logits, batches[-1]).mean(1)

    @torch.no_grad()
    def scores(self, rows: Tensor) -> tuple[list[float], list[float]]:
        """Return mean cross-entropy and accuracy of each member on rows of the data set (as in :meth:`steps`)."""
        rows = rows.view(self.seeds, -1)
        loss = torch.zeros(self.members, dtype=torch.float64, device=rows.device)
        hits = torch.zeros_like(loss)
        for batch in torch.split(rows, SCORED_AT_ONCE, 1):
            logits = self._run(batch, training=False)
            loss += self._losses(logits, batch).sum(1)
            # Along this dimension argmax would take a seventh of the whole pass.
            hits += (logits.gather(1, self._labels(batch)).squeeze(1) >= logits.amax(1)).sum(1)
        count = rows.shape[1]
        return (loss / count).tolist(), (hits / count).tolist()

    def _step(self, optimizer: Callable[[], object], batch: Tensor) -> None:
        self._run(batch, training=True)
        optimizer()
        # Every trained A stays orthogonal to the directions that it avoids.
        for call in self._avoid:
            call()

    def _recorded_step(self, batch: Tensor, optimizer: Callable[[], object]) -> None:
        """Take one optimiser step, as a graph after the first calls."""
        n = batch.shape[1]
        if n not in self._recorded or self._recorded[n][0] is not optimizer:
            # When members' rates part or meet, their optimiser is a new one, and the old graph is useless.
            self._recorded[n] = optimizer, GraphedStep(partial(self._step, optimizer), batch)
        _, step = self._recorded[n]
        step(batch)

    def _run(self, rows: Tensor, *, training: bool) -> Tensor:
        """Return the logits (members × classes × n) of rows (seeds × n); in training, fill the gradients as well."""
        program = self._program(rows.shape[1], training=training)
        self.inputs.load(rows, program.batch)
        for call in program.step:
            call()
        return program.logits

    def _labels(self, rows: Tensor) -> Tensor:
        """Return the labels of rows (seeds × n), as members × 1 × n."""
        labels = self.inputs.labels.index_select(0, rows.reshape(-1))
        return labels.view(self.seeds, 1, -1).repeat(self.members // self.seeds, 1, 1)

    def _losses(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return the cross-entropy (members × n) of logits (members × classes × n)."""
        # For logits in this order F.cross_entropy does not repeat bit for bit on a GPU.
        return torch.log_softmax(logits.double(), 1).gather(1, self._labels(rows)).squeeze(1).neg()

    def _program(self, n: int, *, training: bool) -> Program:
        if (n, training) not in self._programs:
            self._programs[n, training] = Program(
                self.inputs, self.layers, self.sizes, self.seeds, self.members // self.seeds, n, training=training,
                lowest=self._lowest,
            )  # fmt: skip
        return self._programs[n, training]

    def _shape(self, m: int) -> list[tuple[int, float, float, bool, bool] | None]:
        """Return what decides a member's operations, per layer; None without an adapter.

        It is rank, scale, dropout, and whether A and B are trained.
        """
        return [
            (x.rank, x.alpha * x.scale, x.dropout, x.lora_A.requires_grad, x.lora_B.requires_grad)
            if isinstance(x, LoRALinear)
            else None
            for x in (column[m] for column in self._columns)
        ]

    def _place(self, like: Tensor) -> None:
        """Move all factors into the flat tensor: first each seed's A of the first layer, then member by member."""
        members = range(self.members)
        by_seed = [m for seed in range(self.seeds) for m in members[seed :: self.seeds]]
        places = [(0, m, "lora_A") for m in by_seed if _adapted(self._columns[0][m])]
        split = len(places)
        for m in members:
            for i, column in enumerate(self._columns):
                if _adapted(column[m]):
                    places += [(i, m, "lora_B")] if i == 0 else [(i, m, "lora_A"), (i, m, "lora_B")]
                    places += [(i, m, name) for name in numbers_of(column[m])]
        factors = [_tensor(self._columns[i][m], name) for i, m, name in places]
        self.flat = torch.cat([factor.detach().to(like).reshape(-1) for factor in factors])
        self.gradient = torch.zeros_like(self.flat)
        ends = list(accumulate((factor.numel() for factor in factors), initial=0))
        self._starts = dict(zip(places, ends, strict=False))
        self._shared = ends[split]
        self.parts: list[list[slice]] = [[] for _ in members]
        """Each member's slices of the flat tensor that are trained."""
        self.parts_b: list[list[slice]] = [[] for _ in members]
        """The slices among them that hold factors B."""
        for (_, m, which), factor, (start, end) in zip(places, factors, pairwise(ends), strict=True):
            factor.data = self.flat[start:end].view(factor.shape)
            if factor.requires_grad:
                self.parts[m] = merged_slices([*self.parts[m], slice(start, end)])
                if which.startswith("lora_B"):
                    self.parts_b[m].append(slice(start, end))

    def _layer(self, i: int, base: nn.Linear, generators: Sequence[torch.Generator]) -> Layer:
        """Return the layer in the form that costs least."""
        groups = self._groups(i, generators)
        weight, bias = base.weight.detach(), base.bias.detach()
        dropping = any(group.dropout for group in groups)
        if dropping or (i > 0 and weight.numel() > self.batch_size * (base.in_features + base.out_features)):
            return BesideLayer(weight if i else None, bias, groups)
        if i == 0:
            rows = self._shared // base.in_features // self.seeds
            A, dA = (
                each[: self._shared].view(self.seeds, rows, base.in_features) for each in (self.flat, self.gradient)
            )
            return SharedInputLayer(A, dA, groups)
        return MergedLayer(weight, bias, self.members, groups)

    def _groups(self, i: int, generators: Sequence[torch.Generator]) -> list[MemberGroup]:
        """Return neighbours of one shape in all layers, which lie at equal distances; with seeds, one of each seed."""
        column = self._columns[i]

        def alike(m: int) -> object:
            ranks = [each and each[0] for each in self._shape(m)]
            return self._shape(m)[i], ranks, m // self.seeds if self.seeds > 1 else None

        groups = []
        for _, neighbours in groupby(range(self.members), alike):
            members = list(neighbours)
            layer = column[members[0]]
            if not isinstance(layer, LoRALinear):
                continue
            A, B, dA, dB = (
                self._view(tensor, i, members, factor)
                for tensor in (self.flat, self.gradient)
                for factor in ("lora_A", "lora_B")
            )
            streams = [generators[m] for m in members] if layer.dropout else []
            chosen = slice(members[0], members[-1] + 1)
            trains = layer.lora_A.requires_grad, layer.lora_B.requires_grad
            group = MemberGroup(chosen, layer.alpha * layer.scale, A, B, dA, dB, layer.dropout, streams, *trains)
            if names := list(numbers_of(layer)):
                views = [{name: self._view(t, i, members, name) for name in names} for t in (self.flat, self.gradient)]
                make, after = product_calls(group, [column[m] for m in members], *views)
                group = replace(group, trains_A=True, trains_B=True, before=[make], after=[after])
            groups.append(group)
        return groups

    def _view(self, tensor: Tensor, i: int, members: Sequence[int], name: str) -> Tensor:
        """Return one tensor of neighbouring members in a flat tensor, as count × rows × columns, or count × numbers."""
        first = _tensor(self._columns[i][members[0]], name)
        start = self._starts[i, members[0], name]
        distance = self._starts[i, members[1], name] - start if len(members) > 1 else first.numel()
        return tensor.as_strided((len(members), *first.shape), (distance, *first.stride()), start)


def _adapted(layer: nn.Module) -> TypeGuard[LoRALinear]:
    return isinstance(layer, LoRALinear)


def _tensor(layer: LoRALinear, name: str) -> nn.Parameter:
    tensor: nn.Parameter = {"lora_A": layer.lora_A, "lora_B": layer.lora_B, **numbers_of(layer)}[name]
    return tensor


def _bare(layer: nn.Linear | LoRALinear) -> nn.Linear:
    return layer.base if isinstance(layer, LoRALinear) else layer
