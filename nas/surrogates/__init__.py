"""Models of what was measured, for strategies: scores from metrics, Gaussian processes."""
