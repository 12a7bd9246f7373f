"""The sandwich rule: the largest and the smallest path in every step, and random ones between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from nas.strategies.extremes import largest, size_of, smallest
from nas.strategies.path_sampler import PathSampler, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from nas.evaluator import Known
    from nas.proposal import Proposal
    from nas.space import Space
    from nas.task import Task


@final
class Sandwich(PathSampler):
    """Trains the largest path, the smallest path and random ones in every step.

    The largest comes first: it is the teacher where the evaluator distils within a step. What is large is
    said by a cheap metric where it is known, else by the decisions' order; see `largest`.

    Args:
        space, task, epochs: as in `PathSampler`.
        random_paths: between the largest and the smallest, at least 0.
        size: metric that makes a path large.
        known: the cheap metrics.

    Raises:
        BadInput: a setting is out of its range.

    Source: Yu & Huang 2019 (universally slimmable networks), sec. 3.2; Yu et al. 2020 (BigNAS), sec. 3.1,
    with two random paths.
    """

    def __init__(
        self,
        space: Space,
        task: Task,
        epochs: int = 100,
        random_paths: int = 2,
        size: str = "macs",
        known: Known | None = None,
    ) -> None:
        super().__init__(space, task, epochs)
        self.group = 2 + whole("random_paths", random_paths, 0)
        of = size_of(space, known, size)
        self._ends = (largest(space, of), smallest(space, of))

    def paths(self, at: int, rng: np.random.Generator, before: Sequence[Proposal]) -> list[Proposal]:  # noqa: ARG002
        """The largest, the smallest, and drawn ones."""
        drawn = [self.space.sample(rng) for _ in range(self.group - 2)]
        return self.train([*self._ends, *drawn], at)
