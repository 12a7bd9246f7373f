"""YAML 1.2: ``1e-4`` is a number, ``on`` and ``no`` are texts, and no key stands twice."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import yaml

from nas.errors import BadInput, must

if TYPE_CHECKING:
    from pathlib import Path


def read_yaml(path: Path) -> Any:
    """The value of a YAML file.

    Raises:
        BadInput: it cannot be read, or is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise must("it", "be a file that can be read", str(path), error.strerror or "") from error
    except UnicodeDecodeError as error:
        raise must(path.name, "be UTF-8 text", str(path), str(error)) from error
    return parse_yaml(text, path.name)


class _Yaml12(yaml.SafeLoader):
    """Scalars of the YAML 1.2 core schema, and no key twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        """A mapping whose keys are distinct."""
        found: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(
                    problem="a key must be a plain value", problem_mark=key_node.start_mark
                )
            if key in found:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            found.add(key)
        return super().construct_mapping(node, deep=deep)


_Yaml12.yaml_implicit_resolvers = {}  # none of YAML 1.1's
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def _integer(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


_Yaml12.add_constructor("tag:yaml.org,2002:int", _integer)


def parse_yaml(text: str, name: str = "config") -> Any:
    """The value of a YAML 1.2 text: ``1e-4`` is a number, ``on`` and ``no`` are texts.

    Raises:
        BadInput: it is not YAML, or a key stands twice; with line and column.
    """
    try:
        return yaml.load(text, Loader=_Yaml12)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise BadInput(f"{name} must be valid YAML: {problem}{place}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} must be valid YAML: {error}") from None
