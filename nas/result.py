"""What a run found, and what can be done with it: test, train again, export."""

from __future__ import annotations

import json
import logging
import platform
import shlex
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, final

from nas.errors import RunFailed, StorageError, must
from nas.executor import evaluate_unit
from nas.files import checksum
from nas.front import Front, Member
from nas.proposal import CHECKSUM, Failure, Measurement, Proposal, Trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from nas.history import History
    from nas.parts import Parts

log = logging.getLogger(__name__)

VERSIONED = ("nas-toolkit", "torch", "numpy", "optuna", "pymoo", "scikit-learn")


@final
class Result:
    """What a run found: its trials and the weights of its front.

    Args:
        parts: of the search.
        history: its trials.
        folder: where weights are.
        words: by which a command line names the run; its folder when None.
    """

    def __init__(self, parts: Parts, history: History, folder: Path, words: str | None = None) -> None:
        self.parts, self.history, self.folder = parts, history, folder
        self.words = shlex.quote(str(folder)) if words is None else words
        self.weights = (parts.artifacts or folder) / "weights"

    def front(self) -> Front:
        """The front of everything measured so far, which can be exported."""
        parts = self.parts
        return Front(
            self.history.trials, parts.objectives, self.export, parts.bands, parts.evaluator.predicted
        )

    def test(self, members: Sequence[Member]) -> list[Mapping[str, float]]:
        """Metrics of members on the test split, by exactly the weights that were scored in the search.

        Raises:
            BadInput: no weights were kept, the task has no test split, or its data are others than before.
        """
        trainer = self.parts.trainer()
        self._check_data()
        return [trainer.score(self._proposal(m), self._weights(m), "test") for m in members]

    def retrain(self, member: Member, seeds: int) -> list[Mapping[str, float]]:
        """Test metrics of a member trained again from other weights and data orders, one a seed.

        Raises:
            RunFailed: a training failed.
        """
        found = []
        self._check_data()
        for replicate in range(1, seeds + 1):
            weights = self.train(member, replicate)
            found.append(self.parts.trainer().score(self._proposal(member, replicate), weights, "test"))
            weights.unlink()
        return found

    def train(self, member: Member, replicate: int = 0) -> Path:
        """Train a member as the search does, and give the file of its weights.

        Raises:
            RunFailed: the training failed.
        """
        self.parts.trained()
        unit = [(member.trial, self._proposal(member, replicate))]
        (report,) = evaluate_unit(self.parts.trainer(), unit, self.parts.search.seed, None)
        if isinstance(report.outcome, Failure):
            raise RunFailed(f"trial {member.trial} could not be trained again: {report.outcome.reason}")
        if report.outcome.weights is None:
            raise must("evaluators", "keep weights", type(self.parts.trainer()).__name__)
        return report.outcome.weights

    def fine_tune(
        self, member: Member, epochs: int, *, lr: float = 0.01, optimizer: str = "sgd", device: str = "cpu"
    ) -> Tuned:
        """Train a member on, by itself, from the weights that were scored, such as inherited ones.

        Args:
            member: whose weights were kept; they stay as they are.
            epochs: passes over the training data, at least 1.
            lr, optimizer: see `nas.estimators.recipe.Recipe`; the schedule is cosine, without warm-up.
            device: torch device, ``cpu`` or ``cuda:N``.

        Raises:
            BadInput: a setting is out of range, no weights were kept, the task has no test split, or its data
                are others than before.
            Diverged: the loss did.
        """
        from nas.estimators.machine import checked_device, on_device, settled
        from nas.estimators.recipe import Recipe
        from nas.estimators.tuning import fine_tuned

        self._check_data()
        task, proposal, seed = self.parts.task, self._proposal(member), self.parts.search.seed
        assert task is not None  # whoever keeps weights has trained on one
        recipe = Recipe(epochs=epochs, optimizer=optimizer, lr=lr, warmup=0.0)
        checked_device("device", device)
        module = self._module(member)
        with settled(self.parts.target.threads):
            tuned = fine_tuned(on_device(module, device), task, recipe, proposal, seed=seed)
            scores = [task.score(tuned, split) for split in ("val", "test")]
        return Tuned(tuned.cpu(), epochs, *scores)

    def export(
        self,
        members: Sequence[Member],
        folder: Path,
        formats: Sequence[str],
        tuned: Mapping[int, Tuned] | None = None,
    ) -> list[Path]:
        """Write members in these formats, a folder each, named by trial.

        Args:
            members, folder, formats: what is written where, and how.
            tuned: what stands in for the members of these trials; their provenance says so.

        Raises:
            BadInput: a format is unknown, or members have no trained weights.
        """
        from nas.export.bundle import Bundle

        exporters = self.parts.exporters(formats)
        if self.parts.task is None:
            raise must("export", "have a task, so that example inputs are known", None)
        written: list[Path] = []
        for member in members:
            stand_in = (tuned or {}).get(member.trial)
            bundle = Bundle(
                name=f"trial_{member.trial:04d}",
                architecture=member.architecture,
                values=member.values if stand_in is None else {**member.values, **stand_in.values(member)},
                module=self._module(member) if stand_in is None else stand_in.module,
                example=self.parts.task.example(2),
                provenance={
                    **versions(),
                    "trial": member.trial,
                    "seed": self.parts.search.seed,
                    **({} if stand_in is None else {"fine_tuned_epochs": stand_in.epochs}),
                },
            )
            place = folder / bundle.name
            place.mkdir(parents=True, exist_ok=True)
            for exporter in exporters:
                written += exporter(bundle, place)
        return written

    def _module(self, member: Member) -> nn.Module:
        return self.parts.trainer().load(self._proposal(member), self._weights(member))

    def _check_data(self) -> None:
        """Refuse other data than the run searched on, which may lie in the same place on another machine."""
        known = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))["identity"]["data"]
        here = "" if self.parts.task is None else self.parts.task.fingerprint()
        if known != here:
            raise must("the data", f"be those of the run, with fingerprint {known}", here)

    def _proposal(self, member: Member, replicate: int = 0) -> Proposal:
        trainer = self.parts.trainer()
        asked = [o.metric for o in self.parts.objectives if o.metric in trainer.metrics]
        return Proposal(member.candidate, tuple(asked) or ("loss",), replicate=replicate)

    def kept(self, member: Member) -> bool:
        """Whether the weights of a member are there, as they were written; what is damaged is logged."""
        path, checked = self._file(member)
        if checked is False:
            log.warning("the weights of trial %d, %s, are damaged", member.trial, path)
        return bool(checked)

    def _file(self, member: Member) -> tuple[Path, bool | None]:
        """Where the weights are now, and whether they are as they were; None where there are none."""
        path = self.weights / (member.weights.name if member.weights else "none")
        if not path.is_file():
            return path, None
        written = next((t for t in reversed(self.history.trials) if _wrote(t, path.name)), None)
        known = None if written is None else _notes(written).get(CHECKSUM)
        return path, known is None or checksum(path.read_bytes()) == known

    def _weights(self, member: Member) -> Path:
        """The file of the weights.

        Raises:
            BadInput: there is none.
            StorageError: it is not as it was written.
        """
        path, checked = self._file(member)
        if checked is None:
            raise must(f"trial {member.trial}", "have its weights kept", str(path))
        if not checked:
            raise StorageError(
                f"the weights of trial {member.trial}, {path}, are not as they were written; "
                f"train them again with: nas resume {self.words}"
            )
        return path


@final
@dataclass(frozen=True)
class Tuned:
    """A member that was trained on.

    Attributes:
        module: in evaluation mode, on the CPU.
        epochs: how long.
        val, test: the task's metrics on these splits.
    """

    module: nn.Module
    epochs: int
    val: Mapping[str, float]
    test: Mapping[str, float]

    def values(self, member: Member) -> Mapping[str, float]:
        """What it has in place of the member's metrics that weights decide on."""
        return {metric: value for metric, value in self.val.items() if metric in member.values}


def _notes(trial: Trial) -> Mapping[str, Any]:
    return trial.outcome.notes if isinstance(trial.outcome, Measurement) else {}


def _wrote(trial: Trial, name: str) -> bool:
    """Whether a trial left the weights of this name."""
    outcome = trial.outcome
    return isinstance(outcome, Measurement) and outcome.weights is not None and outcome.weights.name == name


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide on results."""
    found = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
