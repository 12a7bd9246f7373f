"""Fine-tuning: training that starts from weights that are there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nas.estimators.fit import Fit, check_recipe
from nas.rng import derive

if TYPE_CHECKING:
    from torch import nn

    from nas.estimators.recipe import Recipe
    from nas.proposal import Proposal
    from nas.task import Task


def fine_tuned(module: nn.Module, task: Task, recipe: Recipe, proposal: Proposal, *, seed: int) -> nn.Module:
    """The module, trained on from its present weights, in evaluation mode.

    Args:
        module: on its device; trained in place.
        task: its data.
        recipe: of the whole schedule; nothing of a space's own recipe is mixed in.
        proposal: whose module it is; its fidelity truncates the schedule, and with the replicate it has an
            order of the data and draws of its own.
        seed: the run's.

    Raises:
        BadInput: the recipe does not suit the task.
        Diverged: a loss is not finite, or far above the first ones.
    """
    check_recipe(recipe, task)
    device = next(module.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive(seed, "fine_tune", proposal.candidate.key, proposal.replicate))
        fit = Fit(module, task, recipe, seed=seed, replicate=proposal.replicate)
        fit.run(max(1, round(proposal.fidelity * fit.steps)))
    return fit.scored.eval()
