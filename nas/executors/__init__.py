"""Executors: one a file, named here and loaded when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from nas import registry
from nas.errors import must, unknown
from nas.executor import Executor

BUILTIN: Mapping[str, str] = {
    "here": "nas.executors.here:Here",
    "processes": "nas.executors.processes:Processes",
    "ray": "nas.executors.ray:Ray",
}


def create(spec: str | Mapping[str, object] | Executor) -> Executor:
    """The executor that a config names, perhaps with settings; a finished one is given back.

    Raises:
        BadInput: the name is not known, or a setting is wrong.
    """
    if isinstance(spec, Executor):
        return spec
    if not isinstance(spec, str | Mapping):
        raise must("it", "be a name, a mapping with name: or a nas Executor", spec)
    settings = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in BUILTIN:
        raise unknown("executor", name, BUILTIN)
    module, _, attribute = BUILTIN[name].partition(":")
    made: Executor = registry.call(getattr(importlib.import_module(module), attribute), name, settings, {})
    return made
