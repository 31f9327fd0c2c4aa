"""Fresh attackers, one family a file. `standard(private)` gives those of every audit."""

from __future__ import annotations

from collections.abc import Sequence

from keras_privpart.auditing.attacks.base import RECONSTRUCTION, Attack
from keras_privpart.auditing.attacks.decoder import DecoderAttack
from keras_privpart.auditing.attacks.learner import Effort
from keras_privpart.auditing.attacks.probe import ProbeAttack

__all__ = ["RECONSTRUCTION", "Attack", "DecoderAttack", "Effort", "ProbeAttack", "standard"]


def standard(private: Sequence[str] = (), pictures: int = 8) -> list[Attack]:
    """The attacks of every audit: four decoders (two sizes, MSE and SSIM losses), and a linear and an MLP probe for every attribute."""
    decoders: list[Attack] = [
        DecoderAttack("small", "mse", pictures),
        DecoderAttack("small", "ssim", pictures),
        DecoderAttack("large", "mse", pictures),
        DecoderAttack("large", "mixed", pictures),
    ]
    return [*decoders, *(ProbeAttack(attribute, probe) for attribute in private for probe in ("linear", "mlp"))]
