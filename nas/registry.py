"""From names to factories: built-in tables, entry points, decorators, and ``factory:`` references."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from hashlib import blake2b
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, final

from nas.errors import BadInput, must, unknown
from nas.target import is_file, of_file

Factory: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=Factory)

KINDS: Mapping[str, str] = {
    "space": "nas.spaces",
    "task": "nas.tasks",
    "target": "nas.targets",
    "evaluator": "nas.estimators",
    "strategy": "nas.strategies",
    "exporter": "nas.export",
}
"""Package of each kind; its ``BUILTIN`` maps names to ``"module:attribute"``, and entry points of the
group ``nas.spaces``, ``nas.tasks``, ``nas.targets``, ``nas.evaluators``, ``nas.strategies`` or
``nas.exporters`` add to it."""

_registered: dict[str, dict[str, Factory]] = {kind: {} for kind in KINDS}
_files: dict[Path, bytes] = {}


def register(kind: str, name: str) -> Callable[[F], F]:
    """Decorator that gives a factory a name in this process.

    Raises:
        BadInput: a built-in or another factory carries the name.
    """

    def add(factory: F) -> F:
        known = _registered[kind].get(name)
        if name in _builtin(kind) or (known is not None and _place(known) != _place(factory)):
            raise must(f"the name of a {kind}", "be new", name, "choose another one")
        _registered[kind][name] = factory
        return factory

    return add


def register_space(name: str) -> Callable[[F], F]:
    """Register a `Space` class or factory, as ``@nas.register_space("mlp")``."""
    return register("space", name)


def register_task(name: str) -> Callable[[F], F]:
    """Register a `Task` class or factory."""
    return register("task", name)


def register_evaluator(name: str) -> Callable[[F], F]:
    """Register an `Evaluator` class or factory."""
    return register("evaluator", name)


def register_strategy(name: str) -> Callable[[F], F]:
    """Register a `Strategy` class or factory."""
    return register("strategy", name)


def known() -> tuple[dict[Path, bytes], dict[str, dict[str, Factory]]]:
    """What a worker adopts: the user files as they were when loaded, in that order, and the factories."""
    return dict(_files), {kind: dict(factories) for kind, factories in _registered.items()}


def adopt(
    files: Mapping[Path, Path] | None = None, registered: Mapping[str, Mapping[str, Factory]] | None = None
) -> None:
    """Load files and take over registered factories, as `known` gave them in another process.

    Args:
        files: by their path in that process, where to read them here.
        registered: factories by kind and name.

    Raises:
        Exception: whatever a file raises.
    """
    for path, place in (files or {}).items():
        _file_module(path, place)
    for kind, factories in (registered or {}).items():
        _registered[kind].update(factories)


def names(kind: str) -> tuple[str, ...]:
    """Every name of a kind, sorted; nothing is imported for it."""
    return tuple(sorted({*_builtin(kind), *_registered[kind], *_entry_points(kind)}))


def load(kind: str, name: str) -> Factory:
    """The factory of that name.

    Raises:
        UnknownName: nothing carries it; the nearest name is suggested.
        BadInput: the package that brings it cannot be imported.
    """
    if name in _registered[kind]:
        return _registered[kind][name]
    builtin = _builtin(kind)
    if name in builtin:
        return _attribute(builtin[name])
    points = _entry_points(kind)
    if name in points:
        return _loaded(kind, points[name])
    raise unknown(kind, name, names(kind))


def reference(text: str, folder: Path | None = None) -> Any:
    """What ``"package.module:name"`` or ``"./file.py:name"`` points to.

    Args:
        text: the reference; a file is looked for from ``folder``.
        folder: of the config; the working directory when None.

    A target's YAML file stands for what makes targets of it.

    Raises:
        BadInput: the module, file or name is not there.
    """
    if is_file(text):
        return of_file((folder or Path.cwd()) / text)
    module, colon, attribute = text.rpartition(":")
    if not colon or not module or not attribute:
        raise must("factory", "read 'package.module:name' or './file.py:name'", text)
    try:
        if module.endswith(".py"):
            loaded = _file_module((folder or Path.cwd()) / module)
        else:
            loaded = importlib.import_module(module)
    except ImportError as error:
        raise must("factory", "be importable", text, f"{error}; a file is named ./file.py:name") from error
    except FileNotFoundError as error:
        raise must("factory", "name a file that exists", text, str(error)) from error
    except SyntaxError as error:
        raise must("factory", "be valid Python", text, f"{error.msg} in line {error.lineno}") from error
    try:
        return getattr(loaded, attribute)
    except AttributeError:
        raise unknown(
            f"name in {module}", attribute, [n for n in vars(loaded) if not n.startswith("_")]
        ) from None


def create(
    kind: str, spec: object, offers: Mapping[str, Any] | None = None, *, folder: Path | None = None
) -> Any:
    """Build a plugin from what a config says of it.

    Args:
        kind: among `KINDS`.
        spec: a name, a mapping with ``name`` or ``factory`` and settings, a class, or the finished object;
            a setting such as ``./file.py:name`` stands for what it points to, and one named like its own
            kind is such a description itself, as in ``{name: halving, strategy: {name: evolution}}``.
        offers: values that the factory receives where its signature names them.
        folder: that ``./file.py`` references start from.

    Returns:
        The object; ``spec`` itself when it is none of the first three.

    Raises:
        BadInput: an unknown name or setting, or a setting that the factory refuses.
    """
    if isinstance(spec, type):
        return call(spec, spec.__name__, {}, offers or {})
    if not isinstance(spec, str | Mapping):
        return spec
    factory, label, settings = resolve(kind, spec, folder)
    if isinstance(settings.get(kind), str | Mapping):  # a wrapper: what it wraps is made first
        try:
            settings[kind] = create(kind, settings[kind], offers, folder=folder)
        except BadInput as error:
            raise error.at(kind) from error
    return call(factory, label, settings, offers or {})


def resolve(
    kind: str, spec: str | Mapping[str, Any], folder: Path | None = None
) -> tuple[Factory, str, dict[str, Any]]:
    """The factory that a config's name or mapping stands for, what to call it, and its settings.

    Raises:
        BadInput: the name or the reference leads nowhere.
    """
    settings: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    if ("name" in settings) == ("factory" in settings):
        raise must(kind, "have either name: or factory:", dict(settings))
    key = "name" if "name" in settings else "factory"
    label = settings.pop(key)
    if not isinstance(label, str):
        raise must(f"{kind}.{key}", "be a text", label)
    named = key == "name" and not (kind == "target" and is_file(label))
    factory = load(kind, label) if named else reference(label, folder)
    for setting, value in settings.items():
        if isinstance(value, str) and source_file(value, Path()) is not None:
            settings[setting] = reference(value, folder)
    return factory, label, settings


@final
class Later:
    """An offer that is made when the first factory takes it.

    Args:
        make: called once.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: list[Any] = []

    def value(self) -> Any:
        """What was made."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]


def call(factory: Factory, label: str, settings: Mapping[str, Any], offers: Mapping[str, Any]) -> Any:
    """Call a factory with settings, and with those offers that it names.

    Raises:
        BadInput: a setting is unknown, missing, or of another type than the factory's annotation.
    """
    parameters = _parameters(factory, label)
    for setting, value in settings.items():
        if setting not in parameters or setting in offers:
            raise unknown(f"setting of {label}", setting, set(parameters) - set(offers))
        _check_type(label, setting, value, parameters[setting].annotation)
    offered = {name: offers[name] for name in parameters if name in offers}
    made = {name: o.value() if isinstance(o, Later) else o for name, o in offered.items()}
    given = {**made, **settings}
    for name, parameter in parameters.items():
        if name not in given and parameter.default is parameter.empty:
            raise must(f"{label}.{name}", "be given", None)
    try:
        return factory(**given)
    except TypeError as error:
        raise BadInput(f"{label}: {error}") from error


def _parameters(factory: Factory, label: str) -> dict[str, inspect.Parameter]:
    """What can be given to a factory by name."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError) as error:
        raise must(f"factory {label}", "be a class or function in Python", factory) from error
    return {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


_SCALARS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "str": (str, "a text"),
    "bool": (bool, "true or false"),
    "None": (type(None), "null"),
}


def _check_type(label: str, setting: str, value: object, annotation: object) -> None:
    """Refuse a value that an annotation of scalars rules out; all other annotations are the factory's own."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    kinds = [part.strip() for part in text.split("|")]
    if not all(kind in _SCALARS for kind in kinds):
        return
    allowed = [kind for kind in kinds if isinstance(value, _SCALARS[kind][0])]
    if not allowed or (isinstance(value, bool) and "bool" not in kinds):
        words = " or ".join(_SCALARS[kind][1] for kind in kinds)
        raise must(f"{label}: {setting}", f"be {words}", value)


def source_file(text: str, folder: Path) -> Path | None:
    """The file of a ``./file.py:name`` reference; None for a module's."""
    module = text.rpartition(":")[0]
    return folder / module if module.endswith(".py") else None


def _builtin(kind: str) -> Mapping[str, str]:
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    table: Mapping[str, str] = importlib.import_module(KINDS[kind]).BUILTIN
    return table


def _entry_points(kind: str) -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=f"nas.{kind}s")}


def _loaded(kind: str, point: Any) -> Factory:
    try:
        factory: Factory = point.load()
    except (ImportError, AttributeError) as error:
        raise must(f"the package of {kind} {point.name}", "be importable", point.value, str(error)) from error
    return factory


def _attribute(place: str) -> Factory:
    module, _, attribute = place.partition(":")
    factory: Factory = getattr(importlib.import_module(module), attribute)
    return factory


def _file_module(path: Path, place: Path | None = None) -> Any:
    """The module of a file, under a name made of its path, read from another place if that is given."""
    path = path.resolve()
    name = f"nas_user_{path.stem}_{blake2b(str(path).encode(), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    place = place or path
    spec = importlib.util.spec_from_file_location(name, place)
    if not place.is_file() or spec is None or spec.loader is None:
        raise FileNotFoundError(str(path))
    module, text = importlib.util.module_from_spec(spec), place.read_bytes()
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _files[path] = text
    return module


def _place(factory: Factory) -> str:
    return f"{getattr(factory, '__module__', '')}:{getattr(factory, '__qualname__', repr(factory))}"
