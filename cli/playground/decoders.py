"""Two decoders for the page: fresh attackers of the audit's strongest kind, one on the defended boundary and one on the undefended."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_privpart import atomic
from keras_privpart.errors import AuditError

if TYPE_CHECKING:
    from keras_privpart.auditing.attacks.reconstruction.decoder import DecoderAttack
    from keras_privpart.auditing.reporting.report import AuditReport
    from keras_privpart.datasets import Dataset
    from keras_privpart.partitioning.halves import Partition

RECORD = "decoders.json"
SIDES = ("defended", "undefended")
DEFAULT = ("medium", "mixed")
_SCHEMA = 1
_HELD_OUT = 0.15
_VICTIMS = 500
_BATCH = 128


@dataclass(frozen=True)
class DecoderRecord:
    """What is known of two decoders beside their weights.

    Attributes:
        attack: its name.
        why: why this one.
        epochs: of each training, at most.
        victims: how many test pictures `ssim` is of, by side.
        server_weights: SHA-256 of the server half that the defended one belongs to.
    """

    attack: str
    why: str
    epochs: int
    victims: int
    ssim: dict[str, float]
    server_weights: str


def chosen(report: AuditReport | None) -> tuple[str, str, str]:
    """Size and loss of the strongest decoder of an audit, and why that one: what cannot be kept as a network is passed over."""
    if report is None:
        return (*DEFAULT, "nothing was audited; this is a strong one of the standard set")
    results = [result for result in report.of("reconstruction") if result.attack.startswith("decoder, ") and result.looks == 1]
    if not results:
        return (*DEFAULT, "the audit had no decoder; this is a strong one of the standard set")
    best = max(results, key=lambda result: (bool(result.ceiling), result.strength))
    _, size, loss = best.attack.split(", ")
    strongest = report.strongest("reconstruction").attack
    found = "the audit's strongest attacker" if strongest == best.attack else f"the audit's strongest decoder; its strongest: {strongest}"
    return size, loss, found


def train(
    halves: dict[str, Partition],
    data: Dataset,
    value_range: Sequence[float] | None,
    report: AuditReport | None,
    epochs: int | None,
    folder: Path,
    tell: Callable[[str], None],
) -> None:
    """Trains both and writes them to `folder`, which they replace.

    Args:
        halves: partitions by `SIDES`.
        data: the run's own; the attacker learns from the training pictures and is tried on test pictures.
        value_range: what black and white are in the data; `None` for what the model's front tells.
        report: the run's audit.
        epochs: of each; `None` for as many as an audit's attackers get.
        folder: where to write.
        tell: is told what is done.
    """
    from keras_privpart.auditing.attacks.base.learner import Effort
    from keras_privpart.auditing.attacks.reconstruction.decoder import DecoderAttack
    from keras_privpart.auditing.knowledge.images import ranged
    from keras_privpart.auditing.knowledge.views import boundary_view
    from keras_privpart.auditing.selection import full_epochs
    from keras_privpart.exporting.saved_model import weights_digest

    size, loss, why = chosen(report)
    kept = int(len(data.train.held) * (1 - _HELD_OUT))
    learned, tried = (ranged(part, halves[SIDES[0]], value_range) for part in (data.train.held, data.test))
    known, held_out, victims = learned[:kept], learned[kept:], tried[:_VICTIMS]
    effort = Effort(epochs or full_epochs(len(known), _BATCH), min(_BATCH, len(known)))
    attacks: dict[str, DecoderAttack] = {}
    ssim = {}
    for side in SIDES:
        attack = attacks[side] = DecoderAttack(size, loss)
        if reason := attack.inapplicable(known):
            raise AuditError(f"The page shows what a decoder makes of a boundary: {reason}.")
        tell(f"Training {attack.name} on the {side} boundary ...")
        view = boundary_view(halves[side])
        attack.fit(view, known, held_out, effort, 0)
        ssim[side] = float(np.mean(attack.score(view.see(victims.x), victims).scores()["ssim"]))
    record = DecoderRecord(attacks[SIDES[0]].name, why, effort.epochs, len(victims), ssim, weights_digest(halves[SIDES[0]].server))
    try:
        with atomic.new_folder(folder, replace=True) as fresh:
            for side, attack in attacks.items():
                attack.standalone().save(fresh / f"{side}.keras")
            (fresh / RECORD).write_text(json.dumps({"schema": _SCHEMA, **asdict(record)}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise AuditError(f"Can't write {folder}: {error.strerror}. Choose a run's folder that you may write to.") from error


def read(folder: Path) -> tuple[DecoderRecord, dict[str, Any]] | None:
    """The record and the networks by side, or `None` where nothing was trained yet.

    Raises:
        AuditError: the folder is damaged.
    """
    import keras

    if not (folder / RECORD).is_file():
        return None
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if found.pop("schema") != _SCHEMA:
            raise AuditError(f"{folder} is of another version of keras_privpart; train its decoders again (--train-decoders).")
        return DecoderRecord(**found), {side: keras.models.load_model(folder / f"{side}.keras", compile=False) for side in SIDES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, AuditError):
            raise
        raise AuditError(f"{folder} is damaged ({error}); train its decoders again (--train-decoders).") from error
