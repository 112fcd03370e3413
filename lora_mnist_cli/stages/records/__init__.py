"""Helpers that several stages share: choosing, loading, names, histories, samples, results, reports, loggers.

It imports ``workspace`` and the rooms below. Read :mod:`.loading` first.
"""
