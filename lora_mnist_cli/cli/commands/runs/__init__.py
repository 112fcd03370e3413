"""``lora-mnist runs``: which artifacts exist, whether they are sound, and who gets them. No torch."""

from __future__ import annotations

import typer

from lora_mnist_cli.cli.commands.runs import find, inspect, maintain, share

app = typer.Typer(help="List, show, verify, share and remove artifacts.", no_args_is_help=True)
app.command("list")(find.list_command)
app.command("latest")(find.latest_command)
app.command("path")(find.path_command)
app.command("show")(inspect.show_command)
app.command("lineage")(inspect.lineage_command)
app.command("diff")(inspect.diff_command)
app.command("verify")(maintain.verify_command)
app.command("clean")(maintain.clean_command)
app.command("remove")(maintain.remove_command)
app.command("tag")(share.tag_command)
app.command("untag")(share.untag_command)
app.command("export")(share.export_command)
app.command("import")(share.import_command)
