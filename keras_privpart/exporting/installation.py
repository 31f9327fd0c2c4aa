"""Brings what was written beside a bundle's place into that place: a new bundle, or one more version of an old one."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from keras_privpart import atomic
from keras_privpart.contract import CONTRACT_FILE, OLDER_CONTRACTS, SERVING_FILES, Contract
from keras_privpart.errors import BundleError, BundleExistsError
from keras_privpart.exporting.promotion import intact_labels
from keras_privpart.exporting.tf_serving.serving_config import CANARY, STABLE, serving_files


def newest_contract(target: Path, overwrite: bool) -> Contract | None:
    """The newest contract of the bundle that an export to `target` adds a version to; `None` where it makes a new bundle.

    Raises:
        BundleExistsError: something else than a bundle is there.
        BundleError: `target` is a symbolic link.
        ContractError, IntegrityError: a bundle is there whose contract cannot be trusted.
    """
    if target.is_symlink():
        raise BundleError(f"{target} is a symbolic link; expected a folder or nothing. Export to the folder it points to.")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    if not (target / CONTRACT_FILE).is_file():
        raise BundleExistsError(f"{target} holds no {CONTRACT_FILE}: it is not a bundle, and is left as it is. Choose another folder.")
    return None if overwrite else Contract.load(target)


def next_version(newest: Contract | None, version: int | None, target: Path) -> int:
    """The version to write: the one asked for, or the one after the newest.

    Raises:
        BundleExistsError: the bundle has that version, or a later one.
    """
    if newest is None:
        return 1 if version is None else version
    if version is None:
        return newest.version + 1
    if version <= newest.version:
        raise BundleExistsError(
            f"{target} is there already, with versions up to {newest.version}; received version {version}. Leave version out to add "
            f"{newest.version + 1}, or pass overwrite=True (--overwrite) to replace the bundle with all its versions."
        )
    return version


@contextlib.contextmanager
def temporary_sibling(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, on the same file system; whatever is left of it is removed at the end."""
    with contextlib.ExitStack() as stack:
        try:
            root = stack.enter_context(atomic.sibling(target))
        except OSError as error:
            raise BundleError(f"Can't write to {target.parent}: {error.strerror}. Choose a folder that you may write to.") from error
        yield root


def install(root: Path, target: Path, contract: Contract, overwrite: bool) -> None:
    """Moves the version that stands complete in `root` to `target`.

    A new bundle appears, and an old one is replaced, by one rename. A further version arrives folder by folder, the server's
    last, then the contract, then the files of `serving/`; if a step fails all goes back. Whoever reads the older versions meanwhile
    finds them unchanged.

    Raises:
        BundleExistsError: the version was taken meanwhile.
    """
    newest = newest_contract(target, overwrite)
    if newest is None:
        atomic.write_texts(root, serving_files([contract], {STABLE: contract.version}))
        atomic.swap([(root, target)], beside=target)
        return
    next_version(newest, contract.version, target)
    olds = [Contract.load(target, version) for version in Contract.versions(target)]
    labels = {**intact_labels(target), CANARY: contract.version}
    atomic.write_texts(root, serving_files([*olds, contract], labels))
    _add(root, target, contract, newest)


def _add(root: Path, target: Path, contract: Contract, newest: Contract) -> None:
    older = Path(OLDER_CONTRACTS) / f"{newest.version}.json"
    (root / OLDER_CONTRACTS).mkdir()
    shutil.copyfile(target / CONTRACT_FILE, root / older)
    folders = [f for f in (contract.device_folder, contract.report_folder, contract.server_folder) if (root / f).exists()]
    for folder in folders:
        if (target / folder).exists() or (target / folder).is_symlink():
            raise BundleExistsError(
                f"{target / folder} is there already, in no contract: an export was interrupted. Remove it, and export again."
            )
    # models.config last: a server that follows it finds everything else in place
    paths = (str(older), *folders, CONTRACT_FILE, *reversed(SERVING_FILES))
    atomic.swap([(root / path, target / path) for path in paths], beside=target)
