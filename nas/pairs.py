"""Which strategies can search which spaces, and why the others cannot."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from nas import registry
from nas.errors import BadInput
from nas.objective import parse_objectives
from nas.rng import stream
from nas.strategy import check_pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nas.space import Space

EXAMPLES: dict[str, dict[str, Any]] = {
    "hyper": {"model": "torch.nn:Flatten", "only": ["optimizer", "lr", "weight_decay", "batch_size"]},
    "join": {"parts": {"conv": "conv", "hyper": "hyper"}},
}
"""Settings of the built-in spaces that cannot be made, or not build, without any."""


def pairs() -> list[dict[str, str]]:
    """A row for each strategy and space: ``yes``, ``one`` or ``several`` objectives, ``no``; and why not."""
    return [
        {"strategy": strategy, "space": space, "works": works, "reason": reason}
        for space in registry.names("space")
        for strategy, works, reason in _with_space(space)
    ]


def _with_space(name: str) -> Iterator[tuple[str, str, str]]:
    """Each strategy on a space: its name, whether it works, and the reason where it does not."""
    strategies = registry.names("strategy")
    try:
        space = example_space(name)
    except BadInput as error:  # it needs settings or data that are not here
        yield from ((strategy, "no", f"{name}: {error}") for strategy in strategies)
        return
    for strategy in strategies:
        one, several = (
            _reason(strategy, space, text) for text in ("max accuracy", "max accuracy, min params")
        )
        works = {(True, True): "yes", (True, False): "one", (False, True): "several", (False, False): "no"}
        yield strategy, works[one is None, several is None], one or several or ""


def _reason(name: str, space: Space, text: str) -> str | None:
    """Why a strategy cannot search a space for these objectives; None when it can."""
    objectives, probe = parse_objectives(text), space.sample(stream(0, "probe"))
    factory = registry.load("strategy", name)
    if isinstance(factory, type) and "task" in inspect.signature(factory).parameters:
        return check_pair(factory, name, space, probe, objectives)  # there is no task to make it with
    offers = {"space": space, "objectives": objectives, "known": None}
    try:
        strategy = registry.create("strategy", name, offers)
    except BadInput as error:
        return f"{name}: {error}"
    return check_pair(strategy, name, space, probe, objectives)


def example_space(spec: str | Mapping[str, Any], offers: Mapping[str, Any] | None = None) -> Any:
    """A space with its default settings, or those of `EXAMPLES`.

    Args:
        spec: its name, or ``{factory: …}`` from the working directory.
        offers: what it may ask for, such as the task.
    """
    settings: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    settings |= EXAMPLES.get(settings.get("name", ""), {})
    if "parts" in settings:
        parts = settings["parts"].items()
        settings["parts"] = {label: registry.create("space", part, offers) for label, part in parts}
    return registry.create("space", settings, offers)
