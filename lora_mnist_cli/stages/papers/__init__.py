"""What papers claim, tried here: one file per claim in :mod:`.claims`, and the study that runs them.

Read :mod:`.claim` first: what a claim is, and how figures become a verdict. :mod:`.seed_runs` trains what claims
share; :mod:`.study` runs all seeds and publishes the report.
"""
