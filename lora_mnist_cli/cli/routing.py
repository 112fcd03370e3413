"""What ``--route`` and the options beside it allow, alike in evaluate, predict and export."""

from __future__ import annotations

from collections.abc import Sequence

from lora_mnist_cli.system.errors import UsageError


def refuse_without_route(route: bool, route_by: str | None, names: Sequence[str], alpha: object = None) -> None:
    """Refuse options that need ``--route`` without it, and ``--alpha`` with it.

    Raises:
        UsageError: for the first of them.
    """
    if route and alpha is not None:
        raise UsageError("--alpha is not for --route: experts answer as they were trained", value=alpha)
    if not route and route_by is not None:
        raise UsageError("--route-by needs --route", hint=f"--route --route-by {route_by}", value=route_by)
    if not route and len(names) > 1:
        raise UsageError(
            f"one artifact at a time, not '{names[1]}' beside '{names[0]}'", hint="--route lets them answer together",
            value=names,
        )  # fmt: skip
