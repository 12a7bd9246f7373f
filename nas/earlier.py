"""An earlier run that a search begins with: where its trials are, and a copy of them that stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from nas.database import Database, hidden
from nas.errors import BadInput, StorageError, must
from nas.history import STUDY
from nas.journal import Journal
from nas.record import trial_from_json
from nas.store import CONFIG, JOURNAL

if TYPE_CHECKING:
    from nas.proposal import Trial
    from nas.space import Space


@final
@dataclass(frozen=True)
class Earlier:
    """A finished or running search, which is only read.

    Attributes:
        place: its journal file, or the URL of its database.
        study: the name of its study there.
        words: what to call it.
    """

    place: Path | str
    study: str
    words: str

    def trials(self, space: Space) -> tuple[list[Trial], int]:
        """The trials whose architectures belong to a space, and the number of the others.

        Args:
            space: of the new search; the other's may differ.

        Raises:
            StorageError: the journal or database cannot be read.
        """
        import optuna

        def read(storage: Any) -> list[Any]:
            study = optuna.load_study(study_name=self.study, storage=storage)
            return [frozen.user_attrs.get("record") for frozen in study.get_trials(deepcopy=False)]

        trials, foreign = [], 0
        for record in self._read(read):
            try:
                if record is not None:
                    trials.append(trial_from_json(record, space))
            except BadInput:
                foreign += 1
        return trials, foreign

    def keep(self, path: Path) -> None:
        """Copy the trials into a journal file, which is there whole or not at all.

        Raises:
            StorageError: they cannot be read.
            OSError: the copy cannot be written.
        """
        import optuna

        partial = path.with_name(path.name + ".part")
        if isinstance(self.place, Path):
            shutil.copy2(self.place, partial)
        else:
            partial.unlink(missing_ok=True)
            self._read(
                lambda storage: optuna.copy_study(
                    from_study_name=self.study,
                    from_storage=storage,
                    to_storage=Journal(partial).storage,
                    to_study_name=STUDY,
                )
            )
        partial.replace(path)

    def _read(self, action: Any) -> Any:
        """What an action gives that is called with the storage."""
        if isinstance(self.place, Path):
            try:
                return action(Journal(self.place).storage)
            except Exception as error:  # whatever Optuna raises for a file that is no journal
                raise StorageError(f"the journal {self.place} cannot be read: {error}") from error
        database = Database(self.place, "reader")
        try:
            return action(database.storage)
        except KeyError:
            raise must("it", f"name a run in {database}", self.study) from None
        except Exception as error:  # whatever a driver raises
            text = database.address.masked(error)
            raise StorageError(f"the storage {database} cannot be read: {text}") from None
        finally:
            database.close()


def earlier(run: Path | Mapping[str, str]) -> Earlier:
    """Find an earlier run.

    Args:
        run: its folder, which may name a database; or ``storage`` and ``run``, the URL of a database and the
            run's name in it.

    Raises:
        BadInput: it is neither.
    """
    if isinstance(run, Mapping):
        if run.keys() != {"storage", "run"}:
            raise must("it", "be the folder of a run, or have storage and run", dict.fromkeys(run, "…"))
        return _in_database(run["storage"], run["run"])
    if (run / JOURNAL).is_file():
        return Earlier(run / JOURNAL, STUDY, str(run))
    try:
        known = json.loads((run / CONFIG).read_text(encoding="utf-8"))
        return _in_database(known["config"]["storage"], known["run"])
    except (OSError, ValueError, KeyError, TypeError):
        raise must("it", "be the folder of a run", str(run)) from None


def copied(path: Path) -> Earlier:
    """What `Earlier.keep` wrote."""
    return Earlier(path, STUDY, str(path))


def _in_database(url: str, name: str) -> Earlier:
    return Earlier(url, name, f"{name} in {hidden(url)}")
