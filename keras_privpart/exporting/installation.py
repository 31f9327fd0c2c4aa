"""Brings what was written beside a bundle's place into that place: a new bundle, or one more version of an old one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_privpart.contract import CONTRACT_FILE, OLDER_CONTRACTS, SERVING_FILES, Contract
from keras_privpart.errors import BundleError, BundleExistsError
from keras_privpart.exporting.promotion import intact_labels
from keras_privpart.exporting.serving_config import CANARY, STABLE, serving_files


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


@contextmanager
def temporary_sibling(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, on the same file system; whatever is left of it is removed at the end."""
    root = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir()
    except OSError as error:
        raise BundleError(f"Can't write to {target.parent}: {error.strerror}. Choose a folder that you may write to.") from error
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def install(root: Path, target: Path, contract: Contract, overwrite: bool) -> None:
    """Moves the version that stands complete in `root` to `target`.

    A new bundle appears, and an old one is replaced, by one rename. A further version arrives folder by folder, the server's
    last, then the contract, then the files of `serving/`: whoever reads the older versions meanwhile finds them unchanged.

    Raises:
        BundleExistsError: the version was taken meanwhile.
    """
    newest = newest_contract(target, overwrite)
    if newest is None:
        _write(root, serving_files([contract], {STABLE: contract.version}))
        _swap_in(root, target)
        return
    next_version(newest, contract.version, target)
    olds = [Contract.load(target, version) for version in Contract.versions(target)]
    labels = {**intact_labels(target), CANARY: contract.version}
    _write(root, serving_files([*olds, contract], labels))
    _add(root, target, contract, newest)
    for path in reversed(SERVING_FILES):  # models.config last: a server that follows it finds everything else in place
        os.replace(root / path, target / path)


def _add(root: Path, target: Path, contract: Contract, newest: Contract) -> None:
    """Moves the version's folders and its contract; puts the folders back if that fails."""
    older = Path(OLDER_CONTRACTS) / f"{newest.version}.json"
    (root / OLDER_CONTRACTS).mkdir()
    shutil.copyfile(target / CONTRACT_FILE, root / older)
    (target / OLDER_CONTRACTS).mkdir(exist_ok=True)
    moved: list[str] = []
    try:
        os.replace(root / older, target / older)
        for folder in (contract.device_folder, contract.report_folder, contract.server_folder):
            if (root / folder).exists():
                (target / folder).parent.mkdir(exist_ok=True)
                _move_new(root / folder, target / folder)
                moved.append(folder)
        os.replace(root / CONTRACT_FILE, target / CONTRACT_FILE)
    except BaseException:
        if (root / CONTRACT_FILE).exists():  # else the version stands, and the interruption came after it
            for folder in moved:
                os.rename(target / folder, root / folder)
            (target / older).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (target / OLDER_CONTRACTS).rmdir()
        raise


def _move_new(source: Path, destination: Path) -> None:
    if destination.exists() or destination.is_symlink():
        raise BundleExistsError(f"{destination} is there already, in no contract: an export was interrupted. Remove it, and export again.")
    os.rename(source, destination)


def _write(root: Path, texts: dict[str, str]) -> None:
    for path, text in texts.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def _swap_in(root: Path, target: Path) -> None:
    if not target.exists():
        os.rename(root, target)
        return
    old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
    os.rename(target, old)
    try:
        os.rename(root, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
