"""From ``pkg.module:factory`` to the verdict of each law."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from lora_mnist_cli.conformance.protocol import METHODS, SCALINGS, Factory
from lora_mnist_cli.system.errors import LoraMnistError, UsageError, nearest, refuse_unknown

HOLDS, BROKEN, SKIPPED = "holds", "BROKEN", "skipped"
READY = {
    name: f"lora_mnist_cli.conformance.ready:{factory}"
    for name, factory in (
        ("ours", "Ours"), ("ours-standard", "OursStandard"), ("ours-rslora", "OursRslora"),
        ("peft", "Peft"), ("loralib", "Loralib"),
    )
}  # fmt: skip
"""Short names of the implementations that come with this package."""


def find_factory(text: str) -> Factory:
    """The factory that ``pkg.module:factory`` names, or a short name of :data:`READY`; its module is imported.

    Raises:
        UsageError: where there is none, or what it makes is no implementation.
    """
    module_name, colon, attribute = READY.get(text, text).partition(":")
    if not (colon and module_name and attribute):
        hint = nearest(text, list(READY)) or f"write pkg.module:factory, or one of {', '.join(READY)}"
        raise UsageError(f"'{text}' names no implementation", hint=hint, value=text)
    here = str(Path.cwd())
    if here not in sys.path:  # as python -m does: the code under test most often lies where one works
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except LoraMnistError:
        raise
    except Exception as error:
        hint = "is it installed, or in this folder?" if isinstance(error, ModuleNotFoundError) else "--verbose shows"
        raise UsageError(f"can't import '{module_name}': {_told(error)}", hint=hint, value=text) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = nearest(part, [name for name in dir(found) if not name.startswith("_")])
            raise UsageError(f"'{module_name}' has no '{attribute}'", hint=hint, value=text)
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"'{text}' can't be called", hint="name a class or a function without arguments", value=text)
    try:
        made = found()
    except LoraMnistError:
        raise
    except Exception as error:
        hint = "it is called without arguments"
        raise UsageError(f"'{text}' makes no implementation: {_told(error)}", hint=hint, value=text) from error
    lacking = [name for name in METHODS if not callable(getattr(made, name, None))]
    if lacking:
        raise UsageError(
            f"what '{text}' makes lacks {', '.join(lacking)}",
            hint="docs/conformance.md describes the protocol",
            value=lacking,
        )
    if getattr(made, "scaling", None) not in SCALINGS:
        known = ", ".join(SCALINGS)
        given = getattr(made, "scaling", None)
        raise UsageError(f"what '{text}' makes has the scaling {given!r}", hint=f"one of {known}", value=given)
    factory: Factory = found
    return factory


def check(factory: Factory, *, skip: Collection[str] = ()) -> list[dict[str, str]]:
    """Try every law on an implementation.

    Args:
        skip: names of laws that are not to be tried.

    Returns:
        A row a law: ``law``, ``about``, ``verdict`` (``holds``, ``BROKEN`` or ``skipped``) and ``evidence``.

    Raises:
        UsageError: where there is no law of a name to skip, or all are to be skipped.
    """
    import torch

    from lora_mnist_cli.conformance.bench import Bench, BrokenError
    from lora_mnist_cli.conformance.laws import LAWS

    for name in skip:
        refuse_unknown("law", name, list(LAWS), "laws:")
    if set(skip) >= set(LAWS):
        raise UsageError("all laws are skipped, so nothing would be tried", hint="leave out some --skip")
    rows = []
    for law in LAWS.values():
        verdict, evidence = SKIPPED, "not tried"
        if law.name not in skip:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a law speaks of what is computed, not of what is said
                try:
                    verdict, evidence = HOLDS, law.check(Bench(factory))
                except BrokenError as error:
                    verdict, evidence = BROKEN, str(error)
                except NotImplementedError as error:
                    what = f": {error}" if str(error) else ""
                    verdict, evidence = BROKEN, f"not implemented{what} (--skip {law.name} where that is meant)"
                except Exception as error:  # noqa: BLE001 - whatever the code under test raises is the finding
                    verdict, evidence = BROKEN, f"it raised {_told(error)}"
        rows.append({"law": law.name, "about": law.about, "verdict": verdict, "evidence": evidence})
    return rows


def _told(error: Exception) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
