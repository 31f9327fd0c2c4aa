"""The adversaries that a threat model calls for."""

from __future__ import annotations

from collections.abc import Mapping

from keras_privpart.errors import TrainingError
from keras_privpart.threat_model import ThreatModel
from keras_privpart.training.privacy_terms.adversaries import Adversary, AttributeAdversary, ReconstructionAdversary
from keras_privpart.training.privacy_terms.schedules import Weight


def default_adversaries(threat_model: ThreatModel, classes: Mapping[str, int] | None = None, weight: Weight = 1.0) -> list[Adversary]:
    """Adversaries to train against: a decoder if the input is private, and heads of three kinds for each private attribute.

    Args:
        threat_model: what is to be hidden.
        classes: how many values each private attribute has; needed for every one, 0 for numbers.
        weight: of each adversary.

    Raises:
        TrainingError: an attribute whose number of classes is missing.
    """
    classes = classes or {}
    missing = [name for name in threat_model.private if name not in classes]
    if missing:
        raise TrainingError(f"Received classes for {sorted(classes)}; expected those of {missing} as well. Use 0 for numbers.")
    found: list[Adversary] = [ReconstructionAdversary(weight=weight)] if threat_model.input_private else []
    for name in threat_model.private:
        kind, count = ("linear", "mlp", "conv"), classes[name]
        if count:
            found.append(AttributeAdversary(name, classes=count, weight=weight, kind=kind))
        else:
            found.append(AttributeAdversary(name, weight=weight, kind=kind, attribute_type="continuous"))
    return found
