"""Right implementations of methods beside LoRA, and wrong ones, each with one mistake.

They know nothing of the package's own methods.
"""

from __future__ import annotations

import torch
from conformance.implementations import OfLayers
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    """A frozen linear layer that computes by another weight and bias; ``reach`` says which, at alpha 1."""

    def __init__(self, base, rank):
        super().__init__()
        self.base, self.rank, self.alpha, self.kept = base.requires_grad_(False), rank, 1.0, None
        self.start(base.weight.detach(), base.bias.detach())

    def train_these(self, **tensors):
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor.clone()))

    def state(self):
        return {name: tensor.detach() for name, tensor in self.named_parameters(recurse=False)}

    def in_use(self):
        parts = (self.base.weight, self.base.bias)
        if self.alpha == 0:
            return parts
        return [start + self.alpha * (end - start) for start, end in zip(parts, self.reach(*parts), strict=True)]

    def forward(self, x):
        return self.base(x) if self.kept is not None else F.linear(x, *self.in_use())

    @torch.no_grad()
    def merge(self):
        if self.kept is None:
            reached = self.in_use()
            self.kept = [self.base.weight.clone(), self.base.bias.clone()]
            self.base.weight.copy_(reached[0])
            self.base.bias.copy_(reached[1])

    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            self.base.weight.copy_(self.kept[0])
            self.base.bias.copy_(self.kept[1])
            self.kept = None


class Right(OfLayers):
    kind = Layer

    def __init__(self, layer):
        self.layer = layer

    def attach(self, model, *, rank, alpha, dropout):
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear):
                model.set_submodule(name, self.layer(module, rank))
        return model

    def set_alpha(self, model, alpha):
        for layer in self.layers(model).values():
            layer.alpha = alpha

    def state(self, model):
        layers = self.layers(model).items()
        return {f"{name}.{key}": value for name, layer in layers for key, value in layer.state().items()}


class DoRA(Layer):
    def start(self, W, b):
        self.train_these(A=torch.randn(self.rank, W.shape[1]), B=torch.zeros(len(W), self.rank), m=W.norm(dim=1))

    def reach(self, W, b):
        direction = W + self.B @ self.A
        return self.m[:, None] * direction / direction.norm(dim=1, keepdim=True), b


class PiSSA(Layer):
    chosen = staticmethod(slice)

    def start(self, W, b):
        U, S, V = torch.linalg.svd(W, full_matrices=False)
        some = self.chosen(self.rank)
        self.train_these(A=S[some, None].sqrt() * V[some], B=U[:, some] * S[some].sqrt())
        self.first = (self.B @ self.A).detach()

    def reach(self, W, b):
        return W + (self.B @ self.A - self.first), b


class VeRA(Layer):
    seed = staticmethod(lambda fan_in: 0)

    def start(self, W, b):
        draw = torch.Generator().manual_seed(self.seed(W.shape[1]))
        self.pair = torch.randn(10, self.rank, generator=draw)[: W.shape[1]].T, torch.ones(len(W), self.rank)
        self.pair[1].copy_(torch.randn(10, self.rank, generator=draw)[: len(W)])
        self.train_these(d=torch.full((self.rank,), 0.1), b=torch.zeros(len(W)))

    def reach(self, W, b):
        return W + self.b[:, None] * self.pair[1] @ (self.d[:, None] * self.pair[0]), b


class HRA(Layer):
    def start(self, W, b):
        self.train_these(u=torch.randn(self.rank, W.shape[1]).repeat_interleave(2, 0))

    def reach(self, W, b):
        for u in self.u:
            W = W - 2 * (W @ u)[:, None] * u / (u @ u)
        return W, b


class IA3(Layer):
    def start(self, W, b):
        self.train_these(l=torch.ones(W.shape[1]))

    def reach(self, W, b):
        return W * self.l, b


class BitFit(Layer):
    def start(self, W, b):
        self.train_these(moved=torch.zeros(len(W)))

    def reach(self, W, b):
        return W, b + self.moved


class MiSS(Layer):
    def start(self, W, b):
        self.train_these(D=torch.zeros(len(W), self.rank))

    def reach(self, W, b):
        return W + self.D.repeat(1, W.shape[1])[:, : W.shape[1]], b


class LoKr(Layer):
    def start(self, W, b):
        self.sides = [max(d for d in (1, 2) if side % d == 0) for side in W.shape]  # of sides up to 6
        rows, columns = (side // smaller for side, smaller in zip(W.shape, self.sides, strict=True))
        self.train_these(C=torch.zeros(self.sides))
        if self.rank >= max(rows, columns) / 2:
            self.train_these(M=torch.randn(rows, columns))
        else:
            self.train_these(B=torch.randn(rows, self.rank), A=torch.randn(self.rank, columns))

    def small(self):
        return self.M if "M" in self.state() else self.B @ self.A

    def reach(self, W, b):
        return W + torch.kron(self.C, self.small()), b


class DeLoRA(Layer):
    def start(self, W, b):
        self.train_these(A=torch.randn(self.rank, W.shape[1]), B=torch.zeros(len(W), self.rank), bound=torch.ones(1))

    def lengths(self, W):
        return W.norm(dim=0)

    def reach(self, W, b):
        A, B = F.normalize(self.A, dim=1, eps=1e-4), F.normalize(self.B, dim=0, eps=1e-4)
        return W + self.bound / self.rank * B @ A * self.lengths(W), b


RIGHT = {
    "dora": DoRA, "pissa": PiSSA, "vera": VeRA, "delora": DeLoRA, "lokr": LoKr, "miss": MiSS, "hra": HRA, "ia3": IA3,
    "bitfit": BitFit,
}  # fmt: skip

WRONG = {}
"""Name → method, factory, and the laws that are broken by its mistake."""


def wrong(method, *laws, implementation=Right):
    def enter(layer):
        WRONG[layer.__name__] = (method, lambda: implementation(layer), set(laws))
        return layer

    return enter


@wrong("hra", "start")
class TheVectorsOfAPairAreDrawnApart(HRA):
    def start(self, W, b):
        self.train_these(u=torch.randn(2 * self.rank, W.shape[1]))


@wrong("dora", "trainable")
class TheMagnitudeIsFrozen(DoRA):
    def start(self, W, b):
        super().start(W, b)
        self.m.requires_grad_(False)


@wrong("bitfit", "base")
class TheBaseItselfIsTrained(BitFit):
    """Alpha and the state are right, because the start is remembered; the base's own bias is not."""

    def start(self, W, b):
        self.first = b.clone()
        self.base.bias.requires_grad_(True)

    def state(self):
        return {"moved": self.base.bias.detach() - self.first}

    def in_use(self):
        return self.base.weight, self.first + self.alpha * (self.base.bias - self.first)

    def merge(self):
        self.kept = [self.base.weight.clone(), self.base.bias.detach().clone()] if self.kept is None else self.kept


class LoadsIntoTheBase(Right):
    def load(self, model, state):
        Right.load(self, model, state)
        for name, layer in self.layers(model).items():
            layer.base.bias.data.copy_(layer.first + state[f"{name}.moved"])


WRONG["TheBaseItselfIsTrained"] = ("bitfit", lambda: LoadsIntoTheBase(TheBaseItselfIsTrained), {"base"})


@wrong("vera", "set-alpha")
class AlphaMultipliesBothVectors(VeRA):
    def in_use(self):
        weight, bias = self.reach(self.base.weight, self.base.bias)
        return self.base.weight + self.alpha**2 * (weight - self.base.weight), bias


@wrong("hra", "alpha-0")
class AlphaZeroIsADifferenceOfRoundedNumbers(HRA):
    def in_use(self):
        weight, bias = self.reach(self.base.weight, self.base.bias)
        return weight - (1 - self.alpha) * (weight - self.base.weight), bias


@wrong("bitfit", "merge")
class MergingForgetsTheBias(BitFit):
    def merge(self):
        super().merge()
        self.base.bias.copy_(self.kept[1])


@wrong("vera", "state")
class TheStateLacksD(VeRA):
    def state(self):
        return {"b": self.b.detach()}


class LoadsAnything(Right):
    def load(self, model, state):
        own = self.state(model)
        for key in own.keys() & state.keys():
            if own[key].shape == state[key].shape:
                own[key].copy_(state[key])


@wrong("ia3", "load-strict", implementation=LoadsAnything)
class LoadTakesAnything(IA3):
    pass


@wrong("hra", "modes")
class EvalMerges(HRA):
    def train(self, mode=True):
        (self.unmerge if mode else self.merge)()
        return super().train(mode)


@wrong("dora", "unmerge-exact")
class UnmergeSubtracts(DoRA):
    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            change = self.base.weight - self.kept[0]
            self.base.weight -= change
            self.kept = None


@wrong("dora", "biases")
class OutputsAreRescaledWithTheirBias(DoRA):
    def reach(self, W, b):
        weight, _ = super().reach(W, b)
        return weight, b * self.m / (W + self.B @ self.A).norm(dim=1)


@wrong("pissa", "rank")
class TheDifferenceIsRoundedToHalfPrecision(PiSSA):
    def reach(self, W, b):
        return W + (self.B @ self.A - self.first).to(torch.bfloat16).float(), b


@wrong("bitfit", "weight")
class RowsAreScaledToo(BitFit):
    def reach(self, W, b):
        return W * (1 + self.moved)[:, None], b + self.moved


@wrong("ia3", "columns")
class MultipliersAreSpreadInTheWrongOrder(IA3):
    def reach(self, W, b):
        return W * self.l.repeat_interleave(len(W)).reshape(W.shape), b


@wrong("hra", "orthogonal")
class VectorsAreNormalisedAtTheStartAlone(HRA):
    def start(self, W, b):
        super().start(W, b)
        self.u.data = F.normalize(self.u.data, dim=1)

    def reach(self, W, b):
        for u in self.u:
            W = W - 2 * (W @ u)[:, None] * u
        return W, b


@wrong("dora", "magnitude")
class TheNormIsThatOfTheStart(DoRA):
    def reach(self, W, b):
        return self.m[:, None] * (W + self.B @ self.A) / W.norm(dim=1, keepdim=True), b


@wrong("vera", "one-pair")
class EachLayerDrawsItsOwnPair(VeRA):
    seed = staticmethod(lambda fan_in: fan_in)


@wrong("vera", "one-pair", "trainable")
class ThePairIsTrained(VeRA):
    def start(self, W, b):
        super().start(W, b)
        A, B = self.pair
        self.train_these(A=A, B=B)
        self.pair = self.A, self.B


@wrong("pissa", "principal")
class TheSmallestSingularValuesAreTrained(PiSSA):
    chosen = staticmethod(lambda rank: slice(-rank, None))


@wrong("miss", "shards")
class NeighboursShareAColumn(MiSS):
    def reach(self, W, b):
        return W + self.D.repeat_interleave(-(-W.shape[1] // self.rank), 1)[:, : W.shape[1]], b


@wrong("lokr", "kronecker")
class TheFactorsAreInTheOtherOrder(LoKr):
    def reach(self, W, b):
        return W + torch.kron(self.small(), self.C), b


@wrong("delora", "strength")
class LengthsAreSquared(DeLoRA):
    def lengths(self, W):
        return W.square().sum(0)
