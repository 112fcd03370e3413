"""The subcommands, one file per subcommand; those of ``runs`` share the files of :mod:`.runs`.

:data:`lora_mnist_cli.cli.groups.COMMANDS` lists them.
"""
