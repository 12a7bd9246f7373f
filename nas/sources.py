"""A user's own source files: found in a search, kept in its run, and read from there ever after."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from nas import registry
from nas.errors import must
from nas.target import companions, is_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nas.parts import Search

SPECS = ("space", "task", "target", "evaluators", "strategy", "memo", "baseline")
"""Fields of a search that may hold ``./file.py:name``; the target may be a YAML file."""
FOLDER = "sources"
"""Where a run keeps its copies."""


def files(search: Search) -> dict[str, Path]:
    """The files that a search refers to, by their names.

    Raises:
        BadInput: two of them carry the same name.
    """
    found: dict[str, Path] = {}

    def note(text: str) -> str:
        path = _file(text, search)
        if path is None or not path.is_file():
            return text
        for file in (path, *(companions(path) if is_file(text) else ())):
            if found.setdefault(file.name, file).resolve() != file.resolve():
                raise must("factory", "name source files of different names", text, "rename one of them")
        return text

    for field in SPECS:
        _replaced(getattr(search, field), note)
    return found


def keep(search: Search, run: Path) -> None:
    """Copy the files of a search into its run, where they are not there already."""
    for name, path in files(search).items():
        copy = run / FOLDER / name
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            shutil.copy2(path, copy)


def digests(search: Search) -> dict[str, str]:
    """32 hexadecimal digits of the contents of each file."""
    return {name: _digest(path) for name, path in files(search).items()}


def from_run(search: Search, run: Path) -> Search:
    """The same search with the run's own copies, so that the run still opens when the originals are gone."""

    def copied(text: str) -> str:
        path = _file(text, search)
        if path is None or not (run / FOLDER / path.name).is_file():
            return text
        return f"./{FOLDER}/{path.name}{text[text.rindex(path.name) + len(path.name) :]}"

    changed = {field: _replaced(getattr(search, field), copied) for field in SPECS}
    return replace(search, **changed, folder=run)


def check_unchanged(search: Search, run: Path) -> None:
    """Refuse to go on when an original was edited after the run began.

    Raises:
        BadInput: a file differs from the run's copy.
    """
    for name, path in files(search).items():
        copy = run / FOLDER / name
        if copy.is_file() and _digest(copy) != _digest(path):
            raise must(
                str(path), "stay as it was when the run began", "other contents",
                f"restore it from {copy}, or start a new run",
            )  # fmt: skip


def _file(text: str, search: Search) -> Path | None:
    """The file that a text refers to: ``./file.py:name``, or the description of a target."""
    path = registry.source_file(text, search.folder)
    if path is None and is_file(text) and text in _texts(search.target):
        return search.folder / text
    return path


def _texts(spec: Any) -> tuple[str, ...]:
    """The texts that a spec holds."""
    if isinstance(spec, str):
        return (spec,)
    return tuple(v for v in spec.values() if isinstance(v, str)) if isinstance(spec, Mapping) else ()


def _replaced(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of plain values with every text changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _replaced(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(inner, change) for inner in value]
    return value


def _digest(path: Path) -> str:
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()
