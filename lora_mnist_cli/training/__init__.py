"""How weights are trained: the engine, optimisers, the MLP's own step, the bank, objectives, protections, EWC.

It may import ``data``, ``models``, ``evaluation`` and the rooms below, and torch; :mod:`.engines.lightning`
alone imports Lightning. Read :mod:`.trainer` first, then :mod:`.engines` and :mod:`.bank.trainer`.
"""
