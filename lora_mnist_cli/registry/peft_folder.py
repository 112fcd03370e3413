"""A folder of Hugging Face's PEFT, from a stranger: its description and weights, checked against a base. No torch.

What an adapter here can't have is refused by its name, all of it at once; so is an option that this version has not
heard of, unless it is off. Nothing is guessed, and nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.methods import PeftKind, method_named, tensor_shapes
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.digests import sha256
from lora_mnist_cli.registry.file_names import ADAPTER_FILE
from lora_mnist_cli.registry.weights import ADAPTER_CONFIG_FILE, MAX_WEIGHTS, differences
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.layer_ranks import pattern_of
from lora_mnist_cli.system.errors import ArtifactError, UsageError
from lora_mnist_cli.system.files import read_regular

_MAX_CONFIG = 2**20
_MAX_SURPLUS = 64 * 2**20
"""Bytes beyond what the tensors need: so much is still read, to say by name what differs."""
_MAX_LISTED = 12
_PICKLE = "adapter_model.bin"

_SAYS_NOTHING = {
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "megatron_config", "megatron_core", "qalora_group_size", "eva_config", "corda_config", "lora_ga_config",
    "loftq_config", "runtime_config",
}  # fmt: skip
"""Options that change nothing of what is computed, unless another is on that is refused."""
_NAME_LAYERS = "target_modules has to name the layers"
_WHY = {
    "modules_to_save": "an adapter here holds no whole layers",
    "lora_bias": "B has no bias here",
    "exclude_modules": _NAME_LAYERS,
    "layers_to_transform": _NAME_LAYERS,
    "layers_pattern": _NAME_LAYERS,
    "target_parameters": _NAME_LAYERS,
    "layer_replication": "the base has each of its layers once",
    "trainable_token_indices": "the base has no tokens",
}
"""Options that have to be off, and why. Any other that is unknown has to be off too."""
_RULES = {
    "use_rslora": "true or false",
    "use_dora": "true or false",
    "bias": "'none': biases stay the base's",
    "fan_in_fan_out": "false: a weight is out × in",
    "init_lora_weights": (
        'true, false, "gaussian", "eva", "orthogonal", "mica"; others change the base\'s own weights '
        "(PEFT's path_initial_model_for_weight_conversion converts them)"
    ),
}
"""What options have to be, in words; of the others the values are listed."""


@dataclass(frozen=True)
class PeftAdapter:
    """What was read.

    Args:
        config: method, rank, alpha, scaling, dropout, layers and the digest of the weights; the digits are open.
        weights: the file of weights: exactly the tensors that the config asks for, and all of them finite.
        widened: whether the folder has them in half precision (F16 or BF16); as float32 they are the same numbers.
    """

    config: AdapterConfig
    weights: bytes
    widened: bool = False


def read_peft_folder(folder: Path, base: Artifact) -> PeftAdapter:
    """Read what ``save_pretrained`` of PEFT wrote of an adapter for a base.

    PEFT's multiplier ``lora_alpha / r`` is here an alpha of ``lora_alpha`` with the scaling ``standard``, and
    ``lora_alpha / sqrt(r)`` is the same with ``rslora``.

    Raises:
        ArtifactError: where a file is missing, no regular file, damaged or too large; where options or tensors can't be
            taken over; and where a weight is no finite number.
    """
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}", hint="name the folder, not a file in it", value=folder)
    options = _Options(_decode(folder / ADAPTER_CONFIG_FILE))
    config = options.config(list(base.details["layers"]))
    if config is None:
        raise ArtifactError(
            f"{folder / ADAPTER_CONFIG_FILE} can't be taken over: {_listed(options.problems)}",
            value=options.problems,
        )
    layers = {name: base.details["layers"][name] for name in config.target_layers or ()}
    shapes = tensor_shapes(config, layers)
    weights, widened = _read_weights(folder / ADAPTER_FILE, shapes, base)
    return PeftAdapter(dataclasses.replace(config, imported=sha256(weights)), weights, widened)


class _Options:
    """PEFT's options, looked at one by one; what can't be taken over is collected.

    Args:
        given: the content of ``adapter_config.json``.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.problems: list[str] = []

    def config(self, layers: Sequence[str]) -> AdapterConfig | None:
        """The config of an adapter on a base of these layers, or None where there are problems."""
        kinds, name = _kinds(), self.given.get("peft_type")
        if not isinstance(name, str) or name not in kinds:
            self._refuse("peft_type", f"only {', '.join(kinds)} can be taken over")
            return None  # the options of other kinds mean other things
        method, kind = kinds[name]
        chosen = self._layers(layers)
        rank = self._take("r", _is_rank, "a whole number of at least 1")
        alpha = self._take(kind.alpha, _is_number, "a finite number") if kind.alpha else 1.0
        ranks = self._by_layer("rank_pattern", rank, chosen, _is_rank, "whole numbers of at least 1")
        alphas = self._by_layer("alpha_pattern", alpha, chosen, _is_number, "finite numbers")
        dropout = self._take(kind.dropout, _is_share, "at least 0 and below 1", 0.0) if kind.dropout else 0.0
        for option, values in kind.values.items():
            rule = _RULES.get(option) or ", ".join(map(json.dumps, values))
            self._take(option, partial(_is_one_of, values), rule, values[0])
        rslora, dora = (self.given.get(name) is True for name in ("use_rslora", "use_dora"))
        rank, alpha, scaling = self._multiplier(ranks, alphas, "rslora" if rslora else "standard")
        if dora and alpha == 0:
            self._refuse(
                "lora_alpha", "with use_dora the magnitudes act all the same, and at alpha 0 nothing does here"
            )
        for option, value in self.given.items():
            if option not in kind.read | _SAYS_NOTHING and value not in (None, False, "", [], {}):
                self._refuse(option, _WHY.get(option, "nothing here does that"))
        if self.problems:
            return None
        multiplier: dict[str, Any] = {"alpha": float(alpha), "scaling": scaling} if kind.alpha else {}
        try:
            return AdapterConfig(
                method="dora" if dora else method, rank=rank, dropout=float(dropout), target_layers=tuple(chosen),
                rank_pattern=pattern_of(ranks, rank), epochs=0, **multiplier,
            )  # fmt: skip
        except UsageError as error:
            self.problems.append(error.problem)
            return None

    def _refuse(self, name: str, why: str) -> None:
        if name not in self.given:
            self.problems.append(f"{name} is missing")
            return
        self.problems.append(f"{_short(name)} is {_short(json.dumps(self.given[name]))}: {why}")

    def _take(self, name: str, holds: Callable[[Any], bool], rule: str, default: Any = None) -> Any:
        """An option's value; one without a default has to be there."""
        if name not in self.given and default is not None:
            return default
        value = self.given.get(name)
        if not holds(value):
            self._refuse(name, f"it has to be {rule}")
        return value

    def _layers(self, known: Sequence[str]) -> list[str]:
        """The layers that have factors, in the base's order."""
        wanted = self.given.get("target_modules")
        if wanted == "all-linear":
            return list(known)
        if isinstance(wanted, str):
            wanted = [wanted] if wanted in known else None  # any other text is a regular expression
        if not isinstance(wanted, list) or not wanted:
            self._refuse("target_modules", f"it has to be a list of layers: {', '.join(known)}")
            return []
        if odd := [str(name) for name in wanted if name not in known]:
            self._refuse("target_modules", f"the base has no {_short(', '.join(odd))}, but {', '.join(known)}")
        return [name for name in known if name in wanted]

    def _by_layer(
        self, name: str, default: Any, layers: Sequence[str], holds: Callable[[Any], bool], rule: str
    ) -> dict[str, Any]:  # fmt: skip
        """The value that each layer has, by a pattern of PEFT's or by default."""
        pattern = self.given.get(name) or {}
        if not isinstance(pattern, dict) or not pattern.keys() <= set(layers):
            self._refuse(name, "it has to name layers of target_modules")
        elif not all(map(holds, pattern.values())):
            self._refuse(name, f"they have to be {rule}")
        else:
            return {layer: pattern.get(layer, default) for layer in layers}
        return {}

    def _multiplier(self, ranks: Mapping[str, Any], alphas: Mapping[str, Any], scaling: str) -> tuple[Any, Any, str]:
        """The adapter's rank, alpha and scaling: one alpha, or else one factor of all layers' products."""
        if self.problems or not ranks:
            return 1, 1.0, scaling
        rank, (alpha, *others) = max(ranks.values()), alphas.values()
        if all(other == alpha for other in others):
            return rank, alpha, scaling
        factors = [alphas[layer] * scale(scaling, ranks[layer]) for layer in ranks]
        if any(not math.isclose(factor, factors[0], rel_tol=1e-12) for factor in factors):
            self._refuse("alpha_pattern", "an adapter here has one alpha for all its layers, or one factor")
        return rank, factors[0], "constant"


def _kinds() -> dict[str, tuple[str, PeftKind]]:
    """Kind of PEFT's → the method that it is here, and its words."""
    found: dict[str, tuple[str, PeftKind]] = {}
    for name in METHODS:
        kind = method_named(name).peft_kind
        if kind is not None:
            found.setdefault(kind.name, (name, kind))
    return found


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"


def _listed(problems: Sequence[str], between: str = "; ") -> str:
    more = len(problems) - _MAX_LISTED
    return between.join(problems[:_MAX_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and type(value) is not bool and math.isfinite(value)
    except OverflowError:
        return False


def _is_rank(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_one_of(values: Sequence[Any], value: Any) -> bool:
    return any(type(value) is type(one) and value == one for one in values)


def _decode(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(_read(path, _MAX_CONFIG))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON", value=path) from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} holds no options", value=path)
    return found


def _read(path: Path, limit: int) -> bytes:
    """The content of a file of the folder.

    Raises:
        ArtifactError: where it is missing, no regular file, or larger than ``limit`` bytes.
    """
    try:
        return read_regular(path, limit)
    except FileNotFoundError as error:
        hint = ""
        if inner := sorted(path.parent.glob(f"*/{path.name}")):
            hint = f"PEFT wrote an adapter of a name of its own: name {inner[0].parent}"
        if path.with_name(_PICKLE).exists():
            hint = f"{_PICKLE} is a pickle, which is never read; save it with safe_serialization=True"
        raise ArtifactError(f"there is no file {path}", hint=hint, value=path) from error
    except OSError as error:
        raise ArtifactError(f"{path} can't be read: {error.strerror}", value=path) from error


def _read_weights(path: Path, shapes: Mapping[str, tuple[int, ...]], base: Artifact) -> tuple[bytes, bool]:
    """The content of a file of weights that holds exactly the tensors of these shapes, and whether it was widened."""
    import numpy as np
    from safetensors import SafetensorError, deserialize
    from safetensors.numpy import save

    need = 4 * sum(math.prod(shape) for shape in shapes.values())
    content = _read(path, min(need, MAX_WEIGHTS) + _MAX_SURPLUS)
    try:
        tensors = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ArtifactError(f"{path} is damaged: {error}", value=path) from error
    halves = ("F16", "BF16")
    widened = any(tensor["dtype"] in halves for _, tensor in tensors)
    found = {
        key: (tuple(tensor["shape"]), "F32" if tensor["dtype"] in halves else str(tensor["dtype"]))
        for key, tensor in tensors
    }
    if problems := differences(found, shapes):
        raise ArtifactError(f"{path} does not fit '{base.name}': it {_listed(problems, '; it ')}", value=problems)
    values = {key: _as_float32(tensor["data"], tensor["dtype"]) for key, tensor in tensors}
    odd = [key for key, value in values.items() if not np.isfinite(value).all()]
    if odd:
        raise ArtifactError(f"{path} has values that are no finite numbers in {', '.join(odd)}", value=odd)
    return save({key: value.reshape(shapes[key]) for key, value in values.items()}) if widened else content, widened


def _as_float32(data: bytes, kind: str) -> Any:
    """The numbers of a tensor as a flat array of float32, exactly."""
    import numpy as np

    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, "<f2" if kind == "F16" else "<f4").astype("<f4", copy=False)
