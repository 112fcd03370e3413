"""A right implementation of LoRA, and wrong ones, each with one mistake that has been made before.

They know nothing of the package's own LoRA.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    """A linear layer with a low-rank product beside it."""

    factor = staticmethod(lambda rank: 1 / rank)

    def __init__(self, base, rank, alpha, dropout):
        super().__init__()
        self.base, self.rank, self.alpha, self.dropout = base.requires_grad_(False), rank, alpha, dropout
        self.A = nn.Parameter(self.draw(rank, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.kept = None

    def draw(self, rank, fan_in):
        return torch.randn(rank, fan_in) / math.sqrt(fan_in)

    def scale(self):
        return self.alpha * self.factor(self.rank)

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training)

    def forward(self, x):
        out = self.base(x)
        if self.kept is not None or self.alpha == 0:
            return out
        return out + self.scale() * (self.drop(x) @ self.A.T @ self.B.T)

    @torch.no_grad()
    def merge(self):
        if self.kept is None:
            self.kept = self.base.weight.clone()
            self.base.weight += self.scale() * self.B @ self.A

    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            self.base.weight.copy_(self.kept)
            self.kept = None


class OfLayers:
    """What an implementation does by its adapted layers, of one ``kind``, whatever the method."""

    def layers(self, model):
        return {name: module for name, module in model.named_modules() if isinstance(module, self.kind)}

    def merge(self, model):
        for layer in self.layers(model).values():
            layer.merge()

    def unmerge(self, model):
        for layer in self.layers(model).values():
            layer.unmerge()

    def load(self, model, state):
        own = self.state(model)
        if {key: value.shape for key, value in own.items()} != {key: value.shape for key, value in state.items()}:
            raise ValueError("another state")
        for key, value in own.items():
            value.copy_(state[key])

    def weights(self, model):
        found = {}
        for name, layer in self.layers(model).items():
            found |= {f"{name}.weight": layer.base.weight, f"{name}.bias": layer.base.bias}
        return found


class Right(OfLayers):
    scaling = "standard"
    layer = kind = Layer

    def attach(self, model, *, rank, alpha, dropout):
        if self.layers(model):
            raise RuntimeError("attached already")
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear):
                model.set_submodule(name, self.layer(module, rank, alpha, dropout))
        return model

    def set_alpha(self, model, alpha):
        for layer in self.layers(model).values():
            if layer.kept is not None:
                raise RuntimeError("merged")
            layer.alpha = alpha

    def state(self, model):
        pairs = self.factors(model).items()
        return {f"{name}.{key}": value.detach() for name, pair in pairs for key, value in zip("AB", pair, strict=True)}

    def factors(self, model):
        return {name: (layer.A, layer.B) for name, layer in self.layers(model).items()}


WRONG = {}
"""Name → factory, and the law that is meant for its mistake."""


def wrong(law):
    def enter(cls):
        WRONG[cls.__name__] = (cls, law)
        return cls

    return enter


def with_layer(**methods):
    """An implementation whose layers have other methods."""
    return type("Layer", (Layer,), methods)


# What one other method of the implementation or of its layers makes wrong.
for law, name, methods in (
    ("set-alpha", "SetAlphaDoesNothing", {"set_alpha": lambda self, model, alpha: None}),
    ("merge-train", "MergeDoesNothing", {"merge": lambda self, model: None}),
    ("unmerge", "UnmergeDoesNothing", {"unmerge": lambda self, model: None}),
):
    wrong(law)(type(name, (Right,), methods))
for law, name, methods in (
    ("zero-b", "BothAreZero", {"draw": lambda self, rank, fan_in: torch.zeros(rank, fan_in)}),
    ("shapes", "RankIsCutToTheSmallerSide", {
        "__init__": lambda self, base, rank, *rest: Layer.__init__(self, base, min(rank, *base.weight.shape), *rest)}),
    ("scaling", "ScaleAppliedTwice", {"factor": staticmethod(lambda rank: 1 / rank**2)}),
    ("scaling", "ScaleForgotten", {"factor": staticmethod(lambda rank: 1.0)}),
    ("scaling", "AlphaIgnored", {"scale": lambda self: self.factor(self.rank)}),
    ("dropout", "DropoutInEvaluation", {"drop": lambda self, x: F.dropout(x, self.dropout, training=True)}),
    ("dropout", "DropoutForgotten", {"drop": lambda self, x: x}),
    ("dropout", "DropoutOnTheBaseToo", {"forward": lambda self, x: Layer.forward(self, self.drop(x))}),
    ("dropout", "DropoutWithoutRescaling", {
        "drop": lambda self, x: Layer.drop(self, x) * (1 - self.dropout) if self.training else x}),
):  # fmt: skip
    wrong(law)(type(name, (Right,), {"layer": with_layer(**methods)}))


@wrong("zero-b")
class BIsNotZero(Right):
    def attach(self, model, **options):
        model = super().attach(model, **options)
        for _, B in self.factors(model).values():
            nn.init.normal_(B)
        return model


@wrong("seed")
class DrawnBeforeTheSeed(Right):
    def __init__(self):
        noise = torch.randn(10_000)
        self.layer = with_layer(draw=lambda self, rank, n: noise[: rank * n].reshape(rank, n).clone())


@wrong("seed")
class AlwaysTheSameSeed(Right):
    def attach(self, model, **options):
        torch.manual_seed(42)
        return super().attach(model, **options)


@wrong("shapes")
class TheLastLayerIsLeftOut(Right):
    def attach(self, model, **options):
        model = super().attach(model, **options)
        name, layer = list(self.layers(model).items())[-1]
        model.set_submodule(name, layer.base)
        return model


@wrong("trainable")
class TheBiasIsTrainable(Right):
    def attach(self, model, **options):
        model = super().attach(model, **options)
        for layer in self.layers(model).values():
            layer.base.bias.requires_grad_(True)
        return model


@wrong("trainable")
class AIsFrozen(Right):
    def attach(self, model, **options):
        model = super().attach(model, **options)
        for A, _ in self.factors(model).values():
            A.requires_grad_(False)
        return model


@wrong("base")
class TheBaseIsTrainedToo(Right):
    def attach(self, model, **options):
        return super().attach(model, **options).requires_grad_(True)


@wrong("base")
class TheWeightsAreDrawnAnew(Right):
    def attach(self, model, **options):
        model = super().attach(model, **options)
        for layer in self.layers(model).values():
            layer.base.reset_parameters()
        return model


@wrong("modes")
class EvalMerges(Right):
    def merges_by_mode(self, mode=True):
        nn.Module.train(self, mode)
        (self.unmerge if mode else self.merge)()
        return self

    layer = with_layer(train=merges_by_mode)


@wrong("set-alpha")
class SetAlphaMultiplies(Right):
    def set_alpha(self, model, alpha):
        for layer in self.layers(model).values():
            layer.alpha *= alpha


@wrong("alpha-0")
class AlphaZeroIsAlmostZero(Right):
    layer = with_layer(scale=lambda self: max(self.alpha, 1e-4, key=abs) * self.factor(self.rank))

    def set_alpha(self, model, alpha):
        super().set_alpha(model, alpha or 1e-9)


@wrong("alpha-0")
class AlphaZeroMeansTheDefault(Right):
    def set_alpha(self, model, alpha):
        super().set_alpha(model, alpha or 1.0)


@wrong("merge-eval")
class EvalNeverMerges(Right):
    def merge(self, model):
        if model.training:
            super().merge(model)


@wrong("merge-train")
class MergedAndStillAdded(Right):
    def added_twice(self, x):
        return self.base(x) + self.scale() * (self.drop(x) @ self.A.T @ self.B.T)

    layer = with_layer(forward=added_twice)


@wrong("merge-eval")
class MergedWithoutTheScale(Right):
    @torch.no_grad()
    def merge_bare(self):
        self.kept = self.base.weight.clone()
        self.base.weight += self.B @ self.A

    layer = with_layer(merge=merge_bare)


@wrong("merge-twice")
class MergedTwiceIsAddedTwice(Right):
    @torch.no_grad()
    def merge_again(self):
        self.kept = self.base.weight.clone() if self.kept is None else self.kept
        self.base.weight += self.scale() * self.B @ self.A

    layer = with_layer(merge=merge_again)


@wrong("merge-twice")
class UnmergeTakesWhatIsNotThere(Right):
    @torch.no_grad()
    def subtract(self):
        self.kept = None
        self.base.weight -= self.scale() * self.B @ self.A

    layer = with_layer(unmerge=subtract)


@wrong("unmerge")
class MergingFreezesTheFactors(Right):
    def merge(self, model):
        super().merge(model)
        for pair in self.factors(model).values():
            for factor in pair:
                factor.requires_grad_(False)


@wrong("unmerge-exact")
class UnmergeSubtracts(Right):
    @torch.no_grad()
    def subtract(self):
        if self.kept is not None:
            self.kept = None
            self.base.weight -= self.scale() * self.B @ self.A

    layer = with_layer(unmerge=subtract)


@wrong("alpha-merged")
class AlphaChangesWhileMerged(Right):
    def set_alpha(self, model, alpha):
        for layer in self.layers(model).values():
            layer.alpha = alpha


@wrong("attach-twice")
class StackedTwice(Right):
    def attach(self, model, **options):
        for name, layer in list(self.layers(model).items()):
            outer = self.layer(layer.base, options["rank"], options["alpha"], options["dropout"])
            outer.base = layer
            outer.forward = lambda x, outer=outer: outer.base(x) + outer.scale() * (x @ outer.A.T @ outer.B.T)
            model.set_submodule(name, outer)
        return model if self.layers(model) else super().attach(model, **options)


@wrong("attach-twice")
class TheSecondIsAttachedToTheMerged(Right):
    def attach(self, model, **options):
        for name, layer in self.layers(model).items():
            layer.merge()
            model.set_submodule(name, layer.base)
        return super().attach(model, **options)


@wrong("state")
class TheStateHoldsTheBase(Right):
    def state(self, model):
        return {**super().state(model), **self.weights(model)}

    def load(self, model, state):
        super().load(model, {key: value for key, value in state.items() if key[-1] in "AB"})


@wrong("state")
class TheStateLacksB(Right):
    def state(self, model):
        return {key: value for key, value in super().state(model).items() if key.endswith("A")}


@wrong("state")
class LoadMatchesNothing(Right):
    def load(self, model, state):
        model.load_state_dict({f"base_model.{key}": value for key, value in state.items()}, strict=False)


@wrong("load-strict")
class LoadTakesAnything(Right):
    def load(self, model, state):
        model.load_state_dict(dict(state), strict=False)


@wrong("gradients")
class NoGradientForA(Right):
    def cut(self, x):
        out = self.base(x)
        if self.kept is not None or self.alpha == 0:
            return out
        return out + self.scale() * (self.drop(x) @ self.A.T).detach() @ self.B.T

    layer = with_layer(forward=cut)


@wrong("gradients")
class GradientWithoutTheScale(Right):
    def unscaled(self, x):
        out = self.base(x)
        if self.kept is not None or self.alpha == 0:
            return out
        product = self.drop(x) @ self.A.T @ self.B.T
        return out + product + (self.scale() * product - product).detach()

    layer = with_layer(forward=unscaled)


class NoMerge(Right):
    """Right as far as it goes: it cannot merge."""

    def merge(self, model):
        raise NotImplementedError("only before training")
