"""Which strategies can search which spaces, and why the others cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas import registry
from nas.objective import parse_objectives
from nas.rng import stream
from nas.strategy import check_pair

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES: dict[str, dict[str, Any]] = {
    "hyper": {"model": "torch.nn:Flatten", "only": ["optimizer", "lr", "weight_decay", "batch_size"]},
    "join": {"parts": {"conv": "conv", "hyper": "hyper"}},
}
"""Settings of the built-in spaces that cannot be made, or not build, without any."""


def pairs() -> list[dict[str, str]]:
    """A row for each strategy and space: ``yes``, ``one objective``, ``several`` or ``no``; and why."""
    one, several = parse_objectives("max accuracy"), parse_objectives("max accuracy, min params")
    rows = []
    for space_name in registry.names("space"):
        space = example_space(space_name)
        probe = space.sample(stream(0, "probe"))
        for name in registry.names("strategy"):
            reasons = []
            for objectives in (one, several):
                strategy = registry.create(
                    "strategy", name, {"space": space, "objectives": objectives, "known": None}
                )
                reasons.append(check_pair(strategy, name, space, probe, objectives))
            works = {(True, True): "yes", (True, False): "one objective", (False, True): "several"}
            rows.append(
                {
                    "strategy": name,
                    "space": space_name,
                    "works": works.get((reasons[0] is None, reasons[1] is None), "no"),
                    "reason": next((r for r in reasons if r), ""),
                }
            )
    return rows


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
