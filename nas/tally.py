"""Steps of training shared weights: counted instead of stored, with the weights beside the count."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, final

from nas.architecture import Architecture
from nas.errors import RunFailed, StorageError
from nas.files import FolderFiles
from nas.history import History
from nas.proposal import Failure
from nas.snapshot import save_snapshot, saved_snapshots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nas.evaluator import StepEvaluator
    from nas.proposal import Trial

log = logging.getLogger(__name__)

UNUSED = {"trials": 0, "evaluations": 0.0, "seconds": 0.0, "wall_seconds": 0.0}
"""What a tally begins with."""
TALLY = "tally.json"
"""The file of what was counted, for people."""
CURVE = 100
"""Points of the stored curve of losses before every two of them become one."""
SKIPPED = 20
"""Steps in a row that may be skipped before training ends."""


@final
class Tally:
    """What the steps of a training were, in numbers.

    Attributes:
        used: trials, seconds and seconds of evaluations so far; fields of `nas.budget.Spent`.
        chosen: how often each option of each decision was trained.
        losses: mean training loss of successive parts of the training, each of ``width`` trials.
        skipped: steps that were not taken, and why the last one was not.
    """

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        given = dict(data or {})
        self.used: dict[str, float] = dict(given.get("used", UNUSED))
        self.chosen = {name: Counter(n) for name, n in given.get("chosen", {}).items()}
        self.losses: list[float] = list(given.get("losses", ()))
        self.width: int = given.get("width", 1)
        self.skipped: int = given.get("skipped", 0)
        self.reason: str = given.get("reason", "")
        self._sum, self._count = given.get("open", (0.0, 0))
        self._in_a_row: int = given.get("in_a_row", 0)

    def add(self, trial: Trial) -> None:
        """Count a trial.

        Raises:
            RunFailed: it is one too many in a row whose step was skipped.
        """
        self.used["trials"] += 1
        self.used["evaluations"] += trial.proposal.fidelity
        self.used["seconds"] += trial.outcome.seconds
        self.used["wall_seconds"] += trial.outcome.seconds
        if isinstance(trial.outcome, Failure):
            if trial.position == 0:  # a group is one step
                self._skip(trial.outcome)
            return
        self._in_a_row = 0
        loss = trial.values.get("train_loss", math.nan)
        if math.isfinite(loss):
            self._add_loss(loss)
            self._choose(trial)

    def to_json(self) -> dict[str, Any]:
        """JSON values, from which a tally goes on."""
        return {
            "used": self.used,
            "chosen": {name: dict(n) for name, n in self.chosen.items()},
            "losses": self.losses,
            "width": self.width,
            "open": [self._sum, self._count],
            "skipped": self.skipped,
            "reason": self.reason,
            "in_a_row": self._in_a_row,
        }

    def _skip(self, failure: Failure) -> None:
        self.skipped, self.reason = self.skipped + 1, failure.reason
        self._in_a_row += 1
        if self._in_a_row >= SKIPPED:
            raise RunFailed(
                f"{SKIPPED} steps in a row were skipped, the last one because: {failure.reason}; "
                "lower the learning rate, or look at the data"
            )

    def _choose(self, trial: Trial) -> None:
        candidate = trial.proposal.candidate
        if isinstance(candidate, Architecture):
            for name, value in candidate.items():
                self.chosen.setdefault(name, Counter())[str(value)] += 1

    def _add_loss(self, loss: float) -> None:
        self._sum, self._count = self._sum + loss, self._count + 1
        if self._count < self.width:
            return
        self.losses.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self.losses) == 2 * CURVE:
            pairs = zip(self.losses[::2], self.losses[1::2], strict=True)
            self.losses, self.width = [(a + b) / 2 for a, b in pairs], 2 * self.width


@final
class TallyHistory(History):
    """A history that counts its trials and forgets them; what they did is in the weights.

    Beside each snapshot of the strategy lie the weights of the same step and the tally, in a folder. Going
    on starts from there: what was told later is done again. Where the last weights are damaged, those before
    them are taken.

    Args:
        evaluator: whose weights are kept.
        folder: where; None keeps nothing.

    Raises:
        StorageError: the snapshot's weights cannot be read.
        BadInput: they are of another supernet.
    """

    def __init__(self, evaluator: StepEvaluator, folder: Path | None) -> None:
        super().__init__()
        self._evaluator, self._folder = evaluator, folder
        self._last = 0
        self.tally = Tally()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._take_up(list(saved_snapshots(FolderFiles(folder))))

    @property
    def forgotten(self) -> Mapping[str, float]:
        """What was used by all trials that were told."""
        return self.tally.used if self.tally.used["trials"] else {}

    def save(self, state: Mapping[str, Any], told: int) -> None:
        """Keep the weights, then the strategy's state; the ones before go when that is done."""
        if self._folder is None:
            super().save(state, told)
            return
        if not self._evaluator.whole:  # a signal cut a step: what was kept before it stands
            return
        self._evaluator.keep(self._weights(told))
        whole = {"strategy": dict(state), "tally": json.dumps(self.tally.to_json())}
        files = FolderFiles(self._folder)
        save_snapshot(files, whole, told)
        files.keep(TALLY, json.dumps(self.tally.to_json(), indent=1).encode())
        for old in self._folder.glob("weights-*.pt"):
            if old not in (self._weights(told), self._weights(self._last)):
                old.unlink()
        self._last = told

    def saved(self) -> tuple[Mapping[str, Any], int] | None:
        """The strategy's last state, and the trials told before it."""
        found = super().saved()
        return found if found is None or self._folder is None else (found[0]["strategy"], found[1])

    def _take_up(self, found: Sequence[tuple[Mapping[str, Any], int]]) -> None:
        for i, (state, told) in enumerate(found):
            try:
                self._evaluator.take_up(self._weights(told))
            except StorageError as error:
                if i == len(found) - 1:
                    raise
                log.warning("%s; going on from those before", error)
                continue
            self._snapshot, self._last = (state, told), told
            self.tally = Tally(json.loads(state["tally"]))
            return

    def _weights(self, told: int) -> Path:
        assert self._folder is not None
        return self._folder / f"weights-{told}.pt"

    def _store(self, trials: Sequence[Trial]) -> None:
        """Nothing is stored."""

    def _index(self, trial: Trial) -> None:
        self.tally.add(trial)
