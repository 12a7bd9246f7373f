"""Files of weights and of whole training states: whole or not there, and read only when undamaged."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

from nas.errors import StorageError
from nas.files import checksum
from nas.proposal import CHECKSUM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from nas.proposal import Proposal
    from nas.space import Space


def weights_file(folder: Path, kind: str, proposal: Proposal) -> Path:
    """Where a proposal's file of a kind (``weights``, ``checkpoints``) belongs."""
    name = f"{proposal.candidate.key}-r{proposal.replicate}-f{proposal.fidelity:g}.pt"
    return folder / kind / name


def write_weights(path: Path, content: Mapping[str, Any]) -> str:
    """Write a file that is either whole or not there; gives its checksum, equal for equal contents.

    Raises:
        StorageError: it cannot be written; nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"weights file {path} cannot be written: {error}") from error
    return checksum(buffer.getbuffer())


def keep_weights(
    folder: Path | None, proposal: Proposal, module: nn.Module
) -> tuple[Path | None, Mapping[str, str]]:
    """Write a module's weights below a folder, if there is one: the file, and a note of its checksum."""
    if folder is None:
        return None, {}
    path = weights_file(folder, "weights", proposal)
    written = write_weights(path, {name: value.cpu() for name, value in module.state_dict().items()})
    return path, {CHECKSUM: written}


def read_weights(path: Path) -> Any:
    """What was written, on the CPU.

    Raises:
        StorageError: the file is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch leaves the checksums in it alone
            damaged = archive.testzip()
        if damaged is not None:
            raise StorageError(f"weights file {path} cannot be read: {damaged} in it is damaged")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError, zipfile.BadZipFile, zlib.error) as error:
        raise StorageError(f"weights file {path} cannot be read: {error}") from error


def loaded(space: Space, proposal: Proposal, weights: Path) -> nn.Module:
    """The candidate's module in evaluation mode, on the CPU, with the weights of that file.

    Raises:
        StorageError: the file cannot be read.
    """
    with torch.random.fork_rng(devices=[]):
        module = space.module(proposal.candidate)
    module.load_state_dict(read_weights(weights))
    return module.eval()
