"""What the caller's process has set that must not decide what a stage computes, or whether it works.

A notebook sets PyTorch's defaults, names matplotlib's backend and has its numbers from NumPy. Inside a stage the
settings are those of a new process, afterwards the caller's again, and numbers are Python's. The program and worker
processes, which nobody else shares, take no variables of libraries either.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from functools import wraps
from itertools import zip_longest
from numbers import Real
from typing import Any, ParamSpec, TypeVar

from lora_mnist_cli.system.errors import MachineError

BACKEND_VARIABLE = "MPLBACKEND"
_OF_LIBRARIES = (
    "TORCH", "PYTORCH_", "ATEN_", "NPY_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_", "OMP_", "GOMP_", "KMP_", "CUBLAS",
    "NVIDIA_TF32", "PL_",
)  # fmt: skip
_HARMLESS = re.compile("(OMP|MKL|OPENBLAS)_NUM_THREADS=[1-9][0-9]{0,2}", re.ASCII)
P = ParamSpec("P")
R = TypeVar("R")


def stage(function: Callable[P, R]) -> Callable[P, R]:
    """Make a stage of a function: it takes Python's values (:func:`plain`) and has :func:`own_torch_settings`.

    An argument that is declared as a ``Sequence`` is a tuple in the function, also where a caller gives an iterator,
    which could be read once only, or a single value.
    """
    declared = {name: str(kind) for name, kind in function.__annotations__.items()}

    def taken(name: str, value: Any) -> Any:
        value = plain(value)
        if not declared.get(name, "").startswith("Sequence["):
            return value
        if value is None:
            return None if declared[name].endswith("None") else ()
        several = isinstance(value, (Sequence, Set, Mapping, Iterator)) and not isinstance(value, str)
        return plain(list(value) if several else [value])

    @wraps(function)
    def called(*arguments: P.args, **named: P.kwargs) -> R:
        with own_torch_settings():
            by_name: Any = {name: taken(name, value) for name, value in named.items()}
            # Surplus arguments have no name; the call refuses them.
            by_place: Any = [taken(*pair) for pair in zip_longest([*declared][: len(arguments)], arguments)]
            return function(*by_place, **by_name)

    return called


def plain(value: Any, kind: type = object) -> Any:
    """Return what NumPy, PyTorch or pandas hold as Python's own numbers and lists, and anything else as it is.

    A path becomes a text, which every stage takes: it may stand for an artifact or a file.

    Args:
        kind: ``float`` for what has to be one: 1 and 1.0 are the same setting, and must have the same fingerprint.
    """
    if type(value) in (type(None), str, bool) or type(value) is kind:
        return value
    if isinstance(value, (bytes, os.PathLike)):
        return os.fsdecode(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if type(value) in (list, tuple):
        return tuple(plain(each, kind) for each in value)
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    if kind is float and isinstance(value, (Real, Decimal)) and not isinstance(value, bool):
        with suppress(OverflowError):
            return float(value)
    return value


@contextmanager
def own_torch_settings() -> Iterator[None]:
    """Give PyTorch the settings of a new process inside the block; also a decorator, for a stage.

    Default dtype and device, autocast, gradients, inference mode, precision of products, deterministic algorithms and
    the CPU's random generator are as before after the block. Where PyTorch was not imported, nobody has changed them,
    and nothing is done.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    deterministic = torch.get_deterministic_debug_mode()
    with ExitStack() as settings:
        settings.callback(torch.set_default_dtype, dtype)
        settings.callback(torch.set_float32_matmul_precision, precision)
        settings.callback(torch.set_deterministic_debug_mode, deterministic)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        torch.set_deterministic_debug_mode("default")
        settings.enter_context(torch.inference_mode(False))
        settings.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                settings.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":  # the block's own device costs time in each operation
            settings.enter_context(torch.device("cpu"))
        settings.enter_context(torch.random.fork_rng(devices=[]))  # a model's start is drawn before it is replaced
        yield


def own_variables() -> None:
    """Remove the variables that make libraries refuse to load, compute differently or print; call it before loading.

    A number of threads stays: it decides how many cores are used where no ``--threads`` does. Matplotlib's backend is
    Agg: no command shows a figure, and the backend of another environment may be missing in this one.
    """
    for name, value in list(os.environ.items()):
        if name.startswith(_OF_LIBRARIES) and not _HARMLESS.fullmatch(f"{name}={value}"):
            del os.environ[name]
    os.environ[BACKEND_VARIABLE] = "Agg"


@contextmanager
def without_backend() -> Iterator[None]:
    """Let matplotlib be imported inside the block whatever backend the environment names; no figure here needs one.

    After the block the environment is as before, and matplotlib takes the backend that it names, if it knows it.

    Raises:
        MachineError: where matplotlib can't read its settings file.
    """
    named, loaded = os.environ.pop(BACKEND_VARIABLE, None), "matplotlib" in sys.modules
    try:
        yield
    except UnicodeDecodeError as error:  # matplotlib passes over anything else that is wrong in that file
        problem = f"matplotlib refuses its settings file, matplotlibrc: {error.reason}"
        raise MachineError(problem, hint="save it in UTF-8, or remove it") from error
    finally:
        if named is not None:
            os.environ[BACKEND_VARIABLE] = named
            if not loaded and "matplotlib" in sys.modules:
                with suppress(ValueError):
                    sys.modules["matplotlib"].rcParams["backend"] = named
