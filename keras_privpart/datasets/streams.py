"""`Stream`: examples that may be larger than memory, read in parts whenever they are wanted; a draw of them is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_privpart.datasets.samples import Samples
from keras_privpart.errors import DataError
from keras_privpart.several_inputs import Inputs

Targets = Mapping[str, Any]


@dataclass(frozen=True)
class Stream:
    """Examples to train on that are not all held. `Samples.of` and `Samples.parts` take it, and so does all that takes data by them.

    Attributes:
        read: gives all of them in parts, from the first, as often as it is called.
        held: a draw, for all that looks at some; its `drawn_from` says from how many, where it is not all.
        targets: of all, in the order of the first reading: labels are small.
    """

    read: Callable[[], Iterator[Samples]]
    held: Samples
    targets: Targets

    @classmethod
    def of(cls, data: Any, limit: int, seed: int = 0) -> Stream:
        """Reads everything once, to count, to draw, and to see all labels.

        Args:
            data: batches as `Samples.of` takes them, that can be read again; or a function that gives parts, `Samples`.
            limit: the most examples to hold, drawn as by `Samples.of`; twice as many while they are.
            seed: of the draw.

        Raises:
            DataError: as `Samples.of`, or the stream has no end, or targets other than labels `[n]` or rows `[n, classes]`.
        """
        _check_end(data)
        read = data if callable(data) and not is_stream(data) else lambda: Samples.parts(data)
        targets: list[Targets] = []

        def passing() -> Iterator[Any]:
            for part in read():
                targets.append(_labels_only(part.targets))
                yield part.pair

        held = Samples.of(passing(), limit, seed)
        return cls(read, held, {key: np.concatenate([part[key] for part in targets]) for key in targets[0]})

    def __len__(self) -> int:
        return len(next(iter(self.targets.values())))

    def as_numpy_iterator(self) -> Iterator[Any]:
        """Batches `(x, targets)`, as those of a `tf.data.Dataset`."""
        return (part.pair for part in self.read())

    def mapped(self, values: Mapping[str, Sequence[Any] | str]) -> Stream:
        """As `Samples.mapped`."""
        return self.with_targets(lambda targets: Samples(_places(targets), targets).mapped(values).targets)

    def with_targets(self, change: Callable[[Targets], Targets]) -> Stream:
        """The same with other targets, made of the targets of any examples by a function."""
        return replace(self._each(lambda part: replace(part, targets=change(part.targets))), targets=change(self.targets))

    def with_inputs(self, change: Callable[[Any], Any]) -> Stream:
        """As `Samples.with_inputs`."""
        return self._each(lambda part: part.with_inputs(change))

    def _each(self, change: Callable[[Samples], Samples]) -> Stream:
        return replace(self, read=lambda: map(change, self.read()), held=change(self.held))

    def epochs(self, batch_size: int, seed: int, first: int, end: int) -> Any:
        """As `epochs_of`; shuffled in blocks of about as many examples as are held."""
        import tensorflow as tf

        def spec(column: np.ndarray) -> Any:
            return tf.TensorSpec((None, *column.shape[1:]), tf.string if column.dtype.kind in "OSU" else column.dtype)

        def pairs() -> Iterator[Any]:
            return (part.pair for epoch in range(first, end) for part in self._shuffled(batch_size, np.random.default_rng((seed, epoch))))

        signature = tf.nest.map_structure(spec, self.held.pair)
        return tf.data.Dataset.from_generator(pairs, output_signature=signature).prefetch(tf.data.AUTOTUNE)

    def _shuffled(self, batch_size: int, numbers: np.random.Generator) -> Iterator[Samples]:
        """All examples in batches, of which the last alone may be smaller."""
        rest: list[Samples] = []
        for block in self._blocks(max(batch_size, len(self.held))):
            found = Samples.joined([*rest, block])
            order = numbers.permutation(len(found))
            whole = len(found) // batch_size * batch_size
            yield from (found[order[start : start + batch_size]] for start in range(0, whole, batch_size))
            rest = [found[order[whole:]]] if whole < len(found) else []
        yield from rest

    def _blocks(self, size: int) -> Iterator[Samples]:
        """Parts joined to at least so many examples each, but for the last."""
        parts: list[Samples] = []
        for part in self.read():
            parts.append(part)
            if sum(map(len, parts)) >= size:
                yield Samples.joined(parts)
                parts = []
        if any(map(len, parts)):
            yield Samples.joined(parts)


def is_stream(data: Any) -> bool:
    """Whether data come in batches that can be read again: a `tf.data.Dataset`, a `keras.utils.PyDataset` or a `Stream`."""
    return hasattr(data, "as_numpy_iterator") or hasattr(data, "num_batches")


def streamed(data: Any, limit: int | None, seed: int = 0) -> Samples | Stream:
    """A `Stream` of what can be one, where there is a limit; `Samples` of all else."""
    if limit is None or not is_stream(data):
        return Samples.of(data)
    return data if isinstance(data, Stream) else Stream.of(data, limit, seed)


def _check_end(data: Any) -> None:
    if hasattr(data, "cardinality") and int(data.cardinality()) == -1:
        raise DataError("Received a data set without an end; expected one that ends. Take .repeat() out: epochs repeat it.")


def _labels_only(targets: Targets) -> Targets:
    for key, values in targets.items():
        if isinstance(values, Inputs) or np.ndim(values) > 2:
            found = "those of several outputs" if isinstance(values, Inputs) else list(np.shape(values))
            raise DataError(
                f"Received the target {key!r} of a stream as {found}; expected labels [n] or rows [n, classes], which are all held. "
                "Train such a task with AdversarialTrainer.fit, which takes any stream."
            )
    return targets


def _places(targets: Targets) -> np.ndarray:
    return np.arange(len(next(iter(targets.values()))))
