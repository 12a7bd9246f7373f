"""How much the loss would change if single channels went."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.estimators.proxies.probe import Probe


def fisher(probe: Probe) -> float:
    """Σ_layers Σ_channels n·½·mean_batch (Σ_positions a·∂L/∂a)²; >= 0, higher is better.

    The activations a are the outputs of convolutions and linear layers, n the number of weights that make
    a channel, and L the mean loss of the batch.

    Source: Theis et al. 2018, eq. 6; Turner et al. 2020, eq. 3, summed as in the code of Abdelfattah et al.
    2021 and of every table since, which gives a channel's value to each of its n weights. The formula in
    print has no n.
    """
    products = probe.channel_products
    sums = {name: float(p.double().square().mean(0).sum()) / 2 for name, p in products.items()}
    return sum(total * probe.weights[n].numel() / products[n].shape[1] for n, total in sums.items())
