"""The claims, a file each: named as their row of ``settings.choices.CLAIMS``, with an ``IMPLEMENTATION``, a
:class:`~lora_mnist_cli.stages.papers.claim.Claim`.

A claim imports torch only where it measures, so that tables and help load none. Rates are chosen on validation images
(:func:`~lora_mnist_cli.stages.papers.seed_runs.best`); the figures of a table are of test images.
"""
