"""Any strategy without repeats, by a key of choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas import keys
from nas.strategies.random_search import RandomSearch
from nas.strategy import Distinct, Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas.objective import Objective
    from nas.space import Space
    from nas.task import Task


def distinct(
    space: Space,
    objectives: Sequence[Objective],
    task: Task | None = None,
    strategy: Strategy | None = None,
    key: str = "architecture",
    attempts: int = 100,
    visits: int = 1,
) -> Distinct:
    """Any strategy, asked again for whatever it proposed before.

    Args:
        space, objectives, task: of the search.
        strategy: whose repeats are refused; random search when None.
        key: what makes two architectures the same, as in ``memo``: ``architecture``, ``functional``, ...
        attempts, visits: as in `Distinct`.

    Raises:
        BadInput: a setting is out of its range, or the key is unknown.
    """
    same = None if key == "architecture" else keys.create(key, space, task)
    return Distinct(strategy or RandomSearch(space, objectives), attempts, same, visits)
