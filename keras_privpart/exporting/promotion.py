"""Labels of a bundle's versions: which one is `stable`, which one `canary`. They stand in `serving/models.config`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_privpart import atomic
from keras_privpart.contract import Contract, check_name
from keras_privpart.errors import BundleError, ContractError, IntegrityError
from keras_privpart.exporting.tf_serving.serving_config import MODELS_CONFIG, STABLE, read_labels, serving_files
from keras_privpart.integrity import read_text, sealed_pairs

_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Promotion:
    """What `promote` did: the labels before, and as they are now."""

    name: str
    before: Mapping[str, int]
    labels: Mapping[str, int]


def promote(bundle: str | Path, version: int, label: str = STABLE) -> Promotion:
    """Gives a version a label: `serving/models.config` is written anew and replaced in one step, so that a server reads old or new.

    A running TensorFlow Serving takes the change when it polls the file (`--model_config_file_poll_wait_seconds`). The other
    files of `serving/` are written anew too, which repairs them.

    Args:
        bundle: the bundle's folder.
        version: the version; its files are compared with its contract first.
        label: such as `stable` or `canary`.

    Raises:
        ContractError: the bundle has no such version, or the label cannot be one.
        IntegrityError: the version's server half is not what its contract says.
        BundleError: the file cannot be written.
    """
    root = Path(bundle)
    check_name(label)
    contracts = [Contract.load(root, held) for held in Contract.versions(root)]
    Contract.load(root, version).verify_files(root, ("server",))
    try:
        before = intact_labels(root)
    except (ContractError, IntegrityError):
        before = {}  # a damaged file's labels cannot be trusted
    labels = {**before, label: version}
    _replace(root.resolve(), serving_files(contracts, labels))
    return Promotion(contracts[-1].name, before, labels)


def intact_labels(bundle: Path) -> dict[str, int]:
    """Version by label, as `models.config` of a bundle has them.

    Raises:
        ContractError, IntegrityError: the file is missing, or was changed after it was written.
    """
    text = read_text(bundle, MODELS_CONFIG, _MAX_BYTES)
    sealed_pairs(text, MODELS_CONFIG)
    return read_labels(text)


def _replace(bundle: Path, texts: Mapping[str, str]) -> None:
    """Replaces each file in one step, the first last. What is new waits beside the bundle: inside, it would be files that nobody lists."""
    try:
        with atomic.sibling(bundle) as stage:
            atomic.write_texts(stage, texts)
            atomic.swap([(stage / path, bundle / path) for path in reversed(list(texts))], beside=bundle)
    except OSError as error:
        raise BundleError(f"Can't write {bundle / MODELS_CONFIG}: {error}. The bundle's labels are as they were.") from error
