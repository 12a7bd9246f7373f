"""Models of operations that ship with the toolkit: arrays fitted to public timings, one file a device."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import must
from nas.kernels.predictor import OpModels

if TYPE_CHECKING:
    from nas.target import Target

FOLDER = Path(__file__).parent
SHIPPED = tuple(sorted(file.stem for file in FOLDER.glob("*.npz")))
"""Targets that have some."""


def models_of(target: Target) -> OpModels:
    """The shipped models of a target.

    Raises:
        BadInput: there are none, or they are of another dtype or backend than the target's.
    """
    if target.name not in SHIPPED:
        remedy = "give op_models: FILE.npz, fitted to timings of the machine"
        raise must("the target", f"be one of {', '.join(SHIPPED)}", target.name, remedy)
    return _fitting(_read(target.name), target)


def models_at(path: Path, target: Target) -> OpModels:
    """Models in a file of the user's.

    Raises:
        BadInput: the file is none, or its models are of another dtype or backend than the target's.
    """
    return _fitting(OpModels.load(path), target)


def _fitting(models: OpModels, target: Target) -> OpModels:
    """The models, if they say something of what a target runs."""
    for name in ("dtype", "backend"):
        if getattr(models, name) != getattr(target, name):
            raise must(f"target.{name}", f"be {getattr(models, name)}, as timed", getattr(target, name))
    return models


@cache
def _read(name: str) -> OpModels:
    return OpModels.load(FOLDER / f"{name}.npz")
