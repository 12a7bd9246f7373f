"""What is wanted: objectives and constraints. The only place where a sign flips."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import numpy as np

from nas.errors import BadInput, must

if TYPE_CHECKING:
    from numpy.typing import NDArray

Goal: TypeAlias = Literal["min", "max", "limit"]
Sense: TypeAlias = Literal["<=", ">="]
BoundOn: TypeAlias = Literal["interval", "median"]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_BOUND = re.compile(
    rf"^\s*(?P<sense><=|>=|<|>)?\s*(?:(?P<value>{_NUMBER})"
    rf"|(?:(?P<factor>{_NUMBER})\s*\*\s*)?baseline(?:\s*(?P<op>[-+*])\s*(?P<offset>{_NUMBER}))?)\s*$"
)
_OBJECTIVE = re.compile(
    r"^\s*(?:(?P<goal>min|max|limit)\s+)?(?P<metric>[A-Za-z_][\w./]*)\s*(?P<bound>[<>].*)?$"
)


@final
@dataclass(frozen=True)
class Bound:
    """A hard constraint: the metric is ``sense`` ``factor * baseline + offset``.

    Args:
        sense: ``<=`` or ``>=``; both include equality.
        offset: in the metric's unit.
        factor: multiple of the baseline's value; 0 for an absolute bound.
    """

    sense: Sense
    offset: float
    factor: float = 0.0

    @property
    def relative(self) -> bool:
        """Whether the bound needs a baseline."""
        return self.factor != 0.0

    def value(self, baseline: float | None) -> float:
        """The bound in the metric's unit.

        Raises:
            BadInput: it is relative and there is no baseline value.
        """
        if not self.relative:
            return self.offset
        if baseline is None:
            raise must("bound", "have a baseline to be relative to", str(self), "set baseline: in the config")
        return self.factor * baseline + self.offset

    def violation(self, value: float, baseline: float | None) -> float:
        """How far a metric is beyond the bound, >= 0 and in the metric's unit; inf for a missing one."""
        if not np.isfinite(value):
            return float("inf")
        gap = value - self.value(baseline)
        return max(0.0, gap if self.sense == "<=" else -gap)

    def __str__(self) -> str:
        if not self.relative:
            return f"{self.sense} {self.offset:g}"
        factor = "" if self.factor == 1 else f"{self.factor:g} * "
        offset = f" {'-' if self.offset < 0 else '+'} {abs(self.offset):g}" if self.offset else ""
        return f"{self.sense} {factor}baseline{offset}"


@final
@dataclass(frozen=True)
class Objective:
    """A metric with a goal and perhaps a bound.

    Args:
        metric: its name.
        goal: ``min`` or ``max`` make it a dimension of the front; ``limit`` is a constraint only.
        bound: a hard constraint: a number (an upper one for ``min`` and ``limit``, a lower one for
            ``max``), a text such as ``">= 0.9"``, ``"<= baseline * 0.5"``, ``"baseline - 0.01"``, or None.
        bound_on: ``interval`` lets an absolute bound hold for the far end of a prediction's interval, where
            the metric has one (`cautious`); ``median`` for the metric itself.

    Raises:
        BadInput: the goal or bound cannot be read, or ``limit`` has no bound.
    """

    metric: str
    goal: Goal
    bound: Bound | None = None
    bound_on: BoundOn = "interval"

    def __post_init__(self) -> None:
        if self.goal not in ("min", "max", "limit"):
            raise must(f"{self.metric}.goal", "be min, max or limit", self.goal)
        if self.bound_on not in ("interval", "median"):
            raise must(f"{self.metric}.bound_on", "be interval or median", self.bound_on)
        object.__setattr__(self, "bound", _bound(self.metric, self.goal, self.bound))
        if self.goal == "limit" and self.bound is None:
            raise must(f"{self.metric}.bound", "be given for goal limit", None, "such as bound: '<= 1e6'")

    def minimised(self, value: float) -> float:
        """The value as something to minimise; inf for a missing or non-finite one."""
        if value != value or value in (float("inf"), float("-inf")):
            return float("inf")
        return -value if self.goal == "max" else value

    def better(self, a: float, b: float) -> bool:
        """Whether value ``a`` is strictly better than ``b``."""
        return self.minimised(a) < self.minimised(b)

    def __str__(self) -> str:
        return f"{self.goal} {self.metric}" + (f" {self.bound}" if self.bound else "")

    def to_json(self) -> dict[str, Any]:
        """As it is written in a config."""
        bound = {"bound": str(self.bound) if self.bound else None}
        on = {} if self.bound_on == "interval" else {"bound_on": self.bound_on}
        return {"metric": self.metric, "goal": self.goal, **bound, **on}


def _bound(metric: str, goal: Goal, given: object) -> Bound | None:
    if given is None or isinstance(given, Bound):
        return given
    default: Sense = ">=" if goal == "max" else "<="
    if isinstance(given, int | float) and not isinstance(given, bool):
        if not np.isfinite(given):
            raise must(f"{metric}.bound", "be finite", given)
        return Bound(default, float(given))
    match = _BOUND.match(given) if isinstance(given, str) else None
    if match is None:
        raise must(f"{metric}.bound", "be a number or a text like '<= 2.0' or '>= baseline - 0.01'", given)
    sense: Sense = default if match["sense"] is None else (">=" if match["sense"][0] == ">" else "<=")
    if match["value"] is not None:
        return Bound(sense, float(match["value"]))
    factor, offset = float(match["factor"] or 1.0), float(match["offset"] or 0.0)
    if match["op"] == "*":
        return Bound(sense, 0.0, factor * offset)
    return Bound(sense, -offset if match["op"] == "-" else offset, factor)


def parse_objectives(given: object) -> tuple[Objective, ...]:
    """Objectives from a text, a list of texts and mappings, or objectives themselves.

    Args:
        given: such as ``"max accuracy, min latency_ms < 2, limit params <= 1e6"``.

    Raises:
        BadInput: an objective cannot be read, a metric has two goals, or nothing is to be optimised.
    """
    items: Sequence[object]
    if isinstance(given, str):
        items = [part for part in given.split(",") if part.strip()]
    elif isinstance(given, Objective | Mapping):
        items = [given]
    elif isinstance(given, Sequence):
        items = given
    else:
        raise must("objectives", "be a text or a list", given, "such as 'max accuracy, min latency_ms < 2'")
    objectives: list[Objective] = []
    for i, item in enumerate(items):
        try:
            objectives.append(_objective(item))
        except BadInput as error:
            raise error.at(str(i)) if not isinstance(given, str) else error from None
    metrics = [o.metric for o in objectives]
    for metric in metrics:
        if metrics.count(metric) > 1:
            raise must("objectives", "name each metric once", metric)
    if not any(o.goal != "limit" for o in objectives):
        raise must("objectives", "hold at least one goal min or max", given)
    return tuple(objectives)


def _objective(item: object) -> Objective:
    if isinstance(item, Objective):
        return item
    if isinstance(item, str):
        match = _OBJECTIVE.match(item)
        if match is None:
            raise must("objective", "read like 'max accuracy' or 'min latency_ms < 2'", item)
        goal: Any = match["goal"] or "limit"
        return Objective(match["metric"], goal, match["bound"])  # type: ignore[arg-type]
    if isinstance(item, Mapping):
        extra = set(item) - {"metric", "goal", "bound", "bound_on"}
        if extra:
            raise must("objective", "have the keys metric, goal, bound and bound_on only", sorted(extra)[0])
        if "metric" not in item:
            raise must("objective", "name its metric", dict(item))
        on = item.get("bound_on", "interval")
        return Objective(item["metric"], item.get("goal", "limit"), item.get("bound"), on)
    raise must("objective", "be a text or a mapping", item)


def cautious(objectives: Sequence[Objective], metrics: Collection[str]) -> tuple[Objective, ...]:
    """The objectives with absolute bounds on the far ends of intervals, as limits of their own.

    Args:
        objectives: ``min latency_ms <= 5`` becomes ``min latency_ms`` and ``limit latency_ms_high <= 5``
            where that metric is there; a lower bound goes to ``…_low``.
        metrics: that are measured, ends of intervals among them.
    """
    named = {o.metric for o in objectives}
    found: list[Objective] = []
    for o in objectives:
        end = f"{o.metric}_{'high' if o.bound is None or o.bound.sense == '<=' else 'low'}"
        fixed = o.bound is None or o.bound.relative or o.bound_on == "median"
        if fixed or end not in metrics or end in named:
            found.append(o)
            continue
        if o.goal != "limit":
            found.append(replace(o, bound=None))
        found.append(Objective(end, "limit", o.bound))
    return tuple(found)


def goals(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """The objectives that are dimensions of the front."""
    return tuple(o for o in objectives if o.goal != "limit")


def minimised(rows: Sequence[Mapping[str, float]], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Stack metric values, all to be minimised.

    Args:
        rows: n mappings of metric to value.
        objectives: those with goal ``limit`` are left out; m remain, "max" columns negated.

    Returns:
        Shape (n, m), metric units; +inf where a metric is missing or not finite.
    """
    dimensions = goals(objectives)
    table = np.array(
        [[o.minimised(row.get(o.metric, np.nan)) for o in dimensions] for row in rows], dtype=np.float64
    )
    return table.reshape(len(rows), len(dimensions))


def violations(
    rows: Sequence[Mapping[str, float]],
    objectives: Sequence[Objective],
    baseline: Mapping[str, float] | None = None,
) -> NDArray[np.float64]:
    """Total constraint violation of each row, each bound's share relative to the bound's magnitude.

    Args:
        rows: n mappings of metric to value.
        objectives: only their bounds count.
        baseline: the baseline's metrics, for relative bounds.

    Returns:
        Shape (n,), >= 0; 0 is feasible, inf where a bounded metric is missing.
    """
    total = np.zeros(len(rows))
    for o in objectives:
        if o.bound is None:
            continue
        reference = None if baseline is None else baseline.get(o.metric)
        scale = max(abs(o.bound.value(reference)), 1e-12)
        total += [o.bound.violation(row.get(o.metric, np.nan), reference) / scale for row in rows]
    return total
