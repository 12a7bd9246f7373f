"""Uniform path sampling: every step trains paths that are drawn uniformly."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from nas.strategies.path_sampler import PathSampler, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from nas.proposal import Proposal
    from nas.space import Space
    from nas.task import Task


@final
class Uniform(PathSampler):
    """Draws each active decision of a path uniformly, whatever came before.

    Args:
        space, task, epochs: as in `PathSampler`.
        paths: of one step, at least 1.

    Raises:
        BadInput: a setting is out of its range.

    Source: Guo et al. 2020 (single path one-shot), eq. 7, with one path a step.
    """

    def __init__(self, space: Space, task: Task, epochs: int = 100, paths: int = 1) -> None:
        super().__init__(space, task, epochs)
        self.group = whole("paths", paths)

    def paths(self, at: int, rng: np.random.Generator, before: Sequence[Proposal]) -> list[Proposal]:  # noqa: ARG002
        """Drawn paths."""
        return self.train([self.space.sample(rng) for _ in range(self.group)], at)
