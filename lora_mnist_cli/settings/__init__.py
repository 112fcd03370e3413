"""Everything that decides a result: digit sets, configs, recipes, grids, and the tables of words that can be chosen.

Settings are plain data that checks itself. This room imports only ``system``, and no framework. Read
:mod:`~lora_mnist_cli.settings.config` first, then :mod:`~lora_mnist_cli.settings.choices`, whose rows name the methods,
protections and combiners of the other rooms.
"""
