"""Which decisions matter for an objective, by Optuna."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import isfinite, nan
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
MOST = 2000
"""Architectures that are looked at; of more, evenly chosen ones."""


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
    """Importance of the decisions for each goal, from architectures that have all of them.

    An inactive decision counts as one further option of its own. Up to 99 architectures it is fANOVA, the
    share of the variance that a decision alone explains in a random forest; from 100 on PED-ANOVA, how much
    a decision's values among the best tenth differ from those among all that were measured.

    Source: Hutter, Hoos and Leyton-Brown 2014; Watanabe, Bansal and Hutter 2023; as Optuna has them.
    """
    aims = goals(objectives)
    found = [m for m in members if all(isfinite(o.minimised(m.values.get(o.metric, nan))) for o in aims)]
    found = (
        [found[i] for i in sorted({int(i * len(found) / MOST) for i in range(MOST)})]
        if len(found) > MOST
        else found
    )
    if len(found) < ENOUGH:
        return []
    values = [[o.minimised(m.values[o.metric]) for o in aims] for m in found]
    study = _study(found, values, space, seed)
    method = "PED-ANOVA" if len(found) >= MANY else "fANOVA"
    shares = [
        _shares(study, i, method, seed) if len({v[i] for v in values}) > 1 else {} for i in range(len(aims))
    ]
    return [Importance(o, s, method, len(found)) for o, s in zip(aims, shares, strict=True) if s]


def _study(found: Sequence[Member], values: Sequence[Sequence[float]], space: Space, seed: int) -> Any:
    """What was measured as a study of Optuna's, every goal to be minimised."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    columns = _columns(found, space)
    distributions = {name: distribution for name, (distribution, _) in columns.items()}
    study = optuna.create_study(
        directions=["minimize"] * len(values[0]), sampler=optuna.samplers.RandomSampler(seed=seed)
    )
    study.add_trials(
        [
            optuna.create_trial(
                params={name: column[i] for name, (_, column) in columns.items()},
                distributions=distributions,
                values=row,
            )
            for i, row in enumerate(values)
        ]
    )
    return study


def _shares(study: Any, goal: int, method: str, seed: int) -> dict[str, float]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    if not study.get_trials(deepcopy=False)[0].params:
        return {}
    evaluator = (
        PedAnovaImportanceEvaluator() if method == "PED-ANOVA" else FanovaImportanceEvaluator(seed=seed)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluator is experimental, or that nothing differs
        raw = optuna.importance.get_param_importances(
            study, evaluator=evaluator, target=lambda trial: trial.values[goal]
        )
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
