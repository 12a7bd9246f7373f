"""The targets that are data files, by name: ``nas.targets.files.h200`` makes targets of that machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.target import of_file
from nas.targets import FOLDER

if TYPE_CHECKING:
    from nas.target import Maker


def __getattr__(name: str) -> Maker:
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise AttributeError(name)
    return of_file(path)
