"""The record of the page to explore: a base, adapters on it, test images, and what Python computed from all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_mnist_cli.data.sources import load_split
from lora_mnist_cli.evaluation.forgetting import masked, rows_of
from lora_mnist_cli.evaluation.logits import predict, predict_with
from lora_mnist_cli.models.alphas import at_alphas
from lora_mnist_cli.models.lora import set_alpha
from lora_mnist_cli.models.methods import mathematics_of, trainable_parameters
from lora_mnist_cli.pages.packing import pack_bytes, pack_floats
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.deltas import adapter_tensors, load_matrices
from lora_mnist_cli.registry.file_names import STATISTICS_FILE
from lora_mnist_cli.registry.weights import BASE_FILE
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.grid import closest_recipe
from lora_mnist_cli.settings.lists import some
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.evaluating import at_alpha
from lora_mnist_cli.stages.pictures.of_routing import routing_record
from lora_mnist_cli.stages.records.loading import LoadedModel, finite_logits, load_model
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError
from lora_mnist_cli.system.work import IMAGES, SCORING, piece

if TYPE_CHECKING:
    from torch import Tensor

    from lora_mnist_cli.data.dataset import MNISTDataset

Record = dict[str, Any]
_TINY = 1e-20
"""An alpha below which products with it lose digits that the singular values would show."""
SHARES = tuple(step / 20 for step in range(-10, 31))
"""The alphas that the page's slider has, as shares of the trained one."""
PER_CLASS = 10
"""Test images of each class on the page: the first ones in the file's order."""


def page_record(workspace: Workspace, base: Artifact, adapters: Sequence[Artifact], *, route: bool) -> Record:
    """Gather what the page shows of adapters on one base.

    Args:
        route: add the densities of the experts' digits in any case. Without it they are added for protected
            adapters, where all that is shown has statistics.

    Raises:
        ArtifactError: where an artifact is damaged or doesn't fit, logits are not finite at an alpha of the slider, or
            an expert that was asked for has no statistics.
        DataError: where the test images are not available.
    """
    reporter, count = workspace.reporter, len(adapters)
    reporter.phase(IMAGES, costs.READING)
    loaded = load_model(workspace.registry, base)
    test = workspace.test_images(base, loaded.pixel_stats)
    shown = _shown(test)
    pixels, _ = load_split(base.dataset, "test", workspace.data_dir)
    matrices = load_matrices(base, base, BASE_FILE)
    record: Record = {
        "dataset": base.dataset,
        "classes": list(base.classes), "pixel_stats": list(loaded.pixel_stats), "shares": list(SHARES),
        "images": {"labels": test.labels[shown].tolist(), "pixels": pack_bytes(pixels[shown])},
        "counts": np.bincount(test.labels.numpy(), minlength=10).tolist(),
        "base": {
            **_described(base), "digits": list(loaded.base_config.digits),
            "layers": [{"name": name, "in": fan[0], "out": fan[1]} for name, fan in base.details["layers"].items()],
            "weights": pack_floats([matrices[f"{name}.{part}"] for name in base.details["layers"]
                                    for part in ("weight", "bias")]),
            "logits": pack_floats([predict(loaded.model, test.images)[shown].numpy()]),
        },
        "adapters": [],
    }  # fmt: skip
    for number, adapter in enumerate(adapters, start=1):
        reporter.phase(SCORING, costs.PAGE_OF_ADAPTER, piece(number, count))
        record["adapters"].append(_adapter(workspace, loaded, adapter, test, shown))
    protected = any(adapter.config.get("protect") for adapter in adapters)
    without = [each.name for each in (base, *adapters) if STATISTICS_FILE not in each.files]
    if protected and without and not route:
        reporter.notice(f"the page has no densities: {some(without)} has no statistics of its digits")
    elif protected or route:
        record["routing"] = routing_record(workspace, base, adapters, test)
    return record


def exact_alpha(share: float, trained: float) -> float:
    """Return an alpha of the slider as the page has it and a command line repeats it: in six digits."""
    return trained if share == 1 else float(f"{share * trained:.6g}")


def _shown(test: MNISTDataset) -> list[int]:
    """Return the rows of the test images on the page, ordered by class."""
    labels = test.labels.numpy()
    return [int(row) for label in range(10) for row in np.flatnonzero(labels == label)[:PER_CLASS]]


def _described(artifact: Artifact) -> Record:
    """Return what tells where an artifact comes from."""
    versions = artifact.environment.get("versions", {})
    return {
        "name": artifact.name, "digest": artifact.digest, "note": artifact.note,
        "seed": artifact.config.get("seed"), "epochs": artifact.config.get("epochs"), "lr": artifact.config.get("lr"),
        "versions": {name: versions[name] for name in ("lora-mnist", "torch") if name in versions},
    }  # fmt: skip


def _adapter(
    workspace: Workspace, base: LoadedModel, artifact: Artifact, test: MNISTDataset, shown: Sequence[int]
) -> Record:
    config = AdapterConfig.from_json(artifact.config)
    loaded = load_model(workspace.registry, artifact)
    trained = config.alpha or 1.0
    alphas = [exact_alpha(share, trained) for share in SHARES]
    every = predict_with(lambda images: at_alphas(loaded.model, images, alphas), loaded.model, test.images)
    for alpha, logits in zip(alphas, every, strict=True):
        if not bool(logits.isfinite().all()):
            set_alpha(loaded.model, alpha)
            finite_logits(loaded.model, test.images, f"'{artifact.name}'{at_alpha(alpha)}")  # says which layer
    old = base.base_config.digits
    learned = config.digits or ALL_DIGITS
    added = learned.without(old)
    halves = {"old": old} | ({"new": added} if added else {})
    layers, numbers = _factors(workspace, loaded.base, artifact, config)
    fans = {name: loaded.base.details["layers"][name] for name in config.target_layers or ()}
    return {
        **_described(artifact), "method": config.method, "title": METHODS[config.method].title, "rank": config.rank,
        "alpha": trained, "scaling": config.scaling, "protect": list(config.protect), "combined": config.combined,
        "recipe": closest_recipe(config)[0], "learned": list(learned), "digits": str(learned), "new": list(added or ()),
        "parameters": {name: trainable_parameters(config, {name: fan}) for name, fan in fans.items()},
        "layers": layers, "factors": pack_floats(numbers),
        "logits": pack_floats([every[SHARES.index(1.0)][shown].numpy()]),
        "right": {half: _right(every, test.labels, digits, ALL_DIGITS) for half, digits in halves.items()},
        "right_known": {half: _right(every, test.labels, digits, digits) for half, digits in halves.items()},
    }  # fmt: skip


def _right(every: Sequence[Tensor], labels: Tensor, digits: DigitSet, among: DigitSet) -> list[int]:
    """Count, for each alpha, the images of some digits that are recognised where only ``among`` may be answered."""
    rows = rows_of(labels, digits)
    return [int((masked(logits[rows], among).argmax(1) == labels[rows]).sum()) for logits in every]


def _factors(
    workspace: Workspace, base: Artifact, artifact: Artifact, config: AdapterConfig
) -> tuple[Record, list[np.ndarray[Any, Any]]]:
    """Return the change of each layer at alpha 1 by its singular values: per layer the sizes, and all numbers.

    A layer's change is ``left @ right``, out × rank and rank × in: the rows of ``right`` are of length one, and the
    columns of ``left`` as long as the singular values. After them comes the change of the bias, where there is one.
    """
    # A change at alpha 0 is zero, whatever was trained, and rounding is most of one near 0.
    config = config if abs(config.alpha) > _TINY else dataclasses.replace(config, alpha=1.0)
    method, plain = mathematics_of(config), load_matrices(base, base, BASE_FILE)
    layers, numbers = {}, []
    for name, tensors in adapter_tensors(workspace.registry, artifact).items():
        with np.errstate(all="ignore"):
            weight, bias = method.change(tensors, plain[f"{name}.weight"], config.for_layer(name))
        if not np.isfinite(weight).all():
            raise ArtifactError(f"'{artifact.name}' has weights that are not finite", value=artifact.name)
        left, values, right = np.linalg.svd(weight / config.alpha, full_matrices=False)
        # Beyond the rank there is rounding only; PiSSA's change has twice the rank.
        rank = max(1, int((values > 1e-6 * max(values[0], 1e-30)).sum()))
        layers[name] = {"rank": rank, "bias": bias is not None}
        numbers += [left[:, :rank] * values[:rank], right[:rank]] + ([] if bias is None else [bias / config.alpha])
    return layers, numbers
