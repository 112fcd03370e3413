"""Helpers that several stages share: choosing, loading, histories, samples, results, publishing, loggers.

It imports ``workspace`` and the rooms below. Read :mod:`.loading` first.
"""
