"""Strategies, one a file."""

BUILTIN = {
    "aging_evolution": "nas.strategies.aging_evolution:AgingEvolution",
    "evolution": "nas.strategies.evolution:evolution",
    "grid": "nas.strategies.grid:Grid",
    "local_search": "nas.strategies.local_search:LocalSearch",
    "nsga2": "nas.strategies.nsga2:Nsga2",
    "random": "nas.strategies.random_search:RandomSearch",
}
