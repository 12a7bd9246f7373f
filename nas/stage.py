"""What comes before a search: a training of shared weights, by a strategy that proposes paths."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from nas.errors import RunFailed, StorageError
from nas.objective import Objective
from nas.rng import derive
from nas.study import Study
from nas.tally import TALLY, Tally, TallyHistory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nas.budget import Budget
    from nas.evaluator import StepEvaluator
    from nas.space import Space
    from nas.strategy import Strategy


@final
@dataclass
class Stage:
    """A training of shared weights.

    Args:
        label: for people, such as the strategy's name.
        space: whose paths are trained.
        strategy: proposes paths, and ends the training.
        evaluator: takes the steps.
        budget: ends it earlier.
        seed: rules everything that is random in it.
        folder: keeps weights, the strategy's state and the tally; None keeps nothing.
    """

    label: str
    space: Space
    strategy: Strategy
    evaluator: StepEvaluator
    budget: Budget
    seed: int
    folder: Path | None

    def study(self, observer: Callable[[Tally], None] | None = None) -> Study:
        """The study that trains; going on from what the folder holds.

        Raises:
            StorageError: the folder cannot be used.
            BadInput: it holds the weights of another supernet.
        """
        history = TallyHistory(self.evaluator, self.folder)
        metric = Objective("train_loss", "min")
        return Study(
            self.space,
            [metric],
            self.evaluator,
            self.strategy,
            history=history,
            seed=derive(self.seed, "stage"),
            observer=None if observer is None else lambda _: observer(history.tally),
        )

    def tally(self) -> Tally | None:
        """What was trained so far, as the folder tells; None where it tells nothing."""
        try:
            text = (self.folder / TALLY).read_text(encoding="utf-8") if self.folder is not None else None
        except OSError:
            return None
        return None if text is None else Tally(json.loads(text))

    def take_up(self) -> None:
        """Take the weights that the folder holds, without training on.

        Raises:
            StorageError: it holds none.
            BadInput: it holds the weights of another supernet.
        """
        if self.folder is None or not TallyHistory(self.evaluator, self.folder).forgotten:
            raise StorageError(f"{self.folder} must hold the weights of {self.label}; nas resume trains them")
        self.evaluator.settle()

    def train(self, study: Study) -> None:
        """Train until the strategy or the budget ends it, and settle the weights.

        Raises:
            RunFailed: too many steps in a row could not be taken, or none was.
        """
        study.run(self.budget)
        if not study.stopped:
            if not study.spent.trials:
                raise RunFailed(f"{self.label} must propose paths to train, got none: {study.ended}")
            self.evaluator.settle()
