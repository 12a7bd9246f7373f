"""That a metric has no value, and why."""

from __future__ import annotations

from typing import final

from nas.errors import NasError


@final
class Undefined(NasError):
    """A metric has no value for this module, task or batch; the message is the reason."""
