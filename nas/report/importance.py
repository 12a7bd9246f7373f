"""Which decisions matter for an objective, by Optuna."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from nas.decision import Real
from nas.objective import goals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.front import Member
    from nas.objective import Objective
    from nas.space import Space

ENOUGH = 30
"""Architectures below which nothing is said."""
MANY = 100
"""Architectures from which on PED-ANOVA takes the place of fANOVA, which is slower and needs fewer."""


@final
@dataclass(frozen=True)
class Importance:
    """Shares of the decisions that varied, which sum to 1, the largest first.

    Attributes:
        objective: what they are important for.
        shares: by decision.
        method: fANOVA or PED-ANOVA.
        architectures: that it was found from.
    """

    objective: Objective
    shares: Mapping[str, float]
    method: str
    architectures: int


def importances(
    members: Sequence[Member], space: Space, objectives: Sequence[Objective], seed: int
) -> list[Importance]:
    """Importance of the decisions for each goal that enough architectures have.

    An inactive decision counts as one further option of its own. Up to 99 architectures it is fANOVA, the
    share of the variance that a decision alone explains in a random forest; from 100 on PED-ANOVA, how much
    a decision's values among the best tenth differ from those among all that were measured.

    Source: Hutter, Hoos and Leyton-Brown 2014; Watanabe, Bansal and Hutter 2023; as Optuna has them.
    """
    found = []
    for objective in goals(objectives):
        rows = [(m, m.values[objective.metric]) for m in members if objective.metric in m.values]
        rows = [(m, v) for m, v in rows if objective.minimised(v) != float("inf")]
        if len(rows) < ENOUGH or len({v for _, v in rows}) < 2:
            continue
        shares = _shares([m for m, _ in rows], [objective.minimised(v) for _, v in rows], space, seed)
        if shares:
            method = "PED-ANOVA" if len(rows) >= MANY else "fANOVA"
            found.append(Importance(objective, shares, method, len(rows)))
    return found


def _shares(members: Sequence[Member], values: Sequence[float], space: Space, seed: int) -> dict[str, float]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    columns = _columns(members, space)
    if not columns:
        return {}
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.RandomSampler(seed=seed))
    distributions = {name: distribution for name, (distribution, _) in columns.items()}
    study.add_trials(
        [
            optuna.create_trial(
                params={name: column[i] for name, (_, column) in columns.items()},
                distributions=distributions,
                value=value,
            )
            for i, value in enumerate(values)
        ]
    )
    many = len(members) >= MANY
    evaluator = PedAnovaImportanceEvaluator() if many else FanovaImportanceEvaluator(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluator is experimental, or that nothing differs
        raw = optuna.importance.get_param_importances(study, evaluator=evaluator)
    shares = {name: float(share) for name, share in raw.items()}
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def _columns(members: Sequence[Member], space: Space) -> dict[str, tuple[Any, list[Any]]]:
    """By decision that varies: Optuna's distribution of it, and its value in each architecture.

    A plain real decision keeps its scale; everything else is the position of the option, the inactive one
    last, since Optuna knows no conditions.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, tuple[Any, list[Any]]] = {}
    for leaf in space.leaves:
        column = [m.architecture.get(leaf.name) if leaf.name in m.architecture else _OFF for m in members]
        seen = list(dict.fromkeys(column))
        if len(seen) < 2:
            continue
        if isinstance(leaf, Real) and _OFF not in seen:
            found[leaf.name] = (FloatDistribution(leaf.low, leaf.high, log=leaf.log), column)
        elif not isinstance(leaf, Real):
            places = {value: i for i, value in enumerate(seen)}
            found[leaf.name] = (
                CategoricalDistribution(range(len(seen))),
                [places[value] for value in column],
            )
    return found


_OFF = object()
"""Stands for a decision that is inactive."""
