"""Trainings that are looked at along the way, for claims about how methods learn.

Read :mod:`.watching` first: the loop that all trials share. The other files hold what can be trained by it.
"""
