"""Privacy partitioning for Keras: cut a model, train both halves against adversaries, audit, export, serve.

Names load on first use; importing this package loads neither TensorFlow nor Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "AdversarialTrainer": "training.trainer",
    "AttributeAdversary": "training.adversaries",
    "AuditReport": "auditing.report",
    "Boundary": "contract",
    "Contract": "contract",
    "Cut": "partitioning.cutpoint",
    "CutTable": "partitioning.table",
    "DropoutChannel": "channels",
    "GateChannel": "channels",
    "GaussianChannel": "channels",
    "LaplaceChannel": "channels",
    "Partition": "partitioning.halves",
    "PrivPartError": "errors",
    "PrivacyMonitor": "training.callbacks",
    "QuantizeChannel": "channels",
    "ReconstructionAdversary": "training.adversaries",
    "RestartAdversaries": "training.callbacks",
    "ThreatModel": "threat_model",
    "audit": "auditing.protocol",
    "check": "partitioning.cut",
    "compare": "auditing.comparison",
    "cuts": "partitioning.advisor",
    "export": "exporting.bundle",
    "partition": "partitioning.cut",
    "with_bottleneck": "partitioning.cut",
}

__all__ = [
    "AdversarialTrainer",
    "AttributeAdversary",
    "AuditReport",
    "Boundary",
    "Contract",
    "Cut",
    "CutTable",
    "DropoutChannel",
    "GateChannel",
    "GaussianChannel",
    "LaplaceChannel",
    "Partition",
    "PrivPartError",
    "PrivacyMonitor",
    "QuantizeChannel",
    "ReconstructionAdversary",
    "RestartAdversaries",
    "ThreatModel",
    "__version__",
    "audit",
    "check",
    "compare",
    "cuts",
    "export",
    "partition",
    "with_bottleneck",
]

if TYPE_CHECKING:
    from keras_privpart.auditing.comparison import compare
    from keras_privpart.auditing.protocol import audit
    from keras_privpart.auditing.report import AuditReport
    from keras_privpart.channels import DropoutChannel, GateChannel, GaussianChannel, LaplaceChannel, QuantizeChannel
    from keras_privpart.contract import Boundary, Contract
    from keras_privpart.errors import PrivPartError
    from keras_privpart.exporting.bundle import export
    from keras_privpart.partitioning.advisor import cuts
    from keras_privpart.partitioning.cut import check, partition, with_bottleneck
    from keras_privpart.partitioning.cutpoint import Cut
    from keras_privpart.partitioning.halves import Partition
    from keras_privpart.partitioning.table import CutTable
    from keras_privpart.threat_model import ThreatModel
    from keras_privpart.training.adversaries import AttributeAdversary, ReconstructionAdversary
    from keras_privpart.training.callbacks import PrivacyMonitor, RestartAdversaries
    from keras_privpart.training.trainer import AdversarialTrainer


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
