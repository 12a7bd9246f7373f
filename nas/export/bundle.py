"""What leaves the toolkit: a model with everything that says what it is."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from nas.decision import Value

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@final
@dataclass(frozen=True)
class Bundle:
    """A found model, ready for exporters.

    Args:
        name: begins the names of all files: letters, digits, dots, dashes and underscores.
        architecture: what was chosen, by decision.
        values: metrics in their units.
        module: in evaluation mode, on the CPU, with the weights that were scored.
        example: model inputs of shape (batch, ...), at least one sample.
        provenance: JSON values that say where the model comes from, such as seed and trial number.

    Raises:
        BadInput: the name cannot be a file's, the module is in training mode, or the example is empty.
    """

    name: str
    architecture: Mapping[str, Value]
    values: Mapping[str, float]
    module: nn.Module
    example: Tensor
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise must("bundle.name", "be letters, digits, dots, dashes and underscores", self.name)
        if any(part.training for part in self.module.modules()):
            raise must("bundle.module", "be in evaluation mode", "training mode", "call module.eval()")
        if not self.example.ndim or not len(self.example):
            raise must("bundle.example", "hold at least one sample", tuple(self.example.shape))

    def file(self, folder: Path, ending: str) -> Path:
        """The file of that ending in a folder, which is made where it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.name}{ending}"


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a file beside ``path`` and move it there: the file is whole or not there.

    The partial file keeps the ending, because some writers choose by it.
    """
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """A JSON file; numbers that are not finite become null, which every reader understands."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"
    return write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
