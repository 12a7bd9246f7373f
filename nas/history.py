"""Append-only trials, in memory or in an Optuna storage, and the strategy's snapshots beside them."""

from __future__ import annotations

import json
import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.architecture import Architecture
from nas.decision import Categorical, Integer, Real
from nas.errors import StorageError, must
from nas.objective import goals
from nas.proposal import Failure, Measurement, Outcome, Proposal, Trial

if TYPE_CHECKING:
    from nas.decision import Decision
    from nas.objective import Objective
    from nas.space import Space

SCHEMA = 1
"""Version of the stored record; a store of another version is refused."""


class History(ABC):
    """Trials in the order of appending; those of one batch are told together when all are there."""

    def __init__(self) -> None:
        self._trials: list[Trial] = []
        self._open: dict[int, list[Trial]] = {}
        self._batches: list[tuple[Trial, ...]] = []

    @property
    def trials(self) -> Sequence[Trial]:
        """Every trial, in the order of appending."""
        return self._trials

    def append(self, trials: Sequence[Trial]) -> None:
        """Keep trials; durable on return.

        Raises:
            StorageError: the storage cannot be written; what was appended before is safe.
        """
        self._store(trials)
        self._index(trials)

    def batches(self) -> Iterator[tuple[Trial, ...]]:
        """Complete batches in the order of telling, each by position."""
        yield from self._batches

    def partial(self, batch: int) -> Mapping[int, Trial]:
        """The trials so far of a batch that is not complete, by position."""
        return {trial.position: trial for trial in self._open.get(batch, ())}

    def open_batch(self) -> int | None:
        """First number of the batch that is not complete; None where there is none."""
        return min(self._open, default=None)

    def save(self, state: Mapping[str, Any], told: int) -> None:
        """Keep a strategy's snapshot, taken after ``told`` trials were told, instead of the last one."""
        self._snapshot = (dict(state), told)

    def saved(self) -> tuple[Mapping[str, Any], int] | None:
        """The last complete snapshot and the number of trials told before it."""
        return getattr(self, "_snapshot", None)

    @abstractmethod
    def _store(self, trials: Sequence[Trial]) -> None:
        """Make trials durable."""

    def _index(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self._trials.append(trial)
            if trial.size == 1:
                self._batches.append((trial,))
                continue
            gathered = self._open.setdefault(trial.batch, [])
            gathered.append(trial)
            if len(gathered) == trial.size:
                del self._open[trial.batch]
                self._batches.append(tuple(sorted(gathered, key=lambda t: t.position)))


@final
class MemoryHistory(History):
    """Trials that end with the process."""

    def _store(self, trials: Sequence[Trial]) -> None:
        """Nothing to do."""


@final
class OptunaHistory(History):
    """Trials in an Optuna storage, readable by Optuna's own plots, importances and dashboard.

    Scalars of the architecture are Optuna parameters, objectives its values; a partial or low-fidelity trial
    is PRUNED, a failure FAIL; the full record is the user attribute ``record``.

    Args:
        storage: path of a journal file, or the URL of any Optuna storage.
        space, objectives: of the run.
        name: of the Optuna study.
        folder: where snapshots are kept; None when there is none.
        writer: "owner" repairs a torn last line and may append; "reader" leaves the file alone.

    Raises:
        StorageError: it cannot be opened, or was written for another space or version.
    """

    def __init__(
        self,
        storage: str | Path,
        space: Space,
        objectives: Sequence[Objective],
        *,
        name: str = "nas",
        folder: Path | None = None,
        writer: str = "owner",
    ) -> None:
        super().__init__()
        if writer not in ("owner", "reader"):
            raise must("writer", "be owner or reader", writer)
        self._space = space
        self._objectives = goals(objectives)
        self._distributions = {leaf.name: _distribution(leaf) for leaf in space.leaves}
        self._folder = folder
        self.repaired = truncate_torn_tail(Path(storage)) if writer == "owner" and _is_file(storage) else 0
        self._study = self._opened(storage, name, writer)
        self._index(list(self._load()))

    def _opened(self, storage: str | Path, name: str, writer: str) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        identity = {"schema": SCHEMA, "space": self._space.signature}
        try:
            opened = _open(storage)
            if writer == "reader":
                study = optuna.load_study(study_name=name, storage=opened)
            else:
                study = optuna.create_study(
                    study_name=name,
                    storage=opened,
                    directions=["minimize" if o.goal == "min" else "maximize" for o in self._objectives],
                    load_if_exists=True,
                )
            if not study.user_attrs and writer == "owner":
                for key, value in identity.items():
                    study.set_user_attr(key, value)
                _name_metrics(study, [o.metric for o in self._objectives])
        except (OSError, KeyError, ValueError) as error:
            raise StorageError(f"the storage {storage} cannot be opened: {error}") from error
        for key, value in identity.items():
            if study.user_attrs.get(key, value) != value:
                raise StorageError(
                    f"the storage {storage} holds a run of another {key} "
                    f"({study.user_attrs[key]!r} instead of {value!r}); start a new run with --out"
                )
        return study

    def _load(self) -> Iterator[Trial]:
        for frozen in self._study.get_trials(deepcopy=False):
            record = frozen.user_attrs.get("record")
            if record is not None:
                yield trial_from_json(record, self._space)

    def _store(self, trials: Sequence[Trial]) -> None:
        try:
            for trial in trials:
                self._study.add_trial(self._frozen(trial))
        except OSError as error:
            raise StorageError(
                f"a trial cannot be appended: {error}; all {len(self._trials)} trials before it are safe, "
                "make room and resume"
            ) from error

    def _frozen(self, trial: Trial) -> Any:
        from optuna.trial import FrozenTrial, TrialState

        candidate = trial.proposal.candidate
        values = [trial.values.get(o.metric, math.nan) for o in self._objectives]
        if trial.failed:
            state = TrialState.FAIL
        elif trial.proposal.fidelity < 1.0 or not all(map(math.isfinite, values)):
            state = TrialState.PRUNED
        else:
            state = TrialState.COMPLETE
        params = candidate.to_json() if isinstance(candidate, Architecture) else {}
        attributes: dict[str, Any] = {"key": candidate.key, "record": trial_to_json(trial)}
        attributes |= {m: v for m, v in trial.values.items() if m not in attributes}
        if isinstance(trial.outcome, Failure):
            attributes["failure"] = f"{trial.outcome.kind}: {trial.outcome.reason}"
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values if state == TrialState.COMPLETE else None,
            datetime_start=datetime.fromtimestamp(trial.started),
            datetime_complete=datetime.fromtimestamp(trial.ended),
            params=params,
            distributions={name: self._distributions[name] for name in params},
            user_attrs=attributes,
            system_attrs={},
            intermediate_values={},
        )

    def save(self, state: Mapping[str, Any], told: int) -> None:
        """Keep a snapshot in memory and, where there is a folder, in one file that is replaced at once."""
        super().save(state, told)
        if self._folder is not None:
            write_snapshot(self._folder / "snapshot.npz", state, told)

    def saved(self) -> tuple[Mapping[str, Any], int] | None:
        """The last complete snapshot."""
        kept = super().saved()
        if kept is None and self._folder is not None and (self._folder / "snapshot.npz").is_file():
            return read_snapshot(self._folder / "snapshot.npz")
        return kept


# --- records ----------------------------------------------------------------------------------------


def trial_to_json(trial: Trial) -> dict[str, Any]:
    """A trial as JSON values: gradients and vectors are told, not stored."""
    record: dict[str, Any] = {
        name: getattr(trial, name)
        for name in (
            "number", "role", "batch", "position", "size", "host", "device", "queued", "started", "ended",
            "attempts", "lost_seconds",
        )
    }  # fmt: skip
    record["proposal"] = trial.proposal.to_json()
    o = trial.outcome
    if isinstance(o, Failure):
        record["failure"] = {"kind": o.kind, "reason": o.reason, "seconds": o.seconds}
    else:
        record["measurement"] = {
            "values": {m: v if math.isfinite(v) else str(v) for m, v in o.values.items()},
            "seconds": o.seconds,
            "weights": None if o.weights is None else str(o.weights),
            "reused": o.reused,
            "notes": dict(o.notes),
        }
    return record


def trial_from_json(record: Mapping[str, Any], space: Space) -> Trial:
    """The trial that `trial_to_json` described.

    Raises:
        BadInput: its architecture is not one of the space's.
    """
    rest = dict(record)
    proposal = Proposal.from_json(rest.pop("proposal"), space)
    outcome: Outcome
    if "failure" in rest:
        outcome = Failure(**rest.pop("failure"))
    else:
        m = rest.pop("measurement")
        outcome = Measurement(
            {name: float(value) for name, value in m["values"].items()},
            m["seconds"],
            weights=None if m["weights"] is None else Path(m["weights"]),
            reused=m["reused"],
            notes=m["notes"],
        )
    return Trial(proposal=proposal, outcome=outcome, **rest)


def truncate_torn_tail(path: Path) -> int:
    """Cut a journal after its last complete line, and give the number of bytes cut.

    A kill or a full disk can leave half a line; whatever is appended behind it would be unreadable.
    """
    if not path.is_file():
        return 0
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep:
            start = max(0, keep - 65536)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            file.truncate(keep)
    return end - keep


def write_snapshot(path: Path, state: Mapping[str, Any], told: int) -> None:
    """Write arrays and JSON values to one npz file, atomically.

    Raises:
        BadInput: the state holds something that is neither an array nor JSON.
    """
    arrays: dict[str, Any] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[f"a{len(arrays)}"] = value
            return {"__array__": f"a{len(arrays) - 1}"}
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        if isinstance(value, str | int | float | bool | None):
            return value
        raise must("a snapshot", "hold arrays and JSON values only", type(value).__name__)

    text = json.dumps({"told": told, "state": plain(state)})
    arrays["json"] = np.frombuffer(text.encode(), dtype=np.uint8)
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_snapshot(path: Path) -> tuple[Mapping[str, Any], int]:
    """What `write_snapshot` wrote.

    Raises:
        StorageError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            data = json.loads(file["json"].tobytes().decode())

            def restored(value: Any) -> Any:
                if isinstance(value, dict):
                    return (
                        file[value["__array__"]]
                        if "__array__" in value
                        else {k: restored(v) for k, v in value.items()}
                    )
                return [restored(v) for v in value] if isinstance(value, list) else value

            return restored(data["state"]), int(data["told"])
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(f"the snapshot {path} is damaged: {error}") from error


def _distribution(leaf: Decision) -> Any:
    from optuna import distributions

    if isinstance(leaf, Categorical):
        return distributions.CategoricalDistribution(leaf.options)
    assert isinstance(leaf, Integer | Real)
    kind = distributions.IntDistribution if isinstance(leaf, Integer) else distributions.FloatDistribution
    return kind(leaf.low, leaf.high, log=leaf.log)


def _name_metrics(study: Any, names: list[str]) -> None:
    """Label the values for Optuna's plots and dashboard."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(names)


def _is_file(storage: str | Path) -> bool:
    return "://" not in str(storage)


def _open(storage: str | Path) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if _is_file(storage):
        return optuna.storages.JournalStorage(JournalFileBackend(str(storage)))
    return optuna.storages.get_storage(str(storage))
