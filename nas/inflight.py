"""Proposals on their way, and the ledger that names them while they are."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from nas.errors import BadInput, StorageError
from nas.proposal import Proposal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nas.evaluator import Recall
    from nas.files import Files
    from nas.proposal import Role
    from nas.space import Space

LEDGER = "inflight.json"
"""Name of the ledger."""

log = logging.getLogger(__name__)


@final
@dataclass(slots=True)
class Job:
    """A proposal on its way; the fields as in `Trial`."""

    number: int
    proposal: Proposal
    role: Role
    batch: int
    position: int
    size: int
    queued: float
    recall: Recall | None = None

    @property
    def claims(self) -> frozenset[str]:
        """The answers that others wait for."""
        return frozenset() if self.recall is None else self.recall.claims

    @property
    def asked(self) -> Proposal:
        """What is left to evaluate."""
        if self.recall is None or self.recall.remaining is None:
            return self.proposal
        return self.recall.remaining


@final
class InFlight:
    """The jobs in flight, in a content that is replaced at once: a killed run goes on with exactly those.

    In a folder it survives the process, not the machine: after a power loss it may be older than the history
    or gone, and what was in flight is then asked for anew.

    Args:
        files: where it is kept, as `LEDGER`.
        space: of the candidates.
    """

    def __init__(self, files: Files, space: Space) -> None:
        self._files, self._space = files, space
        self._texts: dict[int, str] = {}

    def write(self, jobs: Iterable[Job]) -> None:
        """Name these jobs, instead of all others; none leaves nothing.

        Raises:
            StorageError: it cannot be written.
        """
        self._texts = {job.number: self._texts.get(job.number) or _text(job) for job in jobs}
        try:
            if self._texts:
                self._files.note(LEDGER, f"[{','.join(self._texts.values())}]".encode())
            else:
                self._files.drop(LEDGER)
        except StorageError as error:
            raise StorageError(f"{error}; all trials are safe, make room and resume") from error

    def read(self) -> list[Job]:
        """The jobs that were named last; none where the ledger is damaged, which is only logged."""
        try:
            content = self._files.read(LEDGER)
            records = [] if content is None else json.loads(content)
            return [
                Job(proposal=Proposal.from_json(record.pop("proposal"), self._space), role="search", **record)
                for record in records
            ]
        except (StorageError, ValueError, KeyError, TypeError, AttributeError, BadInput) as error:
            log.warning(
                "%s in %s is damaged (%s); what was in flight is asked for anew", LEDGER, self._files, error
            )
            return []


def _text(job: Job) -> str:
    fields = ("number", "batch", "position", "size", "queued")
    return json.dumps({**{n: getattr(job, n) for n in fields}, "proposal": job.proposal.to_json()})
