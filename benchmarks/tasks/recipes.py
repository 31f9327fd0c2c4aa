"""The rows of the comparison: our recipe, and peers' defences as this library's parts make them.

Peers' rows are re-implementations of the idea, trained for the same epochs on the same network; they are not the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from task import Task

from keras_privpart.training.recipe import Defence

UNDEFENDED, OURS = "undefended", "bottleneck + noise + adversaries (ours)"


@dataclass(frozen=True)
class Row(Defence):
    """A defence, made afresh for each seed, and how many features of the whole example its bottleneck lets through, where it has one."""

    bottleneck: int | None = None


def recipes(task: Task, classes: int) -> dict[str, Callable[[], Row]]:
    """All rows by name.

    Args:
        task: whose they are.
        classes: of the task.
    """
    import keras_privpart as kp
    from keras_privpart.training.privacy_terms import goals, regularizers

    def readers(goal: Any = None, weight: float = 1.0) -> list[Any]:
        return [kp.AttributeAdversary(name, 2, weight, kind=("linear", "mlp"), goal=goal) for name in task.private]

    def ours() -> Row:
        decoders = [
            kp.ReconstructionAdversary(task.weight, "mse", size="small", name="decoder_mse"),
            kp.ReconstructionAdversary(task.weight, "ssim", size="small", name="decoder_ssim"),
        ]
        return Row([*decoders, *readers()], kp.GaussianChannel(task.noise), bottleneck=task.bottleneck)

    rows: dict[str, Callable[[], Row]] = {
        UNDEFENDED: Row,
        OURS: ours,
        "bottleneck + noise (ours without its adversaries)": lambda: Row(
            channel=kp.GaussianChannel(task.noise), bottleneck=task.bottleneck
        ),
        "noise only": lambda: Row(channel=kp.GaussianChannel(1.0)),
        "bottleneck only": lambda: Row(bottleneck=task.bottleneck),
        "NoPeek (distance correlation)": lambda: Row(regularizers=[regularizers.DistanceCorrelation(1.0)]),
        "DeepObfuscator-like (decoder and attribute adversaries, alternating)": lambda: Row(
            [kp.ReconstructionAdversary(1.0, "ms-ssim"), *readers()], mode="alternating"
        ),
        "CEM (conditional entropy, noise)": lambda: Row(
            channel=kp.GaussianChannel(1.0), regularizers=[regularizers.ConditionalEntropy(classes)]
        ),
    }
    if task.private:
        rows["MaxEnt (attribute heads pushed to maximum entropy)"] = lambda: Row(readers(goals.MaximumEntropy()))
    return rows
