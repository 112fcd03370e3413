"""Helpers that several stages share: resolving, loading, histories, samples, results, publishing, loggers.

It imports ``workspace`` and the rooms below. Read :mod:`.loading` first.
"""
