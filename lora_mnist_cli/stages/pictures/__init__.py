"""Picture kinds: one file per kind gathers what ``plots/KIND.py`` draws, from artifacts, their scores and images.

A kind is a row in :data:`lora_mnist_cli.stages.plotting.KINDS` and two files of its name, found by that name: the one
here has a function ``picture`` that gathers, the one in :mod:`lora_mnist_cli.plots` the ``draw`` that it calls. The
kinds share :mod:`.options`, :mod:`.models` and :mod:`.sweeps`. This room may import the other stages, except
``plotting``. Read :mod:`.history` first.
"""
