"""``lora-mnist runs``: what is there, whether it is sound, and what becomes of it. No torch."""

from __future__ import annotations

import typer

from lora_mnist_cli.cli.runs import handing, keeping, listing, telling

app = typer.Typer(help="List, show, verify, hand on and remove artifacts.", no_args_is_help=True)
app.command("list")(listing.list_command)
app.command("latest")(listing.latest_command)
app.command("path")(listing.path_command)
app.command("show")(telling.show_command)
app.command("lineage")(telling.lineage_command)
app.command("diff")(telling.diff_command)
app.command("verify")(keeping.verify_command)
app.command("clean")(keeping.clean_command)
app.command("remove")(keeping.remove_command)
app.command("tag")(handing.tag_command)
app.command("untag")(handing.untag_command)
app.command("export")(handing.export_command)
app.command("import")(handing.import_command)
