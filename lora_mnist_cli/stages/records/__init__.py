"""What several stages share: loading models, histories, samples of sweeps, rows of results, reports, loggers."""
