"""The command line: options, tables, exit codes. One file per subcommand but those of ``runs``.

It may import every room, and is the only importer of Typer and Rich. Read :mod:`~lora_mnist_cli.cli.app` first, then
any file of :mod:`~lora_mnist_cli.cli.commands`; :mod:`~lora_mnist_cli.cli.shared_options` has the options.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

from lora_mnist_cli.cli.status_line import shown_line
from lora_mnist_cli.system.caller import own_variables
from lora_mnist_cli.system.errors import EXIT_INTERRUPTED, EXIT_TERMINATED


def main(arguments: list[str] | None = None) -> int:
    """Run the command line, with the process's arguments by default; returns the exit code."""
    try:
        _prepare_streams()
        arguments = sys.argv[1:] if arguments is None else arguments
        with shown_line(arguments):
            # In here, so that Ctrl-C while it loads is an interrupt like any other.
            from lora_mnist_cli.cli.app import run

            return run(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def entry() -> NoReturn:
    """Run the command line and end the process at once.

    Everything that was published is on the disk by then. Python's own exit would first take PyTorch apart, which takes
    longer than most commands do.
    """
    own_variables()
    # A cancelled job gets SIGTERM. It ends a stage as Ctrl-C does: nothing half done is left behind.
    signal.signal(signal.SIGTERM, _terminate)
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _terminate(*_: object) -> None:
    raise SystemExit(EXIT_TERMINATED)


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        # A closed stream is None to Python, which would then print to the other one.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it lives as long as the program
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that can't show ± still shows the figures
