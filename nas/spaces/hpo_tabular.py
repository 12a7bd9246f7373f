"""Hyperparameters of three tabular benchmarks: a support vector machine, XGBoost, and Adam in TaskSet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, final

from nas.decision import Categorical, Integer, Real, When
from nas.errors import must, unknown
from nas.space import Space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nas.architecture import Architecture
    from nas.decision import Decision

GAMMAS = (1e-4, 1e-3, 1e-2, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)

BENCHMARKS: Mapping[str, tuple[Decision, ...]] = {
    "svm": (
        Categorical("kernel", ("linear", "poly", "rbf")),
        Integer("log2_C", -5, 6),
        Categorical("gamma", GAMMAS, when=When("kernel", ("rbf",))),
        Integer("degree", 2, 10, when=When("kernel", ("poly",))),
    ),
    "xgboost": (
        Real("log2_min_child_weight", -8.0, 6.0),
        Real("subsample", 0.5, 1.0),
        Real("colsample_bytree", 0.3, 1.0),
        Real("log2_gamma", -20.0, 6.0),
        Real("log2_lambda", -10.0, 8.0),
        Real("eta", 0.0, 1.0),
        Real("log2_alpha", -20.0, 8.0),
        Integer("max_depth_index", 0, 12),
    ),
    "taskset": (
        Real("learning_rate", 1e-8, 10.0, log=True),
        Real("one_minus_beta1", 1e-4, 1.0, log=True),
        Real("one_minus_beta2", 1e-6, 1.0, log=True),
        Real("epsilon", 1e-10, 1e3, log=True),
        Real("l1", 1e-8, 10.0, log=True),
        Real("l2", 1e-8, 10.0, log=True),
        Real("linear_decay", 1e-7, 1e-4, log=True),
        Real("exponential_decay", 1e-6, 1e-3, log=True),
    ),
}
"""The decisions of each, named as in the tables ``hpo_svm``, ``hpo_xgboost`` and ``hpo_taskset``."""


@final
class HpoTabularSpace(Space):
    """The settings that a tabular benchmark was measured over; there is nothing to build.

    The grid of ``svm`` is complete in its table; ``xgboost`` and ``taskset`` have random samples of theirs,
    so that they are searched as a pool or by the surrogate.

    Args:
        benchmark: ``svm``, ``xgboost`` or ``taskset``.

    Raises:
        BadInput: there is no such benchmark.

    Source: Wistuba et al. 2016 (svm); Salinas et al. 2020 (xgboost); Metz et al. 2020, app. D (taskset).
    """

    def __init__(self, benchmark: str = "svm") -> None:
        if benchmark not in BENCHMARKS:
            raise unknown("benchmark", benchmark, BENCHMARKS)
        self.benchmark = benchmark
        self.decisions = BENCHMARKS[benchmark]

    def build(self, architecture: Architecture) -> NoReturn:  # noqa: ARG002 - nothing is built
        """Refuse: these are settings of a training, not a module.

        Raises:
            BadInput: always.
        """
        remedy = "look it up with the evaluator tabular"
        raise must("build", "be asked of a space of modules", f"hpo_tabular {self.benchmark}", remedy)
