"""tensorflow-datasets in, `(x, targets)` out. `digits`, scikit-learn's real digits, needs no network and no download."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_privpart.errors import DataError

TASK = "task"
DIGITS = "digits"


@dataclass(frozen=True)
class Samples:
    """Examples in memory.

    Attributes:
        x: inputs `[n, ...]`.
        targets: `"task"` and any private attribute, each `[n, ...]`.
    """

    x: np.ndarray
    targets: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Samples:
        """The examples at a slice or an array of indices."""
        return Samples(self.x[index], {key: value[index] for key, value in self.targets.items()})

    @classmethod
    def of(cls, data: Any) -> Samples:
        """Collects examples in memory.

        Args:
            data: `Samples`; a pair of arrays `(x, y)` or `(x, {"task": y, ...})`; or batches of such pairs, as a `tf.data.Dataset`, a
                `keras.utils.PyDataset` or a generator that ends. Weights of examples are left out.

        Raises:
            DataError: there are no examples, no targets, several inputs, or parts that do not go together.
        """
        if isinstance(data, Samples):
            return data
        pairs = [data] if isinstance(data, tuple) and len(data) in (2, 3) else _batches_of(data)
        if not pairs:
            raise DataError("Received an empty data set; expected at least one batch.")
        named = [_named_pair(pair) for pair in pairs]
        keys = list(named[0][1])
        if any(set(y) != set(keys) for _, y in named):
            raise DataError(f"Received batches with different targets, {keys} in the first; expected the same in all.")
        x = _joined("inputs", [x for x, _ in named])
        targets = {key: _joined(f"values of {key!r}", [np.asarray(y[key]) for _, y in named]) for key in keys}
        for key, value in targets.items():
            if len(value) != len(x):
                raise DataError(f"Received {len(x)} inputs and {len(value)} values of {key!r}; expected as many of both.")
        if not len(x):
            raise DataError("Received an empty data set; expected at least one example.")
        return cls(x, targets)


def _batches_of(data: Any) -> list[Any]:
    if hasattr(data, "as_numpy_iterator"):
        return list(data.as_numpy_iterator())
    if isinstance(data, Iterator):
        return list(data)
    import keras

    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        if count is None:
            raise DataError("Received a PyDataset without an end; expected one that says its number of batches. Give it num_batches.")
        return [data[i] for i in range(count)]
    raise DataError(f"Received {type(data).__name__}; expected a tf.data.Dataset of batches or a pair of arrays (x, targets).")


def _named_pair(pair: Any) -> tuple[np.ndarray, Mapping[str, Any]]:
    """A pair as an array `[n, ...]` and targets by name."""
    if not isinstance(pair, (tuple, list)) or len(pair) not in (2, 3):
        raise DataError(f"Received batches of {type(pair).__name__}; expected pairs (x, targets). Let the data set yield both.")
    x, y = pair[:2]
    inputs = list(x.items()) if isinstance(x, Mapping) else list(enumerate(x)) if isinstance(x, tuple) else [("x", x)]
    if len(inputs) != 1:
        raise DataError(
            f"Received the inputs {[name for name, _ in inputs]}; expected one array [n, ...]. Join them, or leave the others out."
        )
    values = np.asarray(inputs[0][1])
    if not values.ndim:
        raise DataError(f"Received {type(inputs[0][1]).__name__} as inputs; expected an array [n, ...].")
    return values, y if isinstance(y, Mapping) else {TASK: y}


def _joined(what: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {part.shape[1:] if part.ndim else () for part in parts}
    if len(shapes) > 1 or not all(part.ndim for part in parts):
        found = ", ".join(str(list(shape)) for shape in sorted(shapes)[:3])
        raise DataError(f"Received {what} of different shapes: {found}; expected one, the examples first. Resize pictures before.")
    return np.concatenate(parts)


@dataclass(frozen=True)
class Dataset:
    """A data set split for training and testing.

    Attributes:
        name: as it was asked for.
        train, test: examples, images as float32 in [0, 1].
        classes: how many values each target has, `"task"` among them.
    """

    name: str
    train: Samples
    test: Samples
    classes: Mapping[str, int]


def load(
    name: str,
    *,
    task: str | None = None,
    private: Sequence[str] = (),
    train_split: str = "train",
    test_split: str = "test",
    image_size: int | None = None,
    data_dir: str | None = None,
    download: bool = True,
    image: str | None = None,
) -> Dataset:
    """Loads `digits` or any image data set of tensorflow-datasets into memory.

    Args:
        name: `"digits"`, or a name of tensorflow-datasets such as `"mnist"` or `"celeb_a:2.1.0"`.
        task: key of the task's label, `"label"` by default. Nested keys take a slash: `"identity/Identity_No"`.
        private: keys of the private attributes, such as `"attributes/Male"`. In `targets` they go by their last part, `"Male"`.
        train_split, test_split: in tensorflow-datasets' notation, such as `"train[:10%]"`.
        image_size: side in pixels to resize images to; as stored by default.
        data_dir: where prepared data sets are; `TFDS_DATA_DIR` or `~/tensorflow_datasets` by default.
        download: whether missing data may be fetched.
        image: key of the pictures where an example has several; by default `"image"`, or the key that the data set names as its input.

    Returns:
        A `Dataset`. Class labels and booleans become whole numbers; other whole-number features (identities) are mapped to
        class indices 0, 1, ... in the order of their values in the training split.

    Raises:
        DataError: the data set, a split or a key is missing, a split is empty or damaged, its pictures are of several sizes, or a label is
            out of range.
    """
    keys = {TASK: task or "label", **_private_names(private)}
    raw = _digits() if name == DIGITS else _tensorflow_datasets(name, [train_split, test_split], image_size, data_dir, download, image)
    if name == DIGITS and (train_split, test_split, image_size, image) != ("train", "test", None, None):
        raise DataError(
            "Received a split, an image size or an image key for 'digits'; expected none. It has one fixed split, and 8x8 pixels."
        )
    return _assemble(name, raw, keys)


def _private_names(private: Sequence[str]) -> dict[str, str]:
    names = {key.rsplit("/", 1)[-1]: key for key in private}
    if len(names) < len(private) or TASK in names:
        raise DataError(f"Received the private keys {list(private)}; expected keys whose last parts differ, none of them {TASK!r}.")
    return names


@dataclass(frozen=True)
class _Raw:
    """Columns of both splits by slash-joined key, and how many classes the declared class labels have."""

    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]
    declared: Mapping[str, int]
    image: str


def _digits() -> _Raw:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = (digits.images[..., None] / 16).astype("float32")
    x_train, x_test, y_train, y_test = train_test_split(images, digits.target, test_size=0.25, random_state=0, stratify=digits.target)
    return _Raw({"image": x_train, "label": y_train}, {"image": x_test, "label": y_test}, {"label": 10}, "image")


def _tensorflow_datasets(
    name: str, splits: list[str], image_size: int | None, data_dir: str | None, download: bool, image: str | None
) -> _Raw:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    try:
        loaded, info = tfds.load(name, split=splits, data_dir=data_dir, download=download, with_info=True)
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(
            f"Unknown data set {name!r}. Expected 'digits', a name that `tfds.list_builders()` lists, or one prepared under --data-dir."
        ) from error
    except (AssertionError, OSError, tfds.core.download.DownloadError) as error:
        where = data_dir or "TFDS_DATA_DIR or ~/tensorflow_datasets"
        hint = "It could not be fetched." if download else "Downloading is off (--no-download)."
        raise DataError(f"Data set {name!r} is not in {where}. {hint} Give the folder that holds it with --data-dir.") from error
    except ValueError as error:
        raise DataError(f"Can't read {splits} of data set {name!r}: {str(error).splitlines()[0]}") from error
    declared = {key: f.num_classes for key, f in _features(info.features) if isinstance(f, tfds.features.ClassLabel)}
    images = [key for key, f in _features(info.features) if isinstance(f, tfds.features.Image)]
    if not images:
        raise DataError(f"Data set {name!r} has the keys {[k for k, _ in _features(info.features)]}, none of them an image; expected one.")
    key = _image_key(name, sorted(images), info.supervised_keys, image)
    try:
        columns = [_columns(split, key, image_size) for split in loaded]
    except tf.errors.OpError as error:
        reason = str(error.message).splitlines()[0][:200]
        raise DataError(
            f"Data set {name!r} has a damaged or truncated record: {reason}. Delete its folder and prepare it again."
        ) from error
    return _Raw(columns[0], columns[1], declared, key)


def _image_key(name: str, images: Sequence[str], supervised: Any, asked: str | None) -> str:
    """Which of several pictures in an example is the input.

    Raises:
        DataError: the one that was asked for is none, or nothing says which.
    """
    if asked is not None and asked not in images:
        raise DataError(f"Received image={asked!r}; data set {name!r} has the pictures {list(images)}. Choose one of them.")
    first = supervised[0] if supervised else None
    chosen = asked or next((key for key in ("image", first) if key in images), None) or (images[0] if len(images) == 1 else None)
    if chosen is None:
        raise DataError(
            f"Data set {name!r} has the pictures {list(images)}, none called 'image'. Say which one is the input: image= (--image)."
        )
    return chosen


def _features(features: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, feature in features.items():
        if isinstance(feature, Mapping):
            yield from _features(feature, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", feature


def _columns(split: Any, image: str, image_size: int | None) -> dict[str, np.ndarray]:
    import tensorflow as tf

    def flatten(example: Mapping[str, Any]) -> dict[str, Any]:
        flat = {key: value for key, value in _features(example) if key == image or value.shape.rank == 0}
        picture = tf.image.convert_image_dtype(flat[image], tf.float32)
        if image_size is not None:
            # Rounding lifts white a little above 1.
            picture = tf.clip_by_value(tf.image.resize(picture, [image_size, image_size], antialias=True), 0.0, 1.0)
        flat[image] = picture
        return flat

    examples = split.map(flatten, num_parallel_calls=tf.data.AUTOTUNE)
    try:
        batches = list(examples.batch(512).as_numpy_iterator())
    except tf.errors.InvalidArgumentError as error:
        _one_shape({picture.shape for picture in examples.map(lambda example: example[image]).as_numpy_iterator()}, error)
        raise
    _one_shape({batch[image].shape[1:] for batch in batches})
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]} if batches else {}


def _one_shape(shapes: Iterable[tuple[int, ...]], cause: Exception | None = None) -> None:
    """Raises `DataError` for pictures of several sizes."""
    found = sorted(set(shapes))
    if len(found) > 1:
        several = ", ".join("x".join(map(str, shape)) for shape in found[:3])
        raise DataError(
            f"Received pictures of {len(found)} sizes, such as {several}; expected one. Resize them: image_size=64, or --image-size 64."
        ) from cause


def _assemble(name: str, raw: _Raw, keys: Mapping[str, str]) -> Dataset:
    for split, columns in (("train", raw.train), ("test", raw.test)):
        if not columns or not len(columns[raw.image]):
            raise DataError(f"The {split} split of {name!r} is empty; expected at least one example.")
    _one_shape(columns[raw.image].shape[1:] for columns in (raw.train, raw.test))
    targets: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    classes = {}
    for target, key in keys.items():
        if key not in raw.train or key == raw.image:
            raise DataError(f"Data set {name!r} has no label key {key!r}; expected one of: {_near(key, raw)}.")
        targets[target], classes[target] = _class_indices(key, raw)
    return Dataset(
        name,
        Samples(raw.train[raw.image], {target: pair[0] for target, pair in targets.items()}),
        Samples(raw.test[raw.image], {target: pair[1] for target, pair in targets.items()}),
        classes,
    )


def _near(key: str, raw: _Raw) -> str:
    import difflib

    known = sorted(k for k in raw.train if k != raw.image)
    return ", ".join(difflib.get_close_matches(key, known, n=5, cutoff=0.4) or known)


def _class_indices(key: str, raw: _Raw) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """Labels of both splits as class indices, and how many classes there are."""
    train, test = raw.train[key], raw.test[key]
    if train.dtype == bool:
        return (train.astype("int32"), test.astype("int32")), 2
    if not np.issubdtype(train.dtype, np.integer):
        raise DataError(f"The label key {key!r} holds {train.dtype}; expected booleans or whole numbers.")
    if key in raw.declared:
        count = raw.declared[key]
        for values in (train, test):
            wrong = values[(values < 0) | (values >= count)]
            if len(wrong):
                raise DataError(f"The label key {key!r} holds {int(wrong[0])}; expected 0 to {count - 1}. Choose a split with labels.")
        return (train.astype("int32"), test.astype("int32")), count
    known = np.unique(train)
    unknown = np.setdiff1d(test, known)
    if len(unknown):
        raise DataError(
            f"The test split holds {len(unknown)} values of {key!r} that the training split lacks, such as {int(unknown[0])}; "
            "expected the same classes in both. Choose other splits."
        )
    return (np.searchsorted(known, train).astype("int32"), np.searchsorted(known, test).astype("int32")), len(known)


def batches(samples: Samples, batch_size: int, seed: int | None = None) -> Any:
    """A `tf.data.Dataset` of batches `(x, targets)`; targets are plain labels where the task is the only one.

    Args:
        samples: what to batch.
        batch_size: examples per batch; the last one may be smaller.
        seed: shuffles anew every epoch, in an order that the seed decides; `None` keeps the order.
    """
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((samples.x, _plain_targets(samples)))
    if seed is not None:
        dataset = dataset.shuffle(len(samples), seed=seed, reshuffle_each_iteration=True)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def epochs_of(samples: Samples, batch_size: int, seed: int, first: int, end: int) -> Any:
    """As `batches`, shuffled, but all epochs from `first` to before `end` in one stream: `fit` takes it with `steps_per_epoch`.

    The order of an epoch follows from the seed and its number alone, so that a training can go on in the middle.
    """
    import tensorflow as tf

    columns = tf.nest.map_structure(tf.constant, (samples.x, _plain_targets(samples)))

    def epoch(number: Any) -> Any:
        order = tf.argsort(tf.random.stateless_uniform([len(samples)], [tf.constant(seed, tf.int64), number]))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    def gathered(rows: Any) -> Any:
        return tf.nest.map_structure(lambda column: tf.gather(column, rows), columns)

    return tf.data.Dataset.range(first, end).flat_map(epoch).map(gathered, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _plain_targets(samples: Samples) -> Any:
    return samples.targets[TASK] if set(samples.targets) == {TASK} else dict(samples.targets)
