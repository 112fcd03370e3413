"""The program: its commands, and the one place where an exception becomes a line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator

import typer

from lora_mnist_cli.cli.basics import Version, say
from lora_mnist_cli.cli.loading import watched_imports
from lora_mnist_cli.cli.status_line import LINE, activity
from lora_mnist_cli.system.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_TERMINATED, LoraMnistError, MachineError

EXIT_BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended."""

FORCING = ("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE")
"""Variables by which Typer or Rich takes any stream for a terminal."""
HELP_WIDTH = "120"

COMMANDS = {
    "train-base": "Train the base: a small MLP that learns some of the digits.",
    "finetune": "Train one adapter on a frozen base, by LoRA or another method; by default on the digits new to "
    "the base.",
    "sweep": "Train an adapter for each rank and seed, or each combination of a grid, and compare them in one table.",
    "evaluate": "Score an adapter or a base on the test images; the newest adapter by default.",
    "forgetting": "Measure what an adapter forgot of its base's digits, and what is merely outranked.",
    "chain": "Learn tasks one after the other, by each strategy against forgetting, and compare what is left of them.",
    "predict": "Recognise the digit on a picture, with the base and the adapter side by side.",
    "compare": "Say which of two sweeps, or of two models, is better, and whether the data can tell.",
    "gate": "Compare the mean over a sweep's seeds with thresholds: PASS, FAIL or INCONCLUSIVE.",
    "merge": "Publish an adapter merged into its base as a new base, with a certificate of what that changed.",
    "combine": "Publish one adapter made of several on the same base, and say how much of them it holds.",
    "export": "Write a base, or an adapter merged into its base, as a file for other programs.",
    "import-adapter": "Publish an adapter that PEFT trained on an exported base as an adapter of that base, scored "
    "like any other.",
    "conformance": "Test the laws of LoRA on anyone's implementation, behind a small protocol.",
    "plot": "Draw a picture of an artifact, and print where it is; without a kind, list the kinds.",
    "explore": "Write a page to play with: draw a digit, turn alpha, see what the adapter adds and what is forgotten.",
    "reproduce": "Run the whole study and compare its figures with the original's, with every picture.",
    "runs": "List, show, verify, share and remove artifacts.",
}  # fmt: skip
"""What each command does. It stands here as well so that the program's help loads no command."""


def program(wanted: str | None = None) -> typer.Typer:
    """Build the program with the ``wanted`` command loaded, and the others by name and sentence only; or all loaded."""
    about = "A small laboratory for LoRA on MNIST: train a base, adapt it, score it, draw it."
    app = typer.Typer(
        name="lora-mnist", help=about, no_args_is_help=True, pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip
    app.callback(help=about)(_root)
    for name, sentence in COMMANDS.items():
        if wanted not in (None, name):
            app.command(name, help=sentence)(_not_loaded)
            continue
        loaded = importlib.import_module(f"lora_mnist_cli.cli.commands.{name.replace('-', '_')}")
        if hasattr(loaded, "app"):
            app.add_typer(loaded.app, name=name)
        else:
            app.command(name)(loaded.command)
    return app


def _not_loaded() -> None:
    raise AssertionError("a command that was not asked for")


def _root(version: Version = False) -> None:
    """Take the options in front of a command."""


def run(arguments: list[str]) -> int:
    """Run a command, from what follows the program's name; returns the exit code."""
    if arguments in ([], ["runs"]):  # a group without a command shows its help, and that is no mistake
        arguments = [*arguments, "--help"]
    try:
        # The shell's completion may ask for any of them.
        completing = any(name.endswith("_COMPLETE") for name in os.environ)
        wanted = None if completing else next((word for word in arguments if not word.startswith("-")), "")
        doing = activity(arguments) or ""
        with _plain_off_terminal(), watched_imports(doing):
            command = program(wanted)
            LINE.change(doing)  # what is loaded from here on is told by name
            code = command(args=arguments, prog_name="lora-mnist", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except SystemExit as stop:  # Typer and Rich end the program themselves when the reader of a pipe has left
        code = EXIT_BROKEN_PIPE if isinstance(stop.__context__, BrokenPipeError) else stop.code
    except BrokenPipeError:
        code = EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the one place that must let nothing through
        LINE.end()
        if "--verbose" in arguments:
            traceback.print_exc()
        code = _explain(error)
    if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
        say("interrupted; nothing half done is left")
    _let_go_of_stdout()
    return code if isinstance(code, int) else EXIT_DONE


@contextlib.contextmanager
def _plain_off_terminal() -> Iterator[None]:
    """Hide :data:`FORCING` from Typer's help while a command runs, and give help a fixed width, off a terminal.

    Typer reads these variables when it first writes help.
    """
    if sys.stdout.isatty():
        yield
        return
    hidden = {name: os.environ.pop(name) for name in FORCING if name in os.environ}
    os.environ.setdefault("TERMINAL_WIDTH", HELP_WIDTH)
    try:
        yield
    finally:
        os.environ.update(hidden)


def _let_go_of_stdout() -> None:
    """Drop what stdout can't take: the interpreter would try again at exit, and fail with another code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> int:
    """Print one line on stderr for an exception; returns its exit code."""
    if isinstance(error, LoraMnistError):
        say(f"error: {error}")
        return error.exit_code
    if hasattr(error, "format_message"):  # one of Click's; Typer brings a Click of its own, or takes the installed one
        context = getattr(error, "ctx", None)
        helpful = f" ({context.command_path} --help)" if context is not None else ""
        if message := error.format_message():
            say(f"error: {message}{helpful}")
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, OSError):
        say(f"error: {error}")
    elif isinstance(error, MemoryError):
        say("error: out of memory")
    else:
        say(f"error: a defect of lora-mnist: {type(error).__name__}: {error} (--verbose shows where)")
    return MachineError.exit_code
