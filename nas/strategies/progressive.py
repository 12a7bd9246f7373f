"""Progressive shrinking: from the largest network on, stage by stage, smaller options are trained, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, final

from nas.decision import Real
from nas.errors import BadInput, must
from nas.space import ATTEMPTS
from nas.strategies.extremes import Size, largest, numeric, ordered, size_of
from nas.strategies.path_sampler import PathSampler, share, whole

if TYPE_CHECKING:
    import numpy as np

    from nas.architecture import Architecture
    from nas.decision import Decision, Value
    from nas.evaluator import Known
    from nas.proposal import Proposal
    from nas.space import Space
    from nas.task import Task

ORDER = ("resolution", "kernel", "depth", "count", "layers", "expand", "expansion", "ratio", "width")
"""Kinds of decisions in the order of unlocking; all others follow, as they are declared."""
FIRST = 0.3
"""Share of the largest network's stage (180 of 590 epochs in the paper's schedule)."""
HALF = 1 / 6
"""Share of a kind's steps in which only the larger half of its options is unlocked (25 of 145 epochs)."""


class Stage(NamedTuple):
    """A part of the schedule.

    Attributes:
        share: of all steps, in [0, 1].
        unlock: patterns of decision names, such as ``*.kernel``, whose options are unlocked from here on.
        options: how many of the largest ones; all when None.
        paths: of a step.
    """

    share: float
    unlock: tuple[str, ...] = ()
    options: int | None = None
    paths: int = 1


@final
class Progressive(PathSampler):
    """Trains the largest network first; each stage unlocks options, from large to small.

    A path draws each decision uniformly among its unlocked options. Options are ordered by how large they
    make the largest network, by a cheap metric where it is known, else by their values. Decisions without
    an order, such as operations, are open from the beginning unless a stage names them; then theirs is that
    of their declaration or of the metric. What no stage names stays at its largest.

    By default the largest network has 30 % of the steps, and the rest is shared evenly among the kinds of
    numeric decisions, which are the last parts of their names (``stage.0.kernel`` is of kind ``kernel``):
    kernels, depths, expansions and widths in this order, others after them. A kind with three or more
    options begins with the larger half of them for a sixth of its steps. A step trains 1, 2, then 4 paths
    for the first, second and later kinds.

    Args:
        space, task, epochs: as in `PathSampler`.
        stages: mappings with the keys ``share``, ``unlock``, ``options`` and ``paths`` of `Stage`; the shares
            add up to 1.
        size: metric that makes a path large.
        known: the cheap metrics.

    Raises:
        BadInput: a setting is out of its range, or a pattern fits no decision.

    Source: Cai et al. 2020 (once-for-all), sec. 3.3, shares and paths a step from its published schedule.
    Deviations: one schedule of the learning rate over all stages; widths are not sorted by their norms.
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        epochs: int = 100,
        stages: Sequence[Mapping[str, Any]] | None = None,
        size: str = "macs",
        known: Known | None = None,
    ) -> None:
        super().__init__(space, task, epochs)
        self.stages = default_stages(space) if stages is None else _stages(stages)
        self._names = {pattern: _fitting(space, pattern) for s in self.stages for pattern in s.unlock}
        self._largest, self._descending = _descending(space, size_of(space, known, size))
        ends = [round(end * self.steps) for end in accumulate(s.share for s in self.stages)]
        self._ends = [*ends[:-1], self.steps]
        self.group = self._stage.paths

    def horizon(self) -> int:
        """The end of the present stage."""
        return next((end for end in self._ends if end > self.round), self.rounds)

    def paths(self, at: int, rng: np.random.Generator, before: Sequence[Proposal]) -> list[Proposal]:  # noqa: ARG002
        """Paths of unlocked options."""
        unlocked = self._unlocked()
        return self.train([self._drawn(unlocked, rng) for _ in range(self.group)], at)

    def advance(self, rng: np.random.Generator) -> None:  # noqa: ARG002 - nothing is drawn
        """Take over the number of paths of the next stage."""
        self.group = self._stage.paths

    def adopt(self, state: Mapping[str, Any]) -> None:  # noqa: ARG002 - all follows from the round
        """Take over the number of paths of the present stage."""
        self.group = self._stage.paths

    @property
    def _position(self) -> int:
        """Which stage it is."""
        return next((i for i, end in enumerate(self._ends) if end > self.round), len(self.stages) - 1)

    @property
    def _stage(self) -> Stage:
        return self.stages[self._position]

    def _unlocked(self) -> dict[str, int | None]:
        """How many of the largest options of each named decision are unlocked by now; None for all."""
        found: dict[str, int | None] = {name: 1 for names in self._names.values() for name in names}
        for stage in self.stages[: self._position + 1]:
            for pattern in stage.unlock:
                found |= dict.fromkeys(self._names[pattern], stage.options)
        return found

    def _drawn(self, unlocked: Mapping[str, int | None], rng: np.random.Generator) -> Architecture:
        """A feasible path; the largest where 10,000 were not."""
        for _ in range(ATTEMPTS):
            choices = {leaf.name: self._value(leaf, unlocked, rng) for leaf in self.space.leaves}
            architecture = self.space.architecture(choices)
            if self.space.feasible(architecture):
                return architecture
        return self._largest

    def _value(self, leaf: Decision, unlocked: Mapping[str, int | None], rng: np.random.Generator) -> Value:
        descending = self._descending[leaf.name]
        n = unlocked.get(leaf.name, 1 if numeric(leaf) else None)
        if isinstance(leaf, Real):
            return descending[0] if n == 1 else leaf.sample(rng)
        return descending[int(rng.random() * len(descending[:n]))]


def default_stages(space: Space) -> tuple[Stage, ...]:
    """The largest network, then one kind of numeric decisions after the other; see `Progressive`."""
    kinds: dict[str, list[Decision]] = {}
    for leaf in space.leaves:
        if numeric(leaf) and leaf.size > 1:
            kinds.setdefault(leaf.name.rpartition(".")[2], []).append(leaf)
    if not kinds:
        return (Stage(1.0),)
    order = sorted(kinds, key=lambda kind: ORDER.index(kind) if kind in ORDER else len(ORDER))
    stages, each = [Stage(FIRST)], (1.0 - FIRST) / len(kinds)
    for i, kind in enumerate(order):
        names = tuple(leaf.name for leaf in kinds[kind])
        most, paths = max(leaf.size for leaf in kinds[kind]), min(2**i, 4)
        if 3 <= most < float("inf"):
            stages.append(Stage(each * HALF, names, -(-int(most) // 2), paths))
            stages.append(Stage(each * (1 - HALF), names, None, paths))
        else:
            stages.append(Stage(each, names, None, paths))
    return tuple(stages)


def _stages(given: Sequence[Mapping[str, Any]]) -> tuple[Stage, ...]:
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence) or not given:
        raise must("stages", "be a list of at least one mapping", given)
    stages = []
    for i, spec in enumerate(given):
        try:
            stages.append(_stage(spec))
        except BadInput as error:
            raise error.at(f"stages.{i}") from None
    if abs(sum(s.share for s in stages) - 1.0) > 1e-6:
        raise must("stages", "have shares that add up to 1", [s.share for s in stages])
    return tuple(stages)


def _stage(spec: Mapping[str, Any]) -> Stage:
    if not isinstance(spec, Mapping) or not {"share"} <= set(spec) <= set(Stage._fields):
        raise must("a stage", "have the keys share and perhaps unlock, options, paths", spec)
    unlock = spec.get("unlock", ())
    names = (unlock,) if isinstance(unlock, str) else tuple(unlock)
    options = spec.get("options")
    return Stage(
        share("share", spec["share"]),
        names,
        None if options is None else whole("options", options),
        whole("paths", spec.get("paths", 1)),
    )


def _fitting(space: Space, pattern: str) -> tuple[str, ...]:
    names = tuple(name for name in space.by_name if name == pattern or fnmatchcase(name, pattern))
    if not names:
        raise must("stages.unlock", f"fit a decision among {', '.join(space.by_name)}", pattern)
    return names


def _descending(space: Space, size: Size) -> tuple[Architecture, dict[str, tuple[Value, ...]]]:
    """The largest architecture, and the options of each decision from large to small."""
    top = largest(space, size)
    choices: dict[str, Value] = {leaf.name: ordered(leaf)[-1] for leaf in space.leaves} | dict(top)
    found = {}
    for leaf in space.leaves:
        rising = {value: i for i, value in enumerate(ordered(leaf))}

        def key(value: Value, name: str = leaf.name, rising: Mapping[Value, int] = rising) -> Any:
            return size(space.architecture({**choices, name: value})), rising[value]

        chosen = choices[leaf.name]
        rest = sorted((v for v in rising if v != chosen), key=key, reverse=True)
        found[leaf.name] = (chosen, *rest)
    return top, found
