"""What decides a result, and every word that a user can choose: digit sets, configs, recipes, grids, tables of choices.

Settings check themselves and are plain data: this room imports ``system`` alone, and no framework. Read
:mod:`~lora_mnist_cli.settings.config` first, then :mod:`~lora_mnist_cli.settings.choices`, the tables that everything
else is looked up in.
"""
