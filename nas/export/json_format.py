"""A model as plain facts: what was chosen and measured as JSON, and its weights as a state dict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nas.export.bundle import write_json, write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from nas.export.bundle import Bundle


def export_json(bundle: Bundle, folder: Path) -> list[Path]:
    """Write ``<name>.json`` and ``<name>.pt``.

    The JSON holds ``name``, ``architecture``, ``metrics``, ``provenance`` and ``files``, a list of
    ``{file, bytes, holds}``. The weights are read back with
    ``module.load_state_dict(torch.load(path, weights_only=True))``.

    Returns:
        The two files, the JSON first.
    """
    state = bundle.module.state_dict()
    weights = write_whole(bundle.file(folder, ".pt"), lambda partial: torch.save(state, partial))
    content = {
        "name": bundle.name,
        "architecture": dict(bundle.architecture),
        "metrics": dict(bundle.values),
        "provenance": dict(bundle.provenance),
        "files": [{"file": weights.name, "bytes": weights.stat().st_size, "holds": "state dict"}],
    }
    return [write_json(bundle.file(folder, ".json"), content), weights]
