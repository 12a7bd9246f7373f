"""Strict fairness: every option of a decision is trained equally often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np

from nas.architecture import Architecture
from nas.decision import Real
from nas.errors import must
from nas.space import DRAWS
from nas.strategies.path_sampler import PathSampler, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from nas.decision import Decision, Value
    from nas.proposal import Proposal, Trial
    from nas.space import Space
    from nas.task import Task

    Counts: TypeAlias = Mapping[str, NDArray[np.int64]]

MOST_PATHS = 64
"""Paths of a step beyond which their number has to be said."""


@final
class Fair(PathSampler):
    """Deals the options of each decision over the paths of a step, those that were used least first.

    Where all decisions have m options, a step trains m disjoint paths: one random permutation of its options
    for each decision, independent of the others'. Where they have different numbers, a decision with fewer
    options than there are paths deals some of them once more, and the next step others: of any decision,
    the most and the least used options differ by one use at most, and by none after every
    ``options / gcd(options, paths)`` steps. The same holds for a conditional decision, which is dealt over
    the paths where it is active (though not at times that can be told beforehand), and wherever ``paths``
    is set. Real decisions are drawn.

    A path that is not feasible is dealt again with its group, 20 times; then it is repaired or drawn, and
    what it used instead counts, so that later steps make up for it as far as the space allows.

    Args:
        space, task, epochs: as in `PathSampler`.
        paths: of one step; the largest number of options of a decision when None.

    Raises:
        BadInput: a setting is out of its range, or a decision has more than 64 options and ``paths`` is None.

    Source: Chu et al. 2021 (FairNAS), Algorithm 1. Deviation: different numbers of options and conditional
    decisions, as above.
    """

    def __init__(self, space: Space, task: Task, epochs: int = 100, paths: int | None = None) -> None:
        super().__init__(space, task, epochs)
        self._leaves = {leaf.name: leaf for leaf in space.leaves if not isinstance(leaf, Real)}
        most = max((len(leaf.values) for leaf in self._leaves.values()), default=1)
        if paths is None and most > MOST_PATHS:
            raise must("paths", f"be given where a decision has more than {MOST_PATHS} options", None)
        self.group = most if paths is None else whole("paths", paths)
        self._position = {
            name: {value: i for i, value in enumerate(leaf.values)} for name, leaf in self._leaves.items()
        }
        self._used = {name: np.zeros(len(leaf.values), np.int64) for name, leaf in self._leaves.items()}

    def paths(self, at: int, rng: np.random.Generator, before: Sequence[Proposal]) -> list[Proposal]:
        """Paths that between them use every option as often as any other, as nearly as possible."""
        used = {name: counts.copy() for name, counts in self._used.items()}
        for proposal in before:
            self._count(proposal.candidate, used)
        for _ in range(DRAWS):
            dealt = self._dealt(used, rng)
            if all(map(self.space.feasible, dealt)):
                break
        return self.train([self._feasible(a, rng) for a in dealt], at)

    def learn(self, trial: Trial) -> None:
        """Count what the path used."""
        self._count(trial.proposal.candidate, self._used)

    def state(self) -> Mapping[str, Any]:
        """Uses of each option."""
        return {"used": {name: counts.copy() for name, counts in self._used.items()}}

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._used = {name: np.array(state["used"][name], np.int64) for name in self._leaves}

    def _dealt(self, used: Counts, rng: np.random.Generator) -> list[Architecture]:
        """A path for each place of the group, one decision after the other."""
        paths: list[dict[str, Value]] = [{} for _ in range(self.group)]
        for leaf in self.space.leaves:
            active = [path for path in paths if self.space.active(leaf, path)]
            values = self._values(leaf, len(active), used, rng)
            for path, value in zip(active, values, strict=True):
                path[leaf.name] = value
        return [self.space.architecture(path) for path in paths]

    def _values(self, leaf: Decision, n: int, used: Counts, rng: np.random.Generator) -> list[Value]:
        """Values of a decision for n paths, the least used ones, in random order."""
        if isinstance(leaf, Real):
            return [leaf.sample(rng) for _ in range(n)]
        counts, dealt = used[leaf.name].copy(), []
        lots = rng.permutation(len(counts))  # decides between options that were used equally often
        for _ in range(n):
            i = int(np.lexsort((lots, counts))[0])
            counts[i] += 1
            dealt.append(leaf.values[i])
        return [dealt[i] for i in rng.permutation(n)]

    def _feasible(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        if self.space.feasible(architecture):
            return architecture
        return self.space.repaired(architecture, rng) or self.space.sample(rng)

    def _count(self, candidate: object, used: Counts) -> None:
        if isinstance(candidate, Architecture):
            for name, value in candidate.items():
                if name in used:
                    used[name][self._position[name][value]] += 1
