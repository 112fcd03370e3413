"""From ``pkg.module:factory`` to the verdict of each law."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from lora_mnist_cli.conformance.protocol import LORA_MEMBERS, MEMBERS, SCALINGS, Factory
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.system.errors import EXIT_TERMINATED, LoraMnistError, UsageError, nearest, refuse_unknown
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.system.work import piece

HOLDS, BROKEN, SKIPPED = "holds", "BROKEN", "skipped"
_LAWS, _LAW = "testing laws", 0.2
"""The phase of trying laws, and the seconds that one takes."""
READY = {
    "ours": "lora_mnist_cli.conformance.ready:Ours",
    "ours-standard": "lora_mnist_cli.conformance.ready:OursStandard",
    "ours-rslora": "lora_mnist_cli.conformance.ready:OursRslora",
    "peft": "lora_mnist_cli.conformance.ready:Peft",
    "loralib": "lora_mnist_cli.conformance.ready:Loralib",
}
"""Short names of the implementations of LoRA that come with this package."""
OF_METHODS = {name: f"lora_mnist_cli.conformance.ready:{name.capitalize()}Of" for name in ("ours", "peft")}
"""Short names of those of other methods; their classes take the name of the method."""


def find_factory(text: str, method: str = "lora") -> Factory:
    """Import the factory that ``pkg.module:factory``, or a short name of :data:`READY`, stands for.

    Raises:
        UsageError: where there is no such factory or method, or its result is no implementation.
    """
    refuse_unknown("method", method, list(METHODS), "methods:")
    ready = READY if method == "lora" else OF_METHODS
    module_name, colon, attribute = ready.get(text, text).partition(":")
    if not (colon and module_name and attribute):
        hint = nearest(text, list(ready)) or f"write pkg.module:factory, or one of {', '.join(ready)}"
        raise UsageError(f"'{text}' names no implementation", hint=hint, value=text)
    here = str(Path.cwd())
    if here not in sys.path:  # as python -m does: the code under test is most often in the current folder
        sys.path.insert(0, here)
    try:
        target: Any = importlib.import_module(module_name)
    except LoraMnistError:
        raise
    except (Exception, SystemExit) as error:
        hint = "is it installed, or in this folder?" if isinstance(error, ModuleNotFoundError) else "--verbose shows"
        raise UsageError(f"can't import '{module_name}': {_one_line(error)}", hint=hint, value=text) from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            hint = nearest(part, [name for name in dir(target) if not name.startswith("_")])
            raise UsageError(f"'{module_name}' has no '{attribute}'", hint=hint, value=text)
        target = getattr(target, part)
    if not callable(target):
        raise UsageError(f"'{text}' can't be called", hint="name a class or a function without arguments", value=text)
    if text in ready and method != "lora":
        target = partial(target, method)
    try:
        implementation = target()
    except LoraMnistError:
        raise
    except (Exception, SystemExit) as error:
        hint = "it is called without arguments"
        raise UsageError(f"'{text}' makes no implementation: {_one_line(error)}", hint=hint, value=text) from error
    members = LORA_MEMBERS if method == "lora" else MEMBERS
    lacking = [name for name in members if not callable(getattr(implementation, name, None))]
    if lacking:
        hint = "docs/conformance.md describes the protocol"
        raise UsageError(f"what '{text}' makes lacks {', '.join(lacking)}", hint=hint, value=lacking)
    scaling = getattr(implementation, "scaling", None)
    if method == "lora" and scaling not in SCALINGS:
        hint = f"one of {', '.join(SCALINGS)}"
        raise UsageError(f"what '{text}' makes has the scaling {scaling!r}", hint=hint, value=scaling)
    factory: Factory = target
    return factory


def check(
    factory: Factory, *, method: str = "lora", skip: Collection[str] = (), reporter: Reporter | None = None
) -> list[dict[str, str]]:
    """Try every law on an implementation.

    Args:
        method: the method that is implemented.
        skip: names of laws to leave out.
        reporter: is told which law is tried.

    Returns:
        A row per law: ``law``, ``about``, ``verdict`` (``holds``, ``BROKEN`` or ``skipped``) and ``evidence``.

    Raises:
        UsageError: for an unknown law, or where all laws are skipped.
    """
    import torch

    from lora_mnist_cli.conformance.bench import Bench, BrokenError
    from lora_mnist_cli.conformance.laws import laws_of

    laws = laws_of(method)
    for name in skip:
        refuse_unknown("law", name, list(laws), "laws:")
    if set(skip) >= set(laws):
        raise UsageError("all laws are skipped, so nothing would be tried", hint="leave out some --skip")
    rows, reporter = [], reporter or Silent()
    reporter.plan({_LAWS: len(laws) * _LAW})
    for number, (name, law) in enumerate(laws.items(), start=1):
        reporter.phase(_LAWS, _LAW, piece(number, len(laws)))
        verdict, evidence = SKIPPED, "not tried"
        if name not in skip:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # laws are about computations, not about warnings
                try:
                    verdict, evidence = HOLDS, law.check(Bench(factory, method))
                except BrokenError as error:
                    verdict, evidence = BROKEN, str(error)
                except NotImplementedError as error:
                    what = f": {error}" if str(error) else ""
                    verdict, evidence = BROKEN, f"not implemented{what} (--skip {name} where that is meant)"
                except (Exception, SystemExit) as error:  # noqa: BLE001 - any exception of the code under test is evidence
                    verdict, evidence = BROKEN, f"it raised {_one_line(error)}"
        rows.append({"law": name, "about": law.about, "verdict": verdict, "evidence": evidence})
    return rows


def _one_line(error: BaseException) -> str:
    """Write an exception in one line."""
    if isinstance(error, SystemExit) and error.code == EXIT_TERMINATED:
        raise error  # a signal's, which ends the program wherever it is
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "it ends the process, as if all were well"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
