"""Figures: a record in, a figure out. The only importer of matplotlib, and never of its global state.

One file per kind has a ``draw`` that takes plain numbers and returns a figure; ``style.save`` writes it. A function
``draw_KIND`` in ``stages/pictures`` gathers the numbers. This room may import ``evaluation`` and the rooms below. Read
:mod:`~lora_mnist_cli.plots.style` first, then any kind.
"""

import logging

from lora_mnist_cli.system.caller import without_backend

# What it logs of a matplotlibrc or a cache folder is not for users, as no figure here depends on them.
logging.getLogger("matplotlib").addHandler(logging.NullHandler())
with without_backend():
    import matplotlib as matplotlib
