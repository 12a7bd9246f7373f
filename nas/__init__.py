"""Neural architecture and hyperparameter search for your task on your machine.

The contracts are here; plugins, studies and the command line load when they are named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nas.architecture import Architecture, Fixed, Mixture
from nas.decision import Categorical, Integer, Nested, OneOf, Real, Repeat, When
from nas.encoding import Encoder
from nas.errors import BadInput, Diverged, Incompatible, Infeasible, NasError, RunFailed, StorageError
from nas.evaluator import Combined, Evaluator, FunctionEvaluator, Known
from nas.objective import Bound, Objective, parse_objectives
from nas.proposal import Failure, Measurement, Proposal, Trial
from nas.registry import register_evaluator, register_space, register_strategy, register_task
from nas.rng import derive, stream
from nas.space import Adaptation, Graph, Space
from nas.strategy import Distinct, Scripted, Strategy
from nas.supernet import Supernet
from nas.target import Target
from nas.task import Task

if TYPE_CHECKING:
    from nas.budget import Budget
    from nas.front import Front
    from nas.history import History, MemoryHistory
    from nas.memo import Memoized
    from nas.run import search
    from nas.sharing.adopted import elastic
    from nas.study import Study

__version__ = "0.1.0"

_LATER = {
    "Budget": "nas.budget",
    "Front": "nas.front",
    "History": "nas.history",
    "MemoryHistory": "nas.history",
    "Memoized": "nas.memo",
    "Study": "nas.study",
    "elastic": "nas.sharing.adopted",
    "search": "nas.run",
}


def __getattr__(name: str) -> Any:
    """Load what stands on the contracts only when it is asked for."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'nas' has no attribute {name!r}")


__all__ = [
    "Adaptation",
    "Architecture",
    "BadInput",
    "Bound",
    "Budget",
    "Categorical",
    "Combined",
    "Distinct",
    "Diverged",
    "Encoder",
    "Evaluator",
    "Failure",
    "Fixed",
    "Front",
    "FunctionEvaluator",
    "Graph",
    "History",
    "Incompatible",
    "Infeasible",
    "Integer",
    "Known",
    "Measurement",
    "Memoized",
    "MemoryHistory",
    "Mixture",
    "NasError",
    "Nested",
    "Objective",
    "OneOf",
    "Proposal",
    "Real",
    "Repeat",
    "RunFailed",
    "Scripted",
    "Space",
    "StorageError",
    "Strategy",
    "Study",
    "Supernet",
    "Target",
    "Task",
    "Trial",
    "When",
    "derive",
    "elastic",
    "parse_objectives",
    "register_evaluator",
    "register_space",
    "register_strategy",
    "register_task",
    "search",
    "stream",
]
