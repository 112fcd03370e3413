"""The parts of a manifest as declared types: names and digests, scores, files, settings, and what each kind records.

A struct says which fields there are, of which type and in which range. :mod:`~lora_mnist_cli.registry.manifest_kinds`
makes the manifest of each kind from them. A new field of a manifest is a line in a struct here.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lora_mnist_cli.registry.manifest_limits import MAX_TEXT, MAX_WHOLE
from lora_mnist_cli.settings.adapter_config import LAYER
from lora_mnist_cli.settings.checks import DIGEST
from lora_mnist_cli.settings.choices import DATASETS
from lora_mnist_cli.settings.grid import MAX_ADAPTERS
from lora_mnist_cli.settings.lists import as_ranges
from lora_mnist_cli.settings.own_data import is_own, problem_of_classes

MANIFEST = "artifact.json"
MAX_NAME = 100
MAX_NOTE = 2000
MAX_YEAR = 2999
_MAX_BYTES = 2**32
"""Of a file: twice the largest weights that are read. A sparse file of any size costs its sender nothing."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,-]*", re.ASCII)
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", re.ASCII)


def hold(condition: object, problem: str) -> None:
    """Raise a ValueError with the problem, where the condition is not met."""
    if not condition:
        raise ValueError(problem)


def is_name(text: object) -> bool:
    """Return whether this can be an artifact's name: a letter or digit, then letters, digits and ``._,-``."""
    return isinstance(text, str) and len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def is_created(text: object) -> bool:
    """Return whether this is a creation time: in UTC, to the microsecond, in a year up to 2999."""
    if not isinstance(text, str) or _CREATED.fullmatch(text) is None:
        return False
    try:
        return datetime.fromisoformat(text).year <= MAX_YEAR
    except ValueError:  # a day that is none
        return False


@lru_cache(maxsize=1024)
def is_file(name: object) -> bool:
    """Return whether this names a file inside an artifact's folder: relative, in at most one folder, not hidden."""
    if not isinstance(name, str) or not 0 < len(name) <= 255 or not name.isprintable() or "\\" in name:
        return False
    parts = name.split("/")
    return len(parts) <= 2 and all(part and not part.startswith(".") for part in parts) and name != MANIFEST


def _whole(pattern: re.Pattern[str]) -> str:
    """Return a pattern that holds for a whole text where it is only searched for."""
    return rf"^(?:{pattern.pattern})\Z"


FORMS = {_whole(_NAME): "a name", _whole(DIGEST): "a digest", _whole(LAYER): "a layer (fc1, fc2, …)"}
"""Pattern → what it stands for in a message."""

Name = Annotated[str, Meta(pattern=_whole(_NAME), max_length=MAX_NAME)]
Digest = Annotated[str, Meta(pattern=_whole(DIGEST))]
Layer = Annotated[str, Meta(pattern=_whole(LAYER))]
Layers = Annotated[list[Layer], Meta(min_length=1, max_length=999)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Count = Annotated[int, Meta(ge=0, le=MAX_WHOLE - 1)]
Counts = Annotated[list[Count], Meta(min_length=1, max_length=MAX_ADAPTERS)]
Size = Annotated[int, Meta(ge=1, le=2**20)]
Whole = Annotated[int, Meta(gt=-MAX_WHOLE, le=MAX_WHOLE - 1)]
_LARGEST = 1e39
"""Beyond every number of 32 bits, as weights, logits and losses are; sums of squares of such numbers are finite."""
Number = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
# A whole number stays one: the seal of 0 is not that of 0.0.
AtLeast0 = Annotated[float, Meta(ge=0, le=_LARGEST)] | Annotated[int, Meta(ge=0, le=MAX_WHOLE - 1)]
Share = Annotated[float, Meta(ge=0, le=1)] | Annotated[int, Meta(ge=0, le=1)]
Deviation = Annotated[float, Meta(ge=1e-9, le=1)]
"""Of pixels from 0 to 1. Inputs are divided by it, and a single grey pixel in all of MNIST gives more."""
Seconds = Annotated[float, Meta(ge=0, le=1e10)] | Annotated[int, Meta(ge=0, le=10**10)]
if TYPE_CHECKING:
    Digits = str
else:
    Digits = Literal[tuple(as_ranges(chosen) for size in range(1, 11) for chosen in combinations(range(10), size))]
    """A digit set as it is written: sorted, runs folded."""


class Strict(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Fields beside which no others are allowed.

    None has a default but ``UNSET``: encoding one gives the JSON that it was decoded from.
    """


class SubsetScore(Strict):
    """The scores of a model on the images of a digit set; None where there are no images or no finite loss."""

    digits: Digits
    count: Count
    accuracy: Share | None
    loss: AtLeast0 | None


class _DigitScore(Strict):
    digit: Annotated[int, Meta(ge=0, le=9)]
    count: Count
    accuracy: Share | None
    loss: AtLeast0 | None


_ORDER = list(range(10))
Digitwise = Annotated[list[_DigitScore], Meta(min_length=10, max_length=10)]


class Scores(Strict):
    """The scores of a model: on digit sets, and on each of the ten digits in their order."""

    subsets: list[SubsetScore]
    per_digit: Digitwise

    def __post_init__(self) -> None:
        _hold_order(self.per_digit)


class PossibleScores(Strict):
    """Both tables of scores, or neither where there is no model."""

    subsets: list[SubsetScore] | UnsetType = UNSET
    per_digit: Digitwise | UnsetType = UNSET

    def __post_init__(self) -> None:
        hold((self.subsets is UNSET) == (self.per_digit is UNSET), "subsets and per_digit belong together")
        if not isinstance(self.per_digit, UnsetType):
            _hold_order(self.per_digit)


def _hold_order(scores: list[_DigitScore]) -> None:
    digits = [score.digit for score in scores]
    if digits != _ORDER:
        raise ValueError(f"per_digit: its digits are {digits}, not 0 to 9")


class DataSet(Strict):
    """The data set of an artifact; a user's own has the names of its classes."""

    name: Name
    digest: Digest
    classes: Annotated[list[Text], Meta(max_length=10)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        own = self.name not in DATASETS
        if own and not is_own(self.name):
            raise ValueError(f"there is no data set '{self.name}', but {', '.join(DATASETS)}")
        hold(own == (self.classes is not UNSET), "classes: a user's own data set has them, and no other")
        if not isinstance(self.classes, UnsetType):
            hold(not (problem := problem_of_classes(self.classes)), f"classes: {problem}")


class Parent(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What an artifact was made from, by name and content digest, never by path.

    ``role`` is ``base``, ``adapter`` or ``input`` for what decided the result, ``member`` for an adapter that a sweep
    lists.
    """

    role: Literal["base", "adapter", "member", "input"]
    name: Name
    digest: Digest


class File(Strict):
    """Size and SHA-256 of a file."""

    bytes: Annotated[int, Meta(ge=0, le=_MAX_BYTES)]
    sha256: Digest


class Environment(Struct, gc=False):
    """Versions of packages, and where the work was done."""

    versions: dict[Text, Text] | UnsetType = UNSET
    platform: Text | UnsetType = UNSET
    cores: Whole | UnsetType | None = UNSET
    device: Text | UnsetType = UNSET
    threads: Whole | UnsetType = UNSET
    bank_megabytes: Whole | UnsetType = UNSET
    engine: Text | UnsetType = UNSET
    logger: Text | UnsetType = UNSET


class Details(Struct, kw_only=True, gc=False):
    """What any artifact may record."""

    base_digits: Digits | UnsetType = UNSET
    trainable_parameters: Count | UnsetType = UNSET
    rank: Count | UnsetType = UNSET
    seed: Count | UnsetType = UNSET


class _Merged(Strict):
    alpha: Number
    weight_residual: Number
    logit_residual: Number
    largest_logit: Number
    base_digits: Digits
    adapter_digits: Digits
    predictions_changed: Count
    images: Count


class _CombinedParent(Strict):
    name: Name
    digits: Digits
    weight: Number


class _CombinedLayer(Strict):
    norm: AtLeast0
    residual: AtLeast0


class _Combined(Strict):
    parents: list[_CombinedParent]
    layers: dict[Layer, _CombinedLayer]
    residual: AtLeast0


class BaseDetails(Details):
    """Shapes of the layers (out × in), mean and deviation of the pixels."""

    layers: Annotated[dict[Layer, tuple[Size, Size]], Meta(min_length=1, max_length=999)]
    pixel_stats: tuple[Share, Deviation]
    merged: _Merged | UnsetType = UNSET


class AdapterDetails(Details):
    """Digits of the base, parameters that were trained, and why training failed, where it did."""

    base_digits: Digits
    trainable_parameters: Count
    failed: Text | UnsetType = UNSET
    bank: Text | UnsetType = UNSET
    combined: _Combined | UnsetType = UNSET


class _LastEpoch(Strict):
    """The end of a history; None for a figure that is not finite, or without validation images."""

    epoch: Count
    train_loss: Number | None
    train_accuracy: Share | None
    val_loss: Number | None
    val_accuracy: Share | None


class _Result(Struct, kw_only=True, gc=False):
    """An adapter of a sweep: its settings on the axes, and its scores."""

    artifact: Name
    rank: Count
    seed: Count
    trainable_parameters: Count
    subsets: list[SubsetScore]
    failed: Text | None = None
    last_epoch: _LastEpoch | UnsetType | None = UNSET


class SweepDetails(Details):
    """The results of a sweep.

    Where it does not keep all adapters, also what it keeps, and when it was begun if it kept less before.
    """

    results: Annotated[list[_Result], Meta(min_length=1)]
    keep: Text | UnsetType = UNSET
    since: Text | UnsetType = UNSET


class _ReportRow(Struct, gc=False):
    what: Text
    digits: Text
    measure: Text
    study: Number | None
    here: Number | None
    difference: Number | None


class ReportDetails(Details):
    """The table of a report."""

    rows: list[_ReportRow]
