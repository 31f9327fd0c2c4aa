"""What each form of the device half costs and keeps: bytes, error, accuracy, latency, leakage. One row per form, for the contract."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.contract import SERVE_SIGNATURE, Contract
from keras_privpart.datasets import Samples
from keras_privpart.errors import BundleError, DataError
from keras_privpart.exporting.encoding import decode
from keras_privpart.exporting.forms import SAVED_MODEL, Form, Run
from keras_privpart.exporting.reload import Arrays, by_name, numpy_of
from keras_privpart.exporting.saved_model import server_function
from keras_privpart.partitioning.halves import Partition
from keras_privpart.training.task import correct

if TYPE_CHECKING:
    from keras_privpart.auditing.reporting.report import AuditReport

REFERENCE = "in memory, float32"
_BATCH = 64
_LATENCY_RUNS = 30

Audit = Callable[[Partition], "AuditReport"]


@dataclass(frozen=True)
class Measurer:
    """Measures forms on test data.

    Args:
        contract: of the version.
        server: the server half as the bare loader returned it.
        test: examples with the task's labels; `None` leaves accuracy and latency unmeasured.
        leakage: attacks a partition, such as `lambda parts: kp.audit(parts, train, test, reference=undefended)`; `None` leaves leakage
            unmeasured.
    """

    contract: Contract
    server: Any
    test: Samples | None
    leakage: Audit | None

    def reference(self, partition: Partition, run: Run, audit: AuditReport | None) -> dict[str, Any]:
        """The row that the others are read against: both halves in memory, neither optimised nor encoded, and the audit of these."""
        function = tf.function(server_function(partition, self.contract.outputs), reduce_retracing=True)

        def score(boundary: Arrays) -> Arrays:
            return numpy_of(function(*(tf.constant(boundary[spec.name]) for spec in partition.boundary.tensors)))

        row: dict[str, Any] = {
            "form": REFERENCE,
            "device_bytes": None,
            "compressed_bytes": None,
            "boundary_bytes": partition.boundary.nbytes,
        }
        row |= {"relative_error": 0.0, "noise": None, **self._tried(run, score)}
        return {**row, "leakage": None if audit is None else audit.contract_summary().get("kinds")}

    def attack(self, form: Form, seen: Partition) -> AuditReport | None:
        """The audit of one form; `None` where leakage is not to be measured."""
        return None if self.leakage is None else self.leakage(self._attacked(form, seen))

    def row(self, form: Form, audit: AuditReport | None) -> dict[str, Any]:
        """One form, in front of the server half that was exported, with the audit of it."""

        def score(boundary: Arrays) -> Arrays:
            return numpy_of(self.server.signatures[SERVE_SIGNATURE](**{key: tf.constant(value) for key, value in boundary.items()}))

        leakage = None if audit is None else audit.contract_summary()
        return {
            "form": form.name,
            "device_bytes": form.nbytes,
            "compressed_bytes": form.compressed,
            "boundary_bytes": self.contract.boundary.nbytes,
            "relative_error": form.relative_error,
            "noise": form.noise,
            **self._tried(form.run, score),
            "leakage": None if leakage is None else {**leakage.get("kinds", {}), "seeds": leakage.get("seeds")},
        }

    def _tried(self, run: Run, score: Run) -> dict[str, Any]:
        """Accuracy over the test data, and the milliseconds that the device half takes for one example (the median)."""
        if self.test is None:
            return {"accuracy": None, "examples": None, "latency_ms": None}
        inputs = by_name(self.contract.inputs, self.test.x)
        answers = [score(run({name: value[i : i + _BATCH] for name, value in inputs.items()})) for i in range(0, len(self.test), _BATCH)]
        right = correct([np.concatenate([answer[spec.name] for answer in answers]) for spec in self.contract.outputs], self.test)
        accuracy = None if right is None else round(float(right.mean()), 6)
        return {"accuracy": accuracy, "examples": len(self.test), "latency_ms": _latency(run, {k: v[:1] for k, v in inputs.items()})}

    def _attacked(self, form: Form, seen: Partition) -> Partition:
        """What an attacker on the server side meets: the form's device half, its boundary decoded as the server half decodes it."""
        if form.name == SAVED_MODEL:
            return seen
        contract, names = self.contract, seen.boundary.names

        def device(x: Any) -> np.ndarray | list[np.ndarray]:
            values = dict(zip((spec.name for spec in contract.inputs), keras.tree.flatten(x), strict=True))
            boundary = decode(contract.boundary, form.run({name: np.asarray(value) for name, value in values.items()}))
            return boundary[names[0]] if len(names) == 1 else [boundary[name] for name in names]

        return replace(seen, device=device)


def as_samples(test: Any) -> Samples | None:
    """The test data as `Samples`.

    Raises:
        BundleError: they are none.
    """
    try:
        return None if test is None else Samples.of(test)
    except DataError as error:
        raise BundleError(f"Received test data that cannot be read: {error}") from error


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a text table, the reference first; `-` is not measured."""
    titles = ("form", "device bytes", "compressed bytes", "boundary bytes", "relative error", "noise", "accuracy", "latency ms", "leakage")
    cells = [titles, *(tuple(_cell(row, title) for title in titles) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(titles))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells)


def _cell(row: Mapping[str, Any], title: str) -> str:
    value = row.get(title.replace(" ", "_"))
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        kinds = {kind: facts for kind, facts in value.items() if isinstance(facts, Mapping)}
        shares = [f"{kind} {facts.get('leakage')} {facts.get('leakage_interval')}" for kind, facts in kinds.items()]
        return "; ".join(shares) or "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _latency(run: Run, one: Arrays) -> float:
    run(one)
    times = []
    for _ in range(_LATENCY_RUNS):
        start = time.perf_counter()
        run(one)
        times.append(time.perf_counter() - start)
    return round(1000 * float(np.median(times)), 3)
