"""What a run found, and what can be done with it: test, train again, export."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, final

from nas.errors import RunFailed, must
from nas.executor import evaluate_unit
from nas.front import Front, Member
from nas.proposal import Failure, Proposal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nas.history import History
    from nas.parts import Parts

VERSIONED = ("nas-toolkit", "torch", "numpy", "optuna", "pymoo", "scikit-learn")


@final
class Result:
    """What a run found: its trials and the weights of its front.

    Args:
        parts: of the search.
        history: its trials.
        folder: where weights are.
    """

    def __init__(self, parts: Parts, history: History, folder: Path) -> None:
        self.parts, self.history, self.folder = parts, history, folder

    def front(self) -> Front:
        """The front of everything measured so far, which can be exported."""
        return Front(self.history.trials, self.parts.objectives, self.export)

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
        unit = [(member.trial, self._proposal(member, replicate))]
        (report,) = evaluate_unit(self.parts.trainer(), unit, self.parts.search.seed, None)
        if isinstance(report.outcome, Failure):
            raise RunFailed(f"trial {member.trial} could not be trained again: {report.outcome.reason}")
        if report.outcome.weights is None:
            raise must("evaluators", "keep weights", type(self.parts.trainer()).__name__)
        return report.outcome.weights

    def export(self, members: Sequence[Member], folder: Path, formats: Sequence[str]) -> list[Path]:
        """Write members in these formats, a folder each, named by trial.

        Raises:
            BadInput: a format is unknown, or members have no trained weights.
        """
        from nas.export.bundle import Bundle

        exporters = self.parts.exporters(formats)
        if self.parts.task is None:
            raise must("export", "have a task, so that example inputs are known", None)
        written: list[Path] = []
        for member in members:
            bundle = Bundle(
                name=f"trial_{member.trial:04d}",
                architecture=member.architecture,
                values=member.values,
                module=self.parts.trainer().load(self._proposal(member), self._weights(member)),
                example=self.parts.task.example(2),
                provenance={**versions(), "trial": member.trial, "seed": self.parts.search.seed},
            )
            place = folder / bundle.name
            place.mkdir(parents=True, exist_ok=True)
            for exporter in exporters:
                written += exporter(bundle, place)
        return written

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

    def _weights(self, member: Member) -> Path:
        """Where the weights are now; the folder may have been moved since."""
        path = self.folder / "weights" / (member.weights.name if member.weights else "none")
        if not path.is_file():
            raise must(f"trial {member.trial}", "have its weights kept", str(path))
        return path


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide on results."""
    found = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
