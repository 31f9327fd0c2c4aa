"""Privacy partitioning for Keras: cut a model, train both halves against adversaries, audit, export, serve.

Names load on first use; importing this package loads neither TensorFlow nor Keras.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from keras_privpart.version import __version__

_HOME = {
    "AdversarialTrainer": "training.trainer",
    "AttributeAdversary": "training.privacy_terms.adversaries",
    "AuditReport": "auditing.reporting.report",
    "Boundary": "contract",
    "Contract": "contract",
    "Cut": "partitioning.cutpoint",
    "CutTable": "partitioning.cut_table",
    "Distillation": "training.distillation",
    "DropoutChannel": "channels",
    "GateChannel": "channels",
    "GaussianChannel": "channels",
    "LaplaceChannel": "channels",
    "OpenSet": "auditing.knowledge.open_set",
    "Partition": "partitioning.halves",
    "PrivPartError": "errors",
    "PrivacyMonitor": "training.callbacks",
    "Problem": "partitioning.graphs.problems",
    "Protected": "protecting.protected",
    "QuantizeChannel": "channels",
    "ReconstructionAdversary": "training.privacy_terms.adversaries",
    "RestartAdversaries": "training.callbacks",
    "ThreatModel": "threat_model",
    "audit": "auditing.audit",
    "check_cut": "partitioning.partition",
    "compare_reports": "auditing.reporting.comparison",
    "cuts": "partitioning.cuts",
    "enrolled": "training.closed_form.enrolling",
    "erase": "training.closed_form.erasing",
    "export": "exporting.bundle",
    "partition": "partitioning.partition",
    "protect": "protecting.protect",
    "with_bottleneck": "partitioning.partition",
}

_NAMESPACES = {
    "attacks": "auditing.attacks",
    "channels": "channels",
    "datasets": "datasets",
    "goals": "training.privacy_terms.goals",
    "recipes": "training.recipes",
    "regularizers": "training.privacy_terms.regularizers",
    "schedules": "training.privacy_terms.schedules",
}

_RENAMED = {"check": "check_cut", "compare": "compare_reports"}

__all__ = [
    "AdversarialTrainer",
    "AttributeAdversary",
    "AuditReport",
    "Boundary",
    "Contract",
    "Cut",
    "CutTable",
    "Distillation",
    "DropoutChannel",
    "GateChannel",
    "GaussianChannel",
    "LaplaceChannel",
    "OpenSet",
    "Partition",
    "PrivPartError",
    "PrivacyMonitor",
    "Problem",
    "Protected",
    "QuantizeChannel",
    "ReconstructionAdversary",
    "RestartAdversaries",
    "ThreatModel",
    "__version__",
    "attacks",
    "audit",
    "channels",
    "check_cut",
    "compare_reports",
    "cuts",
    "datasets",
    "enrolled",
    "erase",
    "export",
    "goals",
    "partition",
    "protect",
    "recipes",
    "regularizers",
    "schedules",
    "with_bottleneck",
]

if TYPE_CHECKING:
    from keras_privpart import channels, datasets
    from keras_privpart.auditing import attacks
    from keras_privpart.auditing.audit import audit
    from keras_privpart.auditing.knowledge.open_set import OpenSet
    from keras_privpart.auditing.reporting.comparison import compare_reports
    from keras_privpart.auditing.reporting.report import AuditReport
    from keras_privpart.channels import DropoutChannel, GateChannel, GaussianChannel, LaplaceChannel, QuantizeChannel
    from keras_privpart.contract import Boundary, Contract
    from keras_privpart.errors import PrivPartError
    from keras_privpart.exporting.bundle import export
    from keras_privpart.partitioning.cut_table import CutTable
    from keras_privpart.partitioning.cutpoint import Cut
    from keras_privpart.partitioning.cuts import cuts
    from keras_privpart.partitioning.graphs.problems import Problem
    from keras_privpart.partitioning.halves import Partition
    from keras_privpart.partitioning.partition import check_cut, partition, with_bottleneck
    from keras_privpart.protecting.protect import protect
    from keras_privpart.protecting.protected import Protected
    from keras_privpart.threat_model import ThreatModel
    from keras_privpart.training import recipes
    from keras_privpart.training.callbacks import PrivacyMonitor, RestartAdversaries
    from keras_privpart.training.closed_form.enrolling import enrolled
    from keras_privpart.training.closed_form.erasing import erase
    from keras_privpart.training.distillation import Distillation
    from keras_privpart.training.privacy_terms import goals, regularizers, schedules
    from keras_privpart.training.privacy_terms.adversaries import AttributeAdversary, ReconstructionAdversary
    from keras_privpart.training.trainer import AdversarialTrainer


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(f"keras_privpart.{name} is now keras_privpart.{_RENAMED[name]}.", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(__name__), _RENAMED[name])
    if name in _NAMESPACES:
        value = importlib.import_module(f"{__name__}.{_NAMESPACES[name]}")
    elif name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
