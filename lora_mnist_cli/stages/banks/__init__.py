"""Adapters in banks: which are trained together, where, and how they become artifacts.

It imports ``records`` and ``workspace``. Read :mod:`.work` first: it plans, has banks trained and publishes.
:mod:`.cut` decides which adapters share a bank, :mod:`.job` trains one, :mod:`.backend` is the contract of a place to
train.
"""
