"""The rows of the comparison: our recipe, and peers' defences as this library's parts make them.

Peers' rows are re-implementations of the idea, trained for the same epochs on the same network; they are not the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable

from task import OURS, UNDEFENDED, WITH_DECODERS, Task

from keras_privpart.training import recipes as known
from keras_privpart.training.recipe import Defence as Row


def recipes(task: Task, classes: int) -> dict[str, Callable[[], Row]]:
    """All rows by name.

    Args:
        task: whose they are.
        classes: of the task.
    """
    private = dict.fromkeys(task.private, 2)
    ours = {"bottleneck": task.bottleneck, "noise": task.noise, "target": task.bits}
    weight = task.bits_weight
    earlier = {"bottleneck": 32, "noise": 0.5}  # with decoder adversaries, as published before: its noise fits linear features
    rows: dict[str, Callable[[], Row]] = {
        UNDEFENDED: known.undefended,
        OURS: lambda: known.bits(classes, **ours, weight=weight),
        "competing features + frozen noise + bound on the bits (ours, frozen)": lambda: known.bits(
            classes, **ours, weight=weight, frozen=True
        ),
        "competing features + noise (ours without the bound)": lambda: known.bits(classes, **ours, weight=0),
        "linear features + noise + bound on the bits (ours without the competition)": lambda: known.bits(
            classes, **ours, weight=weight, activation="linear"
        ),
        "competing features (ours without noise)": lambda: known.competing_features(task.bottleneck),
        WITH_DECODERS: lambda: known.reconstruction(private, **earlier, weight=task.weight),
        "bottleneck + noise": lambda: known.bottleneck_and_noise(**earlier),
        "noise only": known.noise_only,
        "bottleneck only": lambda: known.bottleneck_only(task.bottleneck),
        "NoPeek (distance correlation)": known.nopeek,
        "DeepObfuscator-like (decoder and attribute adversaries, alternating)": lambda: known.deep_obfuscator(private),
        "CEM (conditional entropy, noise)": lambda: known.conditional_entropy(classes),
    }
    if private:
        rows["MaxEnt (attribute heads pushed to maximum entropy)"] = lambda: known.maximum_entropy(private)
    return rows
