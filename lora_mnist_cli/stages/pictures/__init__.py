"""Picture kinds: a function ``draw_KIND`` per kind gathers what ``plots/KIND.py`` draws, from artifacts and images.

Kinds that draw sweeps are in :mod:`.of_sweeps`, the others in :mod:`.of_models`, which is to be read first. This room
may import the other stages, except ``plotting``, which has the table of kinds.
"""
