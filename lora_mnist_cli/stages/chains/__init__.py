"""Chains of tasks: strategies against forgetting side by side, over seeds, in a report. Read :mod:`.run` first."""
