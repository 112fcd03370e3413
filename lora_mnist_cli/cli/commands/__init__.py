"""The subcommands, one file per subcommand. :data:`lora_mnist_cli.cli.groups.COMMANDS` lists them."""
