"""Strategies, one a file."""

BUILTIN = {
    "distinct": "nas.strategies.distinct:distinct",
    "aging_evolution": "nas.strategies.aging_evolution:AgingEvolution",
    "evolution": "nas.strategies.evolution:evolution",
    "grid": "nas.strategies.grid:Grid",
    "halving": "nas.strategies.halving:Halving",
    "hyperband": "nas.strategies.hyperband:hyperband",
    "local_search": "nas.strategies.local_search:LocalSearch",
    "mcts": "nas.strategies.mcts:Mcts",
    "nsga2": "nas.strategies.nsga2:nsga2",
    "nsga3": "nas.strategies.nsga3:nsga3",
    "plus_evolution": "nas.strategies.plus_evolution:plus_evolution",
    "random": "nas.strategies.random_search:RandomSearch",
    "ranking": "nas.strategies.score_ranking:score_ranking",
    "robot": "nas.strategies.robot:robot",
    "robust_ranking": "nas.strategies.robust_ranking:robust_ranking",
    "uniform": "nas.strategies.uniform:Uniform",
    "smbo": "nas.strategies.smbo:Smbo",
}
