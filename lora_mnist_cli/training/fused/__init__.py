"""Many adapters on one frozen base, each trained by a thread block of a GPU, an epoch in one launch.

Read :mod:`.trainer` first, then :mod:`.kernel`. Only :mod:`.kernel` and :mod:`.products` import Triton, and only
:mod:`.launch` imports them, when a training is prepared. Triton's interpreter runs them on a CPU
(``TRITON_INTERPRET=1``), which tests use.
"""
