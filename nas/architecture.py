"""What was chosen: an immutable architecture, a relaxed mixture, or a module from outside the space."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np

from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from nas.decision import Categorical, Value


@final
class Architecture(Mapping[str, "Value"]):
    """An immutable choice for every active decision, in the space's order.

    Made by `Space.architecture`, which checks and canonicalises; a space's decisions that are inactive
    under the choice are absent.
    """

    __slots__ = ("_hash", "_key", "_values")

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values: dict[str, Value] = dict(values)
        self._key: str | None = None
        self._hash: int | None = None

    def __getitem__(self, name: str) -> Any:
        """The value chosen for a decision, typed as whatever the decision holds."""
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(f"{name} (chosen: {', '.join(self._values)})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        """The value chosen for a decision, or a default where it is inactive."""
        return self._values.get(name, default)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(tuple(self._values.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._values == other._values

    def __reduce__(self) -> tuple[Any, ...]:
        return Architecture, (self._values,)  # without the hash: texts hash differently in another process

    def __repr__(self) -> str:
        return f"Architecture({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"

    @property
    def key(self) -> str:
        """32 hexadecimal digits that name this choice in every process."""
        if self._key is None:
            self._key = digest(self._values)
        return self._key

    def part(self, prefix: str) -> Architecture:
        """What was chosen below a path: ``part("cell")`` holds ``cell.op`` as ``op``."""
        head = f"{prefix}."
        return Architecture({k[len(head) :]: v for k, v in self._values.items() if k.startswith(head)})

    def repeated(self, name: str) -> tuple[Architecture, ...]:
        """The active repetitions of a `Repeat`, each as its own choice."""
        inner = self.part(name)
        indices = {int(head) for head in (k.split(".", 1)[0] for k in inner) if head.isdigit()}
        return tuple(inner.part(str(i)) for i in sorted(indices))

    def to_json(self) -> dict[str, Value]:
        """Plain JSON scalars by decision name."""
        return dict(self._values)


@final
class Mixture:
    """A relaxed choice: for each categorical decision, weights over its options.

    Args:
        weights: arrays of shape (n_options,), finite and >= 0; they need not sum to 1.

    Raises:
        BadInput: a weight is negative or not finite, or an array is empty or not one-dimensional.
    """

    __slots__ = ("weights",)

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.weights: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]] = {
            name: np.array(w, dtype=np.float64) for name, w in weights.items()
        }
        for name, w in self.weights.items():
            if w.ndim != 1 or not w.size:
                raise must(f"mixture.{name}", "have shape (n_options,)", w.shape)
            if not (np.isfinite(w).all() and (w >= 0).all()):
                raise must(f"mixture.{name}", "be finite and at least 0", w.tolist())
            w.setflags(write=False)

    @property
    def key(self) -> str:
        """32 hexadecimal digits that name these weights in every process."""
        return digest({"mixture": self.to_json()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mixture) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Mixture({', '.join(f'{k}={np.round(v, 3).tolist()}' for k, v in self.weights.items())})"

    def without(self, decision: Categorical, option: int) -> Mixture:
        """The same weights with one option of a decision removed (weight 0)."""
        w = self.weights[decision.name].copy()
        w[option] = 0.0
        return Mixture({**self.weights, decision.name: w})

    def fixed(self, decision: Categorical, option: int) -> Mixture:
        """The same weights with one option of a decision chosen (weight 1, all others 0)."""
        w = np.zeros_like(self.weights[decision.name])
        w[option] = 1.0
        return Mixture({**self.weights, decision.name: w})

    def choices(self, decisions: Sequence[Categorical]) -> dict[str, Value]:
        """The heaviest option of each decision; the first one on ties."""
        return {d.name: d.options[int(np.argmax(self.weights[d.name]))] for d in decisions}

    def to_json(self) -> dict[str, list[float]]:
        """Lists of weights by decision name."""
        return {name: w.tolist() for name, w in self.weights.items()}


@final
class Fixed:
    """A module from outside the space, such as the trained baseline of a search.

    Args:
        factory: ``"package.module:name"`` of a callable without arguments that gives an ``nn.Module``, or
            the callable itself (then the run cannot be resumed in another process).
    """

    __slots__ = ("_factory", "name")

    def __init__(self, factory: str | Callable[[], nn.Module]) -> None:
        self._factory = factory
        self.name = factory if isinstance(factory, str) else getattr(factory, "__qualname__", repr(factory))

    @property
    def key(self) -> str:
        """32 hexadecimal digits that name the factory."""
        return digest({"fixed": self.name})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Fixed({self.name})"

    def build(self) -> nn.Module:
        """The module, as its factory gives it.

        Raises:
            BadInput: the factory was given as an object in another process, or cannot be found.
        """
        factory = self._factory
        if isinstance(factory, str):
            module, _, attribute = factory.partition(":")
            try:
                factory = getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError, ValueError) as error:
                raise must(
                    "baseline", "name a factory as 'package.module:name'", factory, str(error)
                ) from error
        return factory()


Candidate: TypeAlias = Architecture | Mixture | Fixed
"""What an evaluator can be asked about."""


def digest(value: Mapping[str, Any]) -> str:
    """32 hexadecimal digits of a JSON value, independent of the process but not of the order of keys."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()
