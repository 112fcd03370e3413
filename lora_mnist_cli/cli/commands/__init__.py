"""The subcommands, one file each. :data:`lora_mnist_cli.cli.app.COMMANDS` lists them."""
