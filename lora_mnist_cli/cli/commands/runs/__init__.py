"""``lora-mnist runs``: which artifacts exist, whether they are damaged, and who gets them. No torch."""

import typer

from lora_mnist_cli.cli.commands.runs import find, inspect, maintain, repeat, share
from lora_mnist_cli.cli.examples import epilog

app = typer.Typer(help="List, show, verify, share and remove artifacts.", no_args_is_help=True, epilog=epilog("runs"))
for command in (
    find.list_command, find.latest_command, find.path_command,
    inspect.show_command, inspect.lineage_command, inspect.diff_command,
    repeat.command_command, repeat.settings_command, repeat.rerun_command,
    maintain.verify_command, maintain.clean_command, maintain.remove_command,
    share.tag_command, share.untag_command, share.export_command, share.import_command,
):  # fmt: skip
    name = command.__name__.removesuffix("_command")
    app.command(name, epilog=epilog(f"runs {name}"))(command)
