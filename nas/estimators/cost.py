"""What a candidate costs whatever the machine: parameters, multiply-accumulates, bytes."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, final

import torch

from nas.architecture import Fixed
from nas.errors import NasError, must
from nas.evaluator import Evaluator, check_measured, seeded_module
from nas.kernels.capture import BYTES, capture, recorded
from nas.kernels.timing import no_collection
from nas.proposal import Measurement, Outcome, Proposal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from nas.kernels.capture import Trace
    from nas.space import Space
    from nas.target import Target
    from nas.task import Task

_OF_WEIGHTS = frozenset({"params", "trainable_params", "model_bytes"})
_OF_FORWARD = frozenset({"macs", "activation_bytes"})
REMEMBERED = 10_000
"""Candidates whose costs are kept: strategies look at the same ones again and again."""

log = logging.getLogger(__name__)


@final
class CostEvaluator(Evaluator):
    """Counts a candidate's costs for one input.

    * ``params``, ``trainable_params``: numbers of parameters; shared ones count once.
    * ``model_bytes``: bytes of parameters and buffers, floating ones in the target's dtype.
    * ``macs``: multiply-accumulates of convolutions, matrix products and attention in a forward pass, half
      of what ``torch.utils.flop_counter`` counts. Element-wise operations, norms, pooling and look-ups are 0.
    * ``activation_bytes``: the most bytes that the input and the results of operations occupy at any time
      of a forward pass as eager PyTorch runs it, without gradients; not the workspaces inside operations.

    A module is built and run on the meta device, where nothing is computed; where its code does not allow
    that, it is built and run for real.

    Args:
        space, task: what is built, and what gives one input.
        target: whose dtype counts; float32 when None.

    Raises:
        BadInput: the task's example is no tensor.
    """

    metrics = _OF_WEIGHTS | _OF_FORWARD
    cheap = _OF_WEIGHTS | _OF_FORWARD

    def __init__(self, space: Space, task: Task, target: Target | None = None) -> None:
        self._space = space
        self._dtype = "float32" if target is None else target.dtype
        example = task.example(1)
        if not isinstance(example, torch.Tensor):
            raise must("the task's example", "be a tensor", type(example).__name__)
        self._example = example
        self._counted: dict[tuple[str, bool], tuple[Mapping[str, float], str]] = {}

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Count each candidate; weights are of no account.

        Raises:
            UnknownMetric: a metric is not one of these.
            Exception: what the module raises when it is run for real.
        """
        return [self._one(proposal, seed) for proposal in proposals]

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        check_measured(proposal.metrics, self.metrics)
        start = time.perf_counter()
        forward = not _OF_FORWARD.isdisjoint(proposal.metrics)
        key = proposal.candidate.key, forward
        if key not in self._counted:
            # Building allocates so many objects that the collector would take a third of the time.
            with no_collection():
                counted = self._count(proposal, seed, forward=forward)
            if len(self._counted) == REMEMBERED:
                self._counted.clear()
            self._counted[key] = counted
        values, device = self._counted[key]
        seconds = time.perf_counter() - start
        return Measurement({m: values[m] for m in proposal.metrics}, seconds, notes={"counted_on": device})

    def _count(self, proposal: Proposal, seed: int, *, forward: bool) -> tuple[Mapping[str, float], str]:
        # A fixed module comes with weights of its own, which the meta device would swallow.
        if not isinstance(proposal.candidate, Fixed):
            try:
                with torch.device("meta"):
                    module = seeded_module(self._space, proposal, seed).eval()
                return self._of(module, forward=forward)
            except NasError:
                raise
            except Exception as error:
                log.debug("built for real: %s", error)
        return self._of(seeded_module(self._space, proposal, seed).eval(), forward=forward)

    def _of(self, module: nn.Module, *, forward: bool) -> tuple[Mapping[str, float], str]:
        values = weights_cost(module, self._dtype)
        if not forward:
            return values, "meta"
        trace = capture(module, self._example, dtype=self._dtype)
        return {**values, **_of_pass(trace)}, trace.traced_on


def weights_cost(module: nn.Module, dtype: str = "float32") -> dict[str, float]:
    """``params``, ``trainable_params`` and ``model_bytes`` of a module, floating numbers in a dtype."""
    parameters = list(module.parameters())
    width = BYTES[dtype]
    return {
        "params": sum(p.numel() for p in parameters),
        "trainable_params": sum(p.numel() for p in parameters if p.requires_grad),
        "model_bytes": sum(
            t.numel() * (width if t.is_floating_point() else t.element_size())
            for t in (*parameters, *module.buffers())
        ),
    }


def forward_cost(module: nn.Module, x: Tensor) -> dict[str, float]:
    """``macs`` and ``activation_bytes`` of a module in evaluation mode, called with ``x``.

    Args:
        module: with its weights on the device of ``x``; the meta device will do.
        x: shape (1, ...) for the cost of one input.
    """
    return _of_pass(recorded(module, x))


def _of_pass(trace: Trace) -> dict[str, float]:
    return {"macs": trace.macs, "activation_bytes": trace.activation_bytes}
