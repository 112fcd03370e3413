"""Choices that a user makes by name or number, checked before anything heavy is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import UsageError


def choose_model(workspace: Workspace, name: str | None, alphas: Sequence[float] = ()) -> Artifact:
    """Return the adapter or base of that name; without one the newest adapter, or the newest base if there is none.

    Args:
        alphas: that the model is to have. Only an adapter can have one, so with them no base is taken by default.

    Raises:
        UsageError: where an alpha is not finite.
        ArtifactError: where there is no such artifact.
    """
    for alpha in alphas:
        finite(alpha)
    if name is not None:
        return workspace.registry.get(name, "adapter", "base")
    return workspace.latest("adapter") if alphas else workspace.latest("adapter", "base")


def chosen_alpha(artifact: Artifact, alpha: float | None) -> float | None:
    """Return the alpha that an adapter is to have, by default the trained one; None for a base.

    Raises:
        UsageError: where it is not finite, or given for a base.
    """
    if artifact.kind == "base":
        if alpha is not None:
            raise UsageError(f"'{artifact.name}' is a base and has no alpha", hint="name an adapter", value=alpha)
        return None
    return finite(artifact.config["alpha"] if alpha is None else alpha)


def finite(alpha: float) -> float:
    """Return an alpha as a number; refuse one that is not finite."""
    if not math.isfinite(alpha):
        raise UsageError(f"alpha is a finite number, not {alpha}", value=alpha)
    return float(alpha)


def named_once(names: Iterable[str], hint: str = "") -> None:
    """Refuse a name that a user gives twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(f"'{name}' is named twice", hint=hint, value=name)
        seen.add(name)
