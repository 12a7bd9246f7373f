"""Several spaces searched together: one builds, the others adapt what it built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from nas.decision import Nested
from nas.errors import must
from nas.space import Adaptation, Space

if TYPE_CHECKING:
    from torch import nn

    from nas.architecture import Architecture
    from nas.decision import Value


@final
class Join(Space):
    """The product of spaces; their decisions get the part's name as a prefix, as in ``conv.stage.count``.

    Args:
        parts: at least one space by name. One of them builds; all others are adaptations, which change
            in order what it built. When all are adaptations, the first one's model is adapted.

    Raises:
        BadInput: no part or more than one builds, a part has a model that would not be used, or a name is
            empty or has a dot.
    """

    def __init__(self, parts: Mapping[str, Space]) -> None:
        if not isinstance(parts, Mapping) or not parts:
            raise must("join", "name at least one space", parts)
        for name, space in parts.items():
            if not isinstance(name, str) or not name or "." in name:
                raise must("join", "name its parts without dots", name)
            if not isinstance(space, Space):
                raise must(f"join.{name}", "be a space", space)
        self._parts = dict(parts)
        self._builder = _builder(self._parts)
        self.decisions = tuple(Nested(name, space) for name, space in self._parts.items())

    @property
    def parts(self) -> Mapping[str, Space]:
        """The joined spaces by name, in order."""
        return self._parts

    def build(self, architecture: Architecture) -> nn.Module:
        """What the building part builds, adapted by the other parts in order."""
        module = self._parts[self._builder].build(architecture.part(self._builder))
        for name, space in self._parts.items():
            if name != self._builder and isinstance(space, Adaptation):
                module = space.adapt(module, architecture.part(name))
        return module

    def feasible(self, architecture: Architecture) -> bool:
        """Whether every part is feasible."""
        return all(space.feasible(architecture.part(name)) for name, space in self._parts.items())

    def recipe(self, architecture: Architecture) -> Mapping[str, Value]:
        """The training settings of all parts.

        Raises:
            BadInput: two parts choose the same setting.
        """
        merged: dict[str, Value] = {}
        for name, space in self._parts.items():
            for setting, value in space.recipe(architecture.part(name)).items():
                if setting in merged:
                    raise must("join", "choose each training setting in one part", setting)
                merged[setting] = value
        return merged


def _builder(parts: Mapping[str, Space]) -> str:
    """The name of the part that builds; no other part may have a model of its own."""
    builders = [name for name, space in parts.items() if not isinstance(space, Adaptation)]
    models = [name for name, space in parts.items() if isinstance(space, Adaptation) and space.model]
    if not builders and models[:1] == [next(iter(parts))]:
        builders, models = models[:1], models[1:]
    if len(builders) != 1:
        remedy = "" if builders else "add one, or give the first part a model:"
        raise must("join", "have exactly one part that builds a network", builders, remedy)
    if models:
        raise must(f"join.{models[0]}", f"have no model beside {builders[0]}, which builds", "a model")
    return builders[0]
