"""How a check says that something does not hold."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


def expect(holds: object, message: str) -> None:
    """Raise an `AssertionError` that tells the author what must hold, unless it does."""
    if not holds:
        raise AssertionError(message)


@contextmanager
def generators_untouched(subject: str) -> Iterator[None]:
    """Expect that the body leaves Python's and NumPy's global generators as they were."""
    before = _states()
    yield
    for name, state in _states().items():
        expect(
            state == before[name],
            f"{subject} must leave {name}'s global generator alone, got other numbers afterwards; "
            "draw from the generator or seed that is passed",
        )


@contextmanager
def torch_generator_untouched(subject: str) -> Iterator[None]:
    """Expect that the body leaves torch's global generator as it was."""
    import torch

    before = torch.get_rng_state()
    yield
    expect(
        torch.equal(before, torch.get_rng_state()),
        f"{subject} must leave torch's global generator alone, got other numbers afterwards; "
        "draw under torch.random.fork_rng()",
    )


def _states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - the legacy generator is watched
    return {"Python": random.getstate(), "NumPy": (name, np.asarray(keys).tobytes(), *rest)}
