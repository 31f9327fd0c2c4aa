"""The secret of a device whose noise is frozen: made on the device, kept on the device."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from keras_privpart.contract import NOISE_KEY_BYTES
from keras_privpart.errors import ServingError


def secret(given: bytes | str | Path | None) -> bytes:
    """The secret that a client was given, as 32 bytes.

    Args:
        given: the bytes; a file of them, which is made, for its owner alone, where it is missing; or None, for new ones.

    Raises:
        ServingError: another number of bytes, or a file that cannot be read or made.
    """
    if given is None:
        return os.urandom(NOISE_KEY_BYTES)
    found = given if isinstance(given, bytes) else _kept(Path(given))
    if len(found) != NOISE_KEY_BYTES:
        where = "" if isinstance(given, bytes) else f" in {str(given)!r}"
        raise ServingError(
            f"Received a noise_key of {len(found)} bytes{where}; expected {NOISE_KEY_BYTES}. Draw them with os.urandom, or name a new file."
        )
    return found


def key_of(secret: bytes, channel: str) -> bytes:
    """The key of one channel: those of several differ, and none tells of another."""
    return hashlib.blake2b(channel.encode(), key=secret, digest_size=NOISE_KEY_BYTES).digest()


def _kept(file: Path) -> bytes:
    try:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return file.read_bytes()
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(key := os.urandom(NOISE_KEY_BYTES))
        return key
    except OSError as error:
        raise ServingError(f"Can't read or make the noise_key {str(file)!r}: {error}. Name a file in a folder of yours.") from error
