"""``lora-mnist explore``."""

from pathlib import Path
from typing import Annotated

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.stages.exploring import PAGE_FILE, explore
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.output_file import is_stdout


@o.grouped
def command(
    *,
    names: Annotated[
        list[str] | None,
        o.artifact_argument("Sweeps, adapters or a study's report; the newest sweep by default.", "NAME"),
    ] = None,
    file: Annotated[Path, o.file("The HTML file.", flag="--output")] = Path(PAGE_FILE),
    show: Annotated[bool, o.switch("--open", "Open the page in the browser.")] = False,
    route: Annotated[
        bool, o.switch("--route", "Show what the digits' densities say too; protected adapters have it in any case.")
    ] = False,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Write a page to play with: draw a digit, turn alpha, see what the adapter adds and what is forgotten.

    The page is one file. It opens in a browser from the disk, needs no network and asks nobody for anything.
    """
    if show and is_stdout(file):
        raise UsageError("--open needs a file, and the page goes to standard output", hint="leave one out")
    workspace = folders.workspace(output)
    page = explore(names or (), output=file, route=route, workspace=workspace)
    document = {
        "artifact": page.adapters[0].name, "base": page.base.name, "adapters": [each.name for each in page.adapters],
        "output": str(page.path), "bytes": page.size,
    }  # fmt: skip
    output.print("explore", document, [str(page.path)], beside=page.path)
    if show:
        import webbrowser

        webbrowser.open(page.path.resolve().as_uri())
    content = f"{page.base.name} and {counted(len(page.adapters), 'adapter')}"
    workspace.reporter.notice(f"the page shows {content}" + ("" if show else "; --open opens it in the browser"))
