"""What can be chosen: categorical, integer and real decisions, conditions, and composites of them.

Composites (`Repeat`, `OneOf`, `Nested`) are flattened into plain decisions with path names such as
``stage.2.kernel``; strategies, encodings and keys see only those.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

from nas.errors import BadInput, must

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

Value: TypeAlias = str | int | float | bool | None
"""What a decision can be set to: JSON scalars, so that every architecture is plain text."""


@final
@dataclass(frozen=True)
class When:
    """A condition: the decision called ``name`` is active and has one of ``values``.

    Args:
        name: an earlier categorical or integer decision; inside a composite, first looked for there.
        values: the values that switch the conditional decision on; not empty.
    """

    name: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        """Accept one value or any sequence of values."""
        values = self.values
        object.__setattr__(
            self, "values", tuple(values) if isinstance(values, list | tuple | range) else (values,)
        )
        if not self.values:
            raise must("When.values", "name at least one value", self.values)


@dataclass(frozen=True)
class Decision(ABC):
    """One thing to choose. Its conditions must all hold for it to be active.

    Attributes:
        name: not empty; dots separate the levels of a path.
        when: conditions; a single `When` may be given.
    """

    name: str
    when: When | tuple[When, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise must("a decision's name", "be a text that is not empty", self.name)
        when = (self.when,) if isinstance(self.when, When) else tuple(self.when or ())
        if not all(isinstance(condition, When) for condition in when):
            raise must(f"{self.name}.when", "be nas.When(name, values) or a tuple of them", self.when)
        object.__setattr__(self, "when", when)

    @property
    def conditions(self) -> tuple[When, ...]:
        """The conditions, all of which must hold."""
        return (self.when,) if isinstance(self.when, When) else self.when

    @property
    @abstractmethod
    def size(self) -> float:
        """Number of values; ``inf`` for a real decision."""

    @property
    @abstractmethod
    def values(self) -> tuple[Value, ...]:
        """Every value in order.

        Raises:
            BadInput: the decision is real.
        """

    @abstractmethod
    def canonical(self, value: Any) -> Value:
        """The decision's own form of a value.

        Raises:
            BadInput: the value is not one of the decision's.
        """

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Value:
        """A value drawn uniformly (log-uniformly where ``log`` is set)."""

    @abstractmethod
    def mutate(self, value: Any, rng: np.random.Generator) -> Value:
        """Another value; a number stays near. The same value only where there is no other."""

    @abstractmethod
    def neighbours(self, value: Any, step: float = 0.1) -> tuple[Value, ...]:
        """The values one step away: all others of a categorical decision, the nearest of a number.

        Args:
            value: one of the decision's.
            step: how far a number moves, as a share of its range on its own scale; in (0, 1].
        """


@final
@dataclass(frozen=True)
class Categorical(Decision):
    """One of some options without an order.

    Args:
        options: distinct JSON scalars, at least one.
    """

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.options, str) or not isinstance(self.options, Sequence):
            raise must(f"{self.name}.options", "be a tuple of values", self.options)
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options:
            raise must(f"{self.name}.options", "hold at least one value", self.options)
        for option in self.options:
            if not isinstance(option, str | int | float | bool | None) or option != option:
                raise must(f"{self.name}.options", "hold texts, numbers, booleans or None", option)
        if len(self.index) != len(self.options):
            raise must(f"{self.name}.options", "be distinct (1, 1.0 and True are the same)", self.options)

    @cached_property
    def index(self) -> Mapping[Value, int]:
        """Position of each option."""
        return {option: i for i, option in enumerate(self.options)}

    @property
    def size(self) -> float:
        """Number of options."""
        return len(self.options)

    @property
    def values(self) -> tuple[Value, ...]:
        """The options."""
        return self.options

    def canonical(self, value: Any) -> Value:
        """The option equal to ``value``."""
        try:
            return self.options[self.index[value]]
        except (KeyError, TypeError):
            raise must(self.name, f"be one of {', '.join(map(repr, self.options))}", value) from None

    def sample(self, rng: np.random.Generator) -> Value:
        """A uniformly drawn option."""
        return self.options[int(rng.random() * len(self.options))]

    def mutate(self, value: Any, rng: np.random.Generator) -> Value:
        """A uniformly drawn other option."""
        n = len(self.options)
        if n == 1:
            return self.options[0]
        return self.options[(self.index[value] + 1 + int(rng.random() * (n - 1))) % n]

    def neighbours(self, value: Any, step: float = 0.1) -> tuple[Value, ...]:  # noqa: ARG002 - options have no order
        """All other options."""
        return tuple(option for option in self.options if option != value)


@final
@dataclass(frozen=True)
class Integer(Decision):
    """A whole number in ``[low, high]``; ``log`` spreads samples evenly over magnitudes (``low >= 1``)."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for label, bound in (("low", self.low), ("high", self.high)):
            if isinstance(bound, bool) or int(bound) != bound:
                raise must(f"{self.name}.{label}", "be a whole number", bound)
            object.__setattr__(self, label, int(bound))
        _check_range(self.name, self.low, self.high)
        if self.log and self.low < 1:
            raise must(f"{self.name}.low", "be at least 1 on a log scale", self.low)

    @property
    def size(self) -> float:
        """Number of whole numbers in the range."""
        return self.high - self.low + 1

    @property
    def values(self) -> tuple[Value, ...]:
        """The whole numbers of the range, ascending."""
        return tuple(range(self.low, self.high + 1))

    def canonical(self, value: Any) -> Value:
        """The number as an ``int``."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
            raise must(self.name, "be a whole number", value)
        if not self.low <= value <= self.high:
            raise must(self.name, f"lie in [{self.low}, {self.high}]", value)
        return int(value)

    def sample(self, rng: np.random.Generator) -> Value:
        """A number from the range."""
        if self.log:
            u = math.log(self.low) + rng.random() * (math.log(self.high + 1) - math.log(self.low))
            return min(int(math.exp(u)), self.high)
        return self.low + int(rng.random() * (self.high - self.low + 1))

    def mutate(self, value: Any, rng: np.random.Generator) -> Value:
        """Half the time an adjacent number, else any other one."""
        if self.low == self.high:
            return self.low
        if rng.random() < 0.5:
            near = [v for v in (value - 1, value + 1) if self.low <= v <= self.high]
            return int(near[int(rng.random() * len(near))])
        other = self.low + int(rng.random() * (self.high - self.low))
        return other if other < value else other + 1

    def neighbours(self, value: Any, step: float = 0.1) -> tuple[Value, ...]:
        """The next numbers on either side, and those ``step`` of the range away where that is further."""
        scale = Real(self.name, self.low, self.high, self.log)
        u = scale.unit(value)
        far = (round(float(scale.at(v))) for v in (u - step, u + step))  # type: ignore[arg-type]
        near = dict.fromkeys((value - 1, value + 1, *far))
        return tuple(v for v in near if v != value and self.low <= v <= self.high)


@final
@dataclass(frozen=True)
class Real(Decision):
    """A real number in ``[low, high]``, kept to 12 significant digits; ``log`` needs ``low > 0``."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for label, bound in (("low", self.low), ("high", self.high)):
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
                raise must(f"{self.name}.{label}", "be a finite number", bound)
            object.__setattr__(self, label, float(bound))
        _check_range(self.name, self.low, self.high)
        if self.log and self.low <= 0:
            raise must(f"{self.name}.low", "be above 0 on a log scale", self.low)

    @property
    def size(self) -> float:
        """Infinite, or 1 where both bounds are equal."""
        return math.inf if self.high > self.low else 1

    @property
    def values(self) -> tuple[Value, ...]:
        """The single value of a degenerate range."""
        if self.high > self.low:
            raise must(self.name, "be categorical or integer to be enumerated", "a real decision")
        return (self.low,)

    def canonical(self, value: Any) -> Value:
        """The number with 12 significant digits, so that encodings and JSON give exactly it back."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise must(self.name, "be a finite number", value)
        if not self.low <= value <= self.high:
            raise must(self.name, f"lie in [{self.low}, {self.high}]", value)
        return min(max(float(f"{value:.12g}"), self.low), self.high)

    def unit(self, value: float) -> float:
        """Position in [0, 1] between the bounds, on the decision's scale."""
        if self.high == self.low:
            return 0.0
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def at(self, unit: float) -> Value:
        """The value at a position in [0, 1]; positions outside are clipped."""
        u = min(max(unit, 0.0), 1.0)
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        return self.canonical(min(max(value, self.low), self.high))

    def sample(self, rng: np.random.Generator) -> Value:
        """A value from the range."""
        return self.at(rng.random())

    def mutate(self, value: Any, rng: np.random.Generator) -> Value:
        """A Gaussian step of a tenth of the range, reflected at the bounds."""
        u = abs(self.unit(value) + 0.1 * rng.standard_normal()) % 2.0
        return self.at(2.0 - u if u > 1.0 else u)

    def neighbours(self, value: Any, step: float = 0.1) -> tuple[Value, ...]:
        """The values ``step`` of the range away on either side."""
        u = self.unit(value)
        return tuple({self.at(v): None for v in (u - step, u + step) if self.at(v) != value})


def _check_range(name: str, low: float, high: float) -> None:
    if low > high:
        raise must(f"{name}.low", f"be at most high = {high}", low)


# --- composites -----------------------------------------------------------------------------------


class HasDecisions(Protocol):
    """Anything that declares decisions, such as a space."""

    decisions: Declared


@final
@dataclass(frozen=True)
class Repeat:
    """The same decisions several times: ``name.0.…``, ``name.1.…``; body i is active when count > i.

    Args:
        name: prefix of the paths.
        count: a fixed number, or an `Integer` whose path becomes ``name.<its name>``.
        body: the decisions of one repetition.
    """

    name: str
    count: Integer | int
    body: Declared

    def flatten(self) -> tuple[Decision, ...]:
        """The plain decisions, named from this composite on."""
        if isinstance(self.count, int):
            head: tuple[Decision, ...] = ()
            low, high = self.count, self.count
        else:
            head, low, high = (self.count,), self.count.low, self.count.high
        if low < 0:
            raise must(f"{self.name}.count", "be at least 0", low)
        leaves = list(head)
        for i in range(high):
            body = _prefixed(str(i), flatten(self.body))
            if i >= low:
                on = When(head[0].name, tuple(range(i + 1, high + 1)))
                body = tuple(_also(leaf, on) for leaf in body)
            leaves.extend(body)
        return _prefixed(self.name, leaves)


@final
@dataclass(frozen=True)
class OneOf:
    """A choice between groups of decisions: a categorical ``name``, and ``name.<label>.…`` of the chosen."""

    name: str
    options: Mapping[str, Declared]
    when: When | tuple[When, ...] = ()

    def flatten(self) -> tuple[Decision, ...]:
        """The plain decisions, named from this composite on."""
        if not isinstance(self.options, Mapping) or not self.options:
            raise must(f"{self.name}.options", "map labels to decisions", self.options)
        leaves: list[Decision] = [Categorical(self.name, tuple(self.options), when=self.when)]
        for label, body in self.options.items():
            inner = _prefixed(f"{self.name}.{label}", flatten(body))
            leaves.extend(_also(leaf, When(self.name, (label,))) for leaf in inner)
        return tuple(leaves)


@final
@dataclass(frozen=True)
class Nested:
    """All decisions of another space under ``name.…``; ``space.build(architecture.part(name))`` builds it."""

    name: str
    space: HasDecisions

    def flatten(self) -> tuple[Decision, ...]:
        """The plain decisions, named from this composite on."""
        return _prefixed(self.name, flatten(self.space.decisions))


Declared: TypeAlias = Sequence[Decision | Repeat | OneOf | Nested]
"""What a space declares: decisions and composites, conditions after what they refer to."""


def flatten(declared: Declared) -> tuple[Decision, ...]:
    """Plain decisions of a declaration, composites replaced by their contents.

    Raises:
        BadInput: two decisions share a name, or something else than a decision is declared.
    """
    leaves: list[Decision] = []
    for item in declared:
        if isinstance(item, Decision):
            leaves.append(item)
        elif isinstance(item, Repeat | OneOf | Nested):
            leaves.extend(item.flatten())
        else:
            raise must("decisions", "hold Categorical, Integer, Real, Repeat, OneOf or Nested", item)
    names = [leaf.name for leaf in leaves]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise must("decisions", "have distinct names", twice)
    return tuple(leaves)


def check_conditions(leaves: Iterable[Decision]) -> None:
    """Refuse a condition on something unknown, later, real, or with values that never occur.

    Raises:
        BadInput: naming the conditional decision.
    """
    earlier: dict[str, Decision] = {}
    for leaf in leaves:
        for condition in leaf.conditions:
            parent = earlier.get(condition.name)
            if parent is None:
                raise must(f"{leaf.name}.when", "name a decision declared before it", condition.name)
            if isinstance(parent, Real):
                raise must(f"{leaf.name}.when", "depend on a categorical or integer decision", condition.name)
            try:
                for value in condition.values:
                    parent.canonical(value)
            except BadInput as error:
                raise error.at(f"{leaf.name}.when") from None
        earlier[leaf.name] = leaf


def _prefixed(prefix: str, leaves: Iterable[Decision]) -> tuple[Decision, ...]:
    """Put a path before names, and before those conditions that refer to one of these decisions."""
    leaves = tuple(leaves)
    local = {leaf.name for leaf in leaves}
    return tuple(
        _renamed(
            leaf,
            f"{prefix}.{leaf.name}",
            tuple(When(f"{prefix}.{c.name}", c.values) if c.name in local else c for c in leaf.conditions),
        )
        for leaf in leaves
    )


def _also(leaf: Decision, condition: When) -> Decision:
    return _renamed(leaf, leaf.name, (condition, *leaf.conditions))


def _renamed(leaf: Decision, name: str, when: tuple[When, ...]) -> Decision:
    return replace(leaf, name=name, when=when)
