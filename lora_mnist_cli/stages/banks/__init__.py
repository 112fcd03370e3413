"""Adapters in banks: which are trained together, where, and what is published of them. Read :mod:`.work` first."""
