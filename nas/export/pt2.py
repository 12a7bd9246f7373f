"""A model as a program: ``torch.export``'s archive, which runs without the code that built the module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from nas.errors import NasError
from nas.export.bundle import write_json, write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from torch.export import ExportedProgram

    from nas.export.bundle import Bundle

TOLERANCE = 1e-5
"""Largest difference between the saved program and the module, relative to the largest output."""


class ParityError(NasError):
    """An exported program does not compute what its module computes."""


def export_pt2(bundle: Bundle, folder: Path) -> list[Path]:
    """Write ``<name>.pt2`` and ``<name>.pt2.json``, a report on it.

    The batch axis is dynamic where the module allows it; else the program takes the example's shape only.
    The saved file is loaded again and compared with the module. The report holds ``file``, ``bytes``,
    ``dynamic_batch``, ``input_shape`` and ``max_difference`` (absolute, over all outputs compared).

    Returns:
        The two files, the program first.

    Raises:
        ParityError: outputs differ by more than 1e-5 of the largest one; no file is left.
        Exception: what ``torch.export`` raises for a module that it cannot trace.
    """
    program, dynamic = _exported(bundle)
    path = bundle.file(folder, ".pt2")
    differences: list[float] = []

    def save_checked(partial: Path) -> None:
        torch.export.save(program, partial)
        differences.append(_difference(bundle, torch.export.load(partial), dynamic))

    write_whole(path, save_checked)
    report = {
        "file": path.name,
        "bytes": path.stat().st_size,
        "dynamic_batch": dynamic,
        "input_shape": list(bundle.example.shape),
        "max_difference": differences[0],
    }
    return [path, write_json(bundle.file(folder, ".pt2.json"), report)]


def _exported(bundle: Bundle) -> tuple[ExportedProgram, bool]:
    """The program, and whether its batch axis is dynamic."""
    # A batch of one would be taken for a constant.
    x = bundle.example if len(bundle.example) > 1 else torch.cat([bundle.example] * 2)
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        try:
            return torch.export.export(bundle.module, (x,), dynamic_shapes=({0: batch},)), True
        except (torch._dynamo.exc.UserError, RuntimeError, ValueError):
            return torch.export.export(bundle.module, (bundle.example,)), False


def _difference(bundle: Bundle, program: ExportedProgram, dynamic: bool) -> float:  # noqa: FBT001 - a fact
    """The largest absolute difference, on the example and, where any batch is taken, on one and on three."""
    inputs = [bundle.example]
    if dynamic:
        inputs += [bundle.example[:1], torch.cat([bundle.example[:1]] * 3)]
    run = program.module()
    worst = 0.0
    with torch.no_grad():
        for x in inputs:
            for ours, theirs in zip(_tensors(bundle.module(x)), _tensors(run(x)), strict=True):
                difference = float((ours - theirs).abs().max())
                scale = max(float(ours.abs().max()), torch.finfo(torch.float32).tiny)
                if not difference <= TOLERANCE * scale:
                    raise ParityError(
                        f"the exported program must agree with its module to {TOLERANCE:g} of {scale:g}, "
                        f"got a difference of {difference:g}"
                    )
                worst = max(worst, difference)
    return worst


def _tensors(output: Any) -> list[Tensor]:
    """The tensors of an output in order, as doubles."""
    leaves = torch.utils._pytree.tree_leaves(output)
    return [leaf.detach().double() for leaf in leaves if isinstance(leaf, torch.Tensor)]
