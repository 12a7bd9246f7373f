"""What is known of a backend: which operations it makes into one kernel, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, final

from nas.errors import unknown

FOLDER = Path(__file__).with_name("fusion")


@final
@dataclass(frozen=True, slots=True)
class Rule:
    """Which operations a kernel takes up, one consumer after the other.

    Patterns are a family, as ``conv``, or a family and a name, as ``pointwise:relu``.

    Args:
        main: patterns of the first operation.
        then: steps, each the patterns of what may follow; a step is left out where nothing fits it.
        chain: whether the steps may follow each other in any order and number.
        shared: whether a result is taken up that other operations need, too; it is then written as well.
    """

    main: tuple[str, ...]
    then: tuple[tuple[str, ...], ...]
    chain: bool = False
    shared: bool = False

    def steps(self, family: str, name: str) -> tuple[int, ...]:
        """For each number of steps that are behind, the step that takes a kind up; -1 where none does."""
        fitting = [k for k, patterns in enumerate(self.then) if _fits(family, name, patterns)]
        return tuple(next((k for k in fitting if k >= behind), -1) for behind in range(len(self.then) + 1))


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """What a profile says of the operations of one family and name.

    Args:
        merged: whether they run once where they stand several times on the same input.
        apart: whether they are taken apart.
        rule: number of the rule of kernels that begin with one; None where it stays alone.
        steps: `Rule.steps` of each rule.
    """

    merged: bool
    apart: bool
    rule: int | None
    steps: tuple[tuple[int, ...], ...]


@final
class _Kinds(dict[tuple[str, str], Kind]):
    """Kinds by family and name, found when they are asked for the first time."""

    def __init__(self, profile: FusionProfile) -> None:
        self._profile = profile

    def __missing__(self, key: tuple[str, str]) -> Kind:
        found = self[key] = self._profile.kind(*key)
        return found


@final
@dataclass(frozen=True, slots=True)
class FusionProfile:
    """The rules of a backend.

    Args:
        name: ``eager``, ``inductor``, ``onnxruntime``, ``openvino``, ``executorch`` or ``tensorrt``.
        about: what they were taken from, and whether kernels were counted to check them.
        rules: of each first operation, the first that fits.
        merged: patterns of operations that run once where they stand several times on the same input.
        apart: families that it takes apart; ``attention`` into a product, a softmax and a product.
        everything: whether operations run whose results nobody reads.
    """

    name: str
    about: str
    rules: tuple[Rule, ...]
    merged: tuple[str, ...]
    apart: tuple[str, ...]
    everything: bool
    kinds: _Kinds = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", _Kinds(self))

    def kind(self, family: str, name: str) -> Kind:
        """What is said of a family and name; ``kinds`` remembers it."""
        rules = enumerate(self.rules)
        return Kind(
            _fits(family, name, self.merged),
            family in self.apart,
            next((number for number, rule in rules if _fits(family, name, rule.main)), None),
            tuple(rule.steps(family, name) for rule in self.rules),
        )

    @property
    def plain(self) -> bool:
        """Whether each operation is a kernel."""
        return self.everything and not (self.rules or self.merged or self.apart)

    @classmethod
    def load(cls, name: str) -> Self:
        """The profile of a backend.

        Raises:
            UnknownName: there is none of that name.
        """
        path = FOLDER / f"{name}.json"
        if name not in backends():
            raise unknown("backend", name, backends())
        data = json.loads(path.read_text(encoding="utf-8"))
        rules = tuple(
            Rule(
                tuple(rule["main"]),
                tuple(map(tuple, rule["then"])),
                chain=rule.get("chain", False),
                shared=rule.get("shared", False),
            )
            for rule in data["rules"]
        )
        return cls(
            name,
            data["about"],
            rules,
            tuple(data["merged"]),
            tuple(data["apart"]),
            everything=data["everything"],
        )


def backends() -> tuple[str, ...]:
    """Names of the backends that have a profile."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def _fits(family: str, name: str, patterns: tuple[str, ...]) -> bool:
    return family in patterns or f"{family}:{name}" in patterns
