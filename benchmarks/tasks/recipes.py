"""The rows of the comparison: our recipe, and peers' defences as this library's parts make them.

Peers' rows are re-implementations of the idea, trained for the same epochs on the same network; they are not the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

UNDEFENDED, OURS = "undefended", "bottleneck + noise + adversaries (ours)"


@dataclass(frozen=True)
class Defence:
    """What stands on the boundary and what trains against it. Made afresh for each seed."""

    adversaries: Sequence[Any] = ()
    channel: Any = None
    regularizers: Sequence[Any] = ()
    bottleneck: int | None = None
    mode: str = "fused"


def recipes(classes: int, private: Sequence[str], bottleneck: int) -> dict[str, Callable[[], Defence]]:
    """All rows by name.

    Args:
        classes: of the task.
        private: attributes to hide, each of two classes.
        bottleneck: features let through where there is a bottleneck.
    """
    import keras_privpart as kp
    from keras_privpart.training import goals, regularizers

    def readers(goal: Any = None, weight: float = 1.0) -> list[Any]:
        return [kp.AttributeAdversary(name, 2, weight, kind=("linear", "mlp", "conv"), goal=goal) for name in private]

    def ours() -> Defence:
        decoders = [
            kp.ReconstructionAdversary(1.0, "mse", name="decoder_mse"),
            kp.ReconstructionAdversary(1.0, "ssim", name="decoder_ssim"),
        ]
        return Defence([*decoders, *readers()], kp.GaussianChannel(0.5), bottleneck=bottleneck)

    rows: dict[str, Callable[[], Defence]] = {
        UNDEFENDED: Defence,
        OURS: ours,
        "noise only": lambda: Defence(channel=kp.GaussianChannel(1.0)),
        "bottleneck only": lambda: Defence(bottleneck=bottleneck),
        "NoPeek (distance correlation)": lambda: Defence(regularizers=[regularizers.DistanceCorrelation(1.0)]),
        "DeepObfuscator-like (decoder and attribute adversaries, alternating)": lambda: Defence(
            [kp.ReconstructionAdversary(1.0, "ms-ssim"), *readers()], mode="alternating"
        ),
        "CEM (conditional entropy, noise)": lambda: Defence(
            channel=kp.GaussianChannel(1.0), regularizers=[regularizers.ConditionalEntropy(classes)]
        ),
    }
    if private:
        rows["MaxEnt (attribute heads pushed to maximum entropy)"] = lambda: Defence(readers(goals.MaximumEntropy()))
    return rows
