"""What several stages share: choosing and loading models, names, histories, samples, results, reports, loggers.

It imports ``workspace`` and the rooms below. Read :mod:`.loading` first.
"""
