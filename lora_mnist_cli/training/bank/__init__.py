"""Many adapters on one frozen base, trained together. Read :mod:`.trainer` first, then :mod:`.cohort`."""
