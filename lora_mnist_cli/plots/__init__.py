"""Figures: a record in, a figure out. The only importer of matplotlib, and never of its global state.

One file a kind, each with a ``draw`` that takes plain numbers and returns a figure; ``style.save`` writes it.
"""
