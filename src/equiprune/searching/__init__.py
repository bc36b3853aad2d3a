"""A budget in, candidates measured, a Pareto front out."""
