"""Files of a bundle: their records, and the comparison of a folder with them. Needs no TensorFlow.

`keras_privpart.contract` offers what others need; import it from there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from keras_privpart.boundary import checked_record
from keras_privpart.errors import ContractError, IntegrityError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SEALED = re.compile(r"# sealed ([0-9a-f]{64})\n(.*)", re.DOTALL)
_MAX_SEALED_BYTES = 1 << 20
_PAIR = re.compile(r"^# pair ([0-9]{1,19}) ([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class FileRecord:
    """SHA-256 and size of one file of the bundle."""

    sha256: str
    nbytes: int

    @classmethod
    def of(cls, path: Path, limit: int | None = None) -> FileRecord:
        """Measures a file; reads at most `limit` bytes and one chunk."""
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                size += len(chunk)
                if limit is not None and size > limit:
                    break
                digest.update(chunk)
        return cls(digest.hexdigest(), size)

    @classmethod
    def from_json(cls, path: str, data: Any) -> FileRecord:
        record = checked_record(cls, data, ("sha256", "nbytes"))
        sha256, nbytes = record["sha256"], record["nbytes"]
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256) or type(nbytes) is not int or nbytes < 0:
            raise ContractError(f"The record of {path} is malformed; expected a SHA-256 and a size. Export the bundle again.")
        return cls(sha256, nbytes)


@dataclass(frozen=True)
class FileProblem:
    """One bad file: its path inside the bundle, and a sentence."""

    path: str
    text: str

    def __str__(self) -> str:
        return self.text


def check_path(path: str) -> None:
    """Raises `ContractError` unless `path` is plain, relative and stays inside the bundle."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ".." in parts or "\0" in path or PurePosixPath(*parts).as_posix() != path:
        raise ContractError(f"Received the file path {path!r}; expected a plain relative path inside the bundle. Do not use this bundle.")


def read_text(root: Path, path: str, limit: int) -> str:
    """Reads a small text file of the bundle `root`.

    Raises:
        ContractError: missing, a link, unreadable, not UTF-8, or longer than `limit` bytes.
    """
    file = root / path
    if is_linked(root, path):
        raise ContractError(
            f"{path} in {str(root)!r} is reached through a symbolic link; a bundle holds plain files. Copy the bundle again."
        )
    if not file.is_file():
        raise ContractError(f"Found no {path} in {str(root)!r}; expected a folder written by `privpart-keras export`.")
    try:
        with file.open("rb") as stream:
            raw = stream.read(limit + 1)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"Can't read {file}: {error}. Export the bundle again.") from error
    if len(raw) > limit:
        raise ContractError(f"{file} is larger than {limit} bytes; expected a contract. Do not use this bundle.")
    return text


def is_linked(root: Path, path: str) -> bool:
    """Whether a file, or a folder on the way to it from `root`, is a symbolic link."""
    file = root / path
    return any(part.is_symlink() for part in (file, *list(file.parents)[: path.count("/")]))


def recorded_problems(root: Path, records: Mapping[str, FileRecord], *, partial: bool, listing: str) -> Iterator[FileProblem]:
    """Compares files with their records: missing ones, links, and whatever has another size or SHA-256.

    Args:
        root: the bundle's folder.
        records: by path.
        partial: whether files may be missing.
        listing: the file that lists them, for messages.
    """
    for path, record in sorted(records.items()):
        file = root / path
        if is_linked(root, path):
            yield FileProblem(path, f"{path} is reached through a symbolic link; a bundle holds plain files only. Copy the bundle again.")
        elif not file.is_file():
            if not (partial and not file.exists()):
                yield FileProblem(path, f"{path} is listed in {listing} and missing in {root}. Copy the bundle again.")
        elif file.stat().st_size != record.nbytes or FileRecord.of(file, limit=record.nbytes) != record:
            yield FileProblem(path, f"{path} differs from {listing} (SHA-256 or size). Copy the bundle again, or export it again.")


def stray_problems(
    root: Path, folders: Iterable[str], version: int, records: Mapping[str, FileRecord], listing: str
) -> Iterator[FileProblem]:
    """Files below versioned folders that nobody lists. Other versions' folders are the business of their own contracts."""
    for folder in folders:
        for file in sorted((root / folder).rglob("*")):
            path = file.relative_to(root).as_posix()
            below = path.split("/")[1]
            foreign = below.isascii() and below.isdecimal() and below != str(version) and not (root / folder / below).is_symlink()
            if (file.is_symlink() or not file.is_dir()) and path not in records and not foreign:
                yield FileProblem(path, f"{path} is not listed in {listing}. Remove it, or export the bundle again.")


def seal(text: str, pairs: Mapping[int, str]) -> str:
    """Puts the pairs' fingerprints by version, and a SHA-256 over all that follows, on top of a text whose comments start with '#'."""
    body = "".join(f"# pair {version} {fingerprint}\n" for version, fingerprint in sorted(pairs.items())) + text
    return f"# sealed {hashlib.sha256(body.encode()).hexdigest()}\n{body}"


def sealed_pairs(text: str, path: str) -> dict[int, str]:
    """The fingerprints by version that `seal` put on a text.

    Raises:
        IntegrityError: the text was changed after it was sealed, or never was.
    """
    match = _SEALED.fullmatch(text)
    if match is None or hashlib.sha256(match[2].encode()).hexdigest() != match[1]:
        raise IntegrityError(
            f"{path} was changed after it was written (its seal differs). Copy the bundle again, or run `privpart-keras promote`, which "
            "writes it anew. A server's own settings belong in a copy outside the bundle."
        )
    return {int(version): fingerprint for version, fingerprint in _PAIR.findall(match[2])}


def sealed_problems(
    root: Path, files: Sequence[str], version: int, fingerprint_of: Callable[[int], str], *, partial: bool
) -> Iterator[FileProblem]:
    """Checks the sealed files of one folder: each as it was written, for pairs of this bundle, `version` among them; and no other file.

    Args:
        root: the bundle's folder.
        files: paths of the sealed files.
        version: the version that they must know.
        fingerprint_of: the fingerprint of any version of the bundle; raises `ContractError` where there is none.
        partial: whether files may be missing, and may not know the version yet.
    """
    for file in sorted((root / PurePosixPath(files[0]).parts[0]).rglob("*")):
        path = file.relative_to(root).as_posix()
        if path not in files:
            yield FileProblem(path, f"{path} is not listed among {list(files)}. Remove it, or keep it outside the bundle.")
    for path in files:
        if partial and not (root / path).exists() and not (root / path).is_symlink():
            continue
        try:
            pairs = sealed_pairs(read_text(root, path, _MAX_SEALED_BYTES), path)
            strangers = [other for other, fingerprint in pairs.items() if fingerprint_of(other) != fingerprint]
        except (ContractError, IntegrityError) as error:
            yield FileProblem(path, str(error) if path in str(error) else f"{path}: {error}")
            continue
        if strangers or not pairs:
            yield FileProblem(path, f"{path} was written for another bundle than this (versions {strangers}). Copy the bundle again.")
        elif version not in pairs and not partial:
            text = f"{path} does not know version {version}: an export was interrupted. Run `privpart-keras promote`, which writes it anew."
            yield FileProblem(path, text)
