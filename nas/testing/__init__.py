"""Public conformance checks: what every space, evaluator and strategy must keep to.

Each check is a plain function that raises with a message saying what must hold. The tests run them on all
that is registered; ``nas check`` and the functions here run them for an author.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from nas.testing.drive import drive
from nas.testing.evaluator_checks import EVALUATOR_CHECKS
from nas.testing.space_checks import SPACE_CHECKS
from nas.testing.strategy_checks import SEARCHING_CHECKS, STRATEGY_CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nas.evaluator import Evaluator
    from nas.proposal import Proposal
    from nas.space import Space
    from nas.testing.strategy_checks import Make

__all__ = [
    "EVALUATOR_CHECKS",
    "SEARCHING_CHECKS",
    "SPACE_CHECKS",
    "STRATEGY_CHECKS",
    "check_evaluator",
    "check_space",
    "check_strategy",
    "drive",
]

Finding: TypeAlias = tuple[str, str | None]
"""The name of a check, and what it complains of; None when it passed."""


def check_space(space: Space, example: Any = None) -> list[Finding]:
    """Run every check of a space.

    Args:
        space: to be checked.
        example: input of its modules, as `Task.example` gives; None skips running them forward.
    """
    return [_finding(check, space, example) for check in SPACE_CHECKS]


def check_evaluator(evaluator: Evaluator, proposals: Sequence[Proposal]) -> list[Finding]:
    """Run every check of an evaluator.

    Args:
        evaluator: to be checked.
        proposals: two or more different ones, which ask for its metrics.
    """
    return [_finding(check, evaluator, proposals) for check in EVALUATOR_CHECKS]


def check_strategy(factory: Make) -> list[Finding]:
    """Run every check of a strategy.

    Args:
        factory: gives a fresh strategy for ``(space, objectives)``.
    """
    return [_finding(check, factory) for check in STRATEGY_CHECKS]


def _finding(check: Callable[..., None], *subject: Any) -> Finding:
    """Run one check; whatever the subject raises is its finding."""
    try:
        check(*subject)
    except Exception as error:
        told = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        return check.__name__, told or type(error).__name__
    return check.__name__, None
