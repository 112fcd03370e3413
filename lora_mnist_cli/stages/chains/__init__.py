"""Chains of tasks: strategies against forgetting, run side by side over seeds, in a report. Read :mod:`.run` first."""
