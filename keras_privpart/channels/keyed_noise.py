"""Noise that is a keyed function of what it is added to: who asks again gets the same, who lacks the key cannot tell it from fresh noise.

Each row of whole numbers is hashed under the key (a multilinear hash, which no two rows share but by a chance of about 2^-96), and the
hash starts a ChaCha20 stream under another key. So the noise of one input says nothing of that of another, even to who has seen inputs
of their own choice go through.

References:
    Bernstein, "ChaCha, a variant of Salsa20", 2008; Nir, Langley, "ChaCha20 and Poly1305 for IETF Protocols", RFC 8439, 2018.
    Lemire, Kaser, "Strongly Universal String Hashing is Fast", The Computer Journal 2014 (the multilinear hash).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart.contract import NOISE_KEY, NOISE_KEY_BYTES
from keras_privpart.errors import ChannelError

_CONSTANTS = np.frombuffer(b"expand 32-byte k", "<u4").astype("int64").tolist()
_HASHES = 3  # words of 32 bits: they fill ChaCha20's nonce
_KEYS_ARE_KNOWN = ContextVar("keys are known", default=True)


def keyed_normal(key: Any, rows: Any) -> tf.Tensor:
    """Standard normal numbers, a function of the row and the key.

    Args:
        key: uint32 `[8]`.
        rows: int32 `[n, m]`.

    Returns:
        float32 `[n, m]`.
    """
    numbers = rows.shape[1] if rows.shape[1] is not None else tf.shape(rows)[1]
    pads = _HASHES * (numbers + 1) * 2
    stream = chacha20(key, tf.zeros([1, 3], tf.uint32), 1 + (pads + 15) // 16)[0]
    inner, pads = stream[:8], tf.cast(tf.reshape(stream[16 : 16 + pads], [_HASHES, numbers + 1, 2]), tf.int64)
    factors = pads[..., 0] + tf.bitwise.left_shift(pads[..., 1], tf.constant(32, tf.int64))
    values = tf.cast(tf.bitcast(rows, tf.uint32), tf.int64)
    # Sums of products wrap at 2^64, as the hash wants it; its upper halves count.
    sums = tf.reduce_sum(values[:, None, :] * factors[None, :, :-1], axis=2) + factors[:, -1]
    hashes = tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(sums, tf.constant(32, tf.int64)), 0xFFFFFFFF), tf.uint32)
    pairs = (numbers + 1) // 2
    words = chacha20(inner, hashes, (2 * pairs + 15) // 16)
    uniform = (tf.cast(words[:, : 2 * pairs], tf.float32) + 0.5) * 2.0**-32
    radius, angle = tf.sqrt(-2 * tf.math.log(uniform[:, :pairs])), 2 * math.pi * uniform[:, pairs:]
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)[:, :numbers]


def chacha20(key: Any, nonces: Any, blocks: Any) -> tf.Tensor:
    """The first blocks of ChaCha20's key streams, as words: uint32 `[n, 16 * blocks]`.

    Args:
        key: uint32 `[8]`.
        nonces: uint32 `[n, 3]`, one for each stream.
        blocks: how many; counters start at 0.
    """
    count = tf.shape(nonces)[0]

    def spread(row: Any) -> tf.Tensor:
        return tf.broadcast_to(row, [count, blocks, 4])

    counters = tf.broadcast_to(tf.cast(tf.range(blocks), tf.uint32)[None, :, None], [count, blocks, 1])
    last = tf.concat([counters, tf.broadcast_to(nonces[:, None, :], [count, blocks, 3])], axis=2)
    start = (spread(tf.constant(_CONSTANTS, tf.uint32)), spread(key[:4]), spread(key[4:]), last)

    def two_rounds(a: Any, b: Any, c: Any, d: Any) -> tuple[Any, Any, Any, Any]:
        a, b, c, d = _quarter(a, b, c, d)
        a, b, c, d = _quarter(a, _turned(b, 1), _turned(c, 2), _turned(d, 3))
        return a, _turned(b, 3), _turned(c, 2), _turned(d, 1)

    _, *end = tf.while_loop(
        lambda i, *_: i < 10, lambda i, *rows: (i + 1, *two_rounds(*rows)), (tf.constant(0), *start), maximum_iterations=10
    )
    return tf.reshape(tf.concat([a + b for a, b in zip(start, end, strict=True)], axis=2), [count, -1])


class NoiseKey:
    """The key of one channel: in memory only. Neither a `.keras` file nor a bundle holds it.

    A new one is drawn wherever the channel is made: one that was loaded draws other noise than the one that was saved. A key of zeros is
    none: then noise is fresh at every look.
    """

    def __init__(self, owner: str) -> None:
        with tf.init_scope():
            self.variable = tf.Variable(tf.zeros([8], tf.uint32), trainable=False, name=f"{owner}_{NOISE_KEY}")
        self.install()

    def install(self, key: bytes | None = None) -> None:
        """Sets the key; draws one from the operating system when `None`.

        Raises:
            ChannelError: it is not 32 bytes long.
        """
        key = os.urandom(NOISE_KEY_BYTES) if key is None else key
        if not isinstance(key, bytes) or len(key) != NOISE_KEY_BYTES:
            got = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
            raise ChannelError(f"Received a noise key of {got}; expected {NOISE_KEY_BYTES} bytes. Draw them with os.urandom.")
        self.variable.assign(np.frombuffer(key, "<u4"))

    def given(self) -> tf.Tensor:
        """Whether there is one."""
        return tf.reduce_any(tf.not_equal(self.variable, tf.zeros([8], tf.uint32)))


@contextmanager
def by_strangers() -> Iterator[None]:
    """What is called, or traced, meanwhile draws frozen noise as who lacks the key must: anew at every look.

    Without the key it cannot be told from fresh noise, and who has a device half may draw as many keys of its own as it likes.
    """
    before = _KEYS_ARE_KNOWN.set(False)
    try:
        yield
    finally:
        _KEYS_ARE_KNOWN.reset(before)


def keys_are_known() -> bool:
    """Whether frozen noise is drawn by its key just now."""
    return _KEYS_ARE_KNOWN.get()


@contextmanager
def keyless(keys: Sequence[NoiseKey]) -> Iterator[None]:
    """Takes the keys away for a while: what is written to disk meanwhile holds none."""
    held = [key.variable.numpy() for key in keys]
    try:
        for key in keys:
            key.variable.assign(np.zeros(8, "uint32"))
        yield
    finally:
        for key, value in zip(keys, held, strict=True):
            key.variable.assign(value)


def _quarter(a: Any, b: Any, c: Any, d: Any) -> tuple[Any, Any, Any, Any]:
    """Four quarter rounds at once, one per column."""
    a = a + b
    d = _rotated(tf.bitwise.bitwise_xor(d, a), 16)
    c = c + d
    b = _rotated(tf.bitwise.bitwise_xor(b, c), 12)
    a = a + b
    d = _rotated(tf.bitwise.bitwise_xor(d, a), 8)
    c = c + d
    b = _rotated(tf.bitwise.bitwise_xor(b, c), 7)
    return a, b, c, d


def _rotated(x: Any, by: int) -> tf.Tensor:
    left, right = tf.constant(by, tf.uint32), tf.constant(32 - by, tf.uint32)
    return tf.bitwise.bitwise_or(tf.bitwise.left_shift(x, left), tf.bitwise.right_shift(x, right))


def _turned(row: Any, by: int) -> tf.Tensor:
    return tf.concat([row[..., by:], row[..., :by]], axis=-1)
