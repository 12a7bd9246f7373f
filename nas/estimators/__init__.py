"""Evaluators, one a file."""

BUILTIN = {
    "cost": "nas.estimators.cost:CostEvaluator",
    "latency_measured": "nas.estimators.latency_measured:LatencyMeasured",
    "program_optimizer": "nas.estimators.program:ProgramOptimizer",
    "program_regression": "nas.estimators.program:ProgramRegression",
    "tabular": "nas.estimators.tabular:TabularEvaluator",
    "tabular_surrogate": "nas.estimators.tabular_surrogate:TabularSurrogate",
    "training": "nas.estimators.training:TrainingEvaluator",
}

MEASURES = {
    "accuracy": "training",
    "loss": "training",
    "train_loss": "training",
    "params": "cost",
    "trainable_params": "cost",
    "macs": "cost",
    "activation_bytes": "cost",
    "model_bytes": "cost",
    "latency_ms": "latency_measured",
}
"""The default evaluator of each metric, used for objectives that no given evaluator measures."""
