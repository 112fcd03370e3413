"""The program: its commands, and the one place where an exception becomes a line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback

import typer

from lora_mnist_cli.cli import evaluate, finetune, plot, reproduce, runs, sweep, train_base
from lora_mnist_cli.cli.console import say
from lora_mnist_cli.cli.options import Version
from lora_mnist_cli.errors import EXIT_DONE, EXIT_INTERRUPTED, LoraMnistError, MachineError

EXIT_BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended."""

app = typer.Typer(
    name="lora-mnist",
    help="A small laboratory for LoRA on MNIST: train a base, adapt it, score it, draw it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train-base")(train_base.command)
app.command("finetune")(finetune.command)
app.command("sweep")(sweep.command)
app.command("evaluate")(evaluate.command)
app.command("plot")(plot.command)
app.command("reproduce")(reproduce.command)
app.add_typer(runs.app, name="runs")


@app.callback()
def root(version: Version = False) -> None:
    """A small laboratory for LoRA on MNIST: train a base, adapt it, score it, draw it."""


# Typer brings its own Click or another's; the base of its errors is the same relative either way.
_ClickError = typer.BadParameter.__mro__[2]


def run(arguments: list[str]) -> int:
    """Run a command; returns the exit code.

    Args:
        arguments: what follows the program's name.
    """
    arguments = arguments or ["--help"]
    try:
        code = app(args=arguments, prog_name="lora-mnist", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except SystemExit as stop:  # Typer and Rich end the program themselves when the reader of a pipe has left
        code = EXIT_BROKEN_PIPE if isinstance(stop.__context__, BrokenPipeError) else stop.code
    except BrokenPipeError:
        code = EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the one place that must let nothing through
        if "--verbose" in arguments:
            traceback.print_exc()
        code = _explain(error)
    if code == EXIT_INTERRUPTED:
        say("interrupted; nothing half done is left")
    _let_go_of_stdout()
    return code if isinstance(code, int) else EXIT_DONE


def _let_go_of_stdout() -> None:
    """Drop what stdout can't take: the interpreter would try again at its end, and fail with a code of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> int:
    """One line on stderr for an exception; returns its exit code."""
    if isinstance(error, LoraMnistError):
        say(f"error: {error}")
        return error.exit_code
    if isinstance(error, _ClickError):
        message = getattr(error, "format_message", error.__str__)()
        context = getattr(error, "ctx", None)
        helpful = f" ({context.command_path} --help)" if context is not None else ""
        if message:
            say(f"error: {message}{helpful}")
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, OSError):
        say(f"error: {error}")
    elif isinstance(error, MemoryError):
        say("error: out of memory")
    else:
        say(f"error: a defect of lora-mnist: {type(error).__name__}: {error} (--verbose shows where)")
    return MachineError.exit_code
