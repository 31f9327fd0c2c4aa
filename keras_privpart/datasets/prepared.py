"""Prepared data sets: any of pictures in tensorflow-datasets, and scikit-learn's real digits, which need no network and no download."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_privpart.datasets.columns import Arrays, Columns, Parts, Request, one_shape
from keras_privpart.datasets.pixels import in_range
from keras_privpart.errors import DataError

_BATCH = 512  # pictures that are read at a time


def digits(request: Request) -> Columns:
    """scikit-learn's digits: 1,797 pictures of 8x8 pixels, a quarter of them to test on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    request.refuse("'digits'", hint="It has one fixed split, and 8x8 pixels.")
    found = load_digits()
    images = in_range((found.images[..., None] / 16).astype("float32"), request.value_range)
    x_train, x_test, y_train, y_test = train_test_split(images, found.target, test_size=0.25, random_state=0, stratify=found.target)
    train, test = {"image": x_train, "label": y_train}, {"image": x_test, "label": y_test}
    return Columns(train, test, "image", declared={"label": 10}, own=False)


def tensorflow_datasets(request: Request) -> Columns:
    """A data set of tensorflow-datasets with pictures.

    Raises:
        DataError: there is none of this name or split, or it cannot be read.
    """
    import tensorflow_datasets as tfds

    request.refuse("a data set of tensorflow-datasets", "train_split", "test_split", "image_size", "image")
    name, splits, data_dir = request.name, [request.train_split, request.test_split], request.data_dir
    try:
        loaded, info = tfds.load(name, split=splits, data_dir=data_dir, download=request.download, with_info=True)
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(
            f"Unknown data set {name!r}. Expected 'digits', folder:PATH, a .npz, .csv or .parquet file, package.module:function, a name "
            "that `tfds.list_builders()` lists, or one prepared under --data-dir."
        ) from error
    except (AssertionError, OSError, tfds.core.download.DownloadError) as error:
        where = data_dir or "TFDS_DATA_DIR or ~/tensorflow_datasets"
        hint = "It could not be fetched." if request.download else "Downloading is off (--no-download)."
        raise DataError(f"Data set {name!r} is not in {where}. {hint} Give the folder that holds it with --data-dir.") from error
    except ValueError as error:
        raise DataError(f"Can't read {splits} of data set {name!r}: {str(error).splitlines()[0]}") from error
    features = dict(_features(info.features))
    images = sorted(key for key, f in features.items() if isinstance(f, tfds.features.Image))
    if not images:
        raise DataError(f"Data set {name!r} has the keys {list(features)}, none of them an image; expected one.")
    key = _image_key(name, images, info.supervised_keys, request.image)
    train, test = (_reader(split, key, request) for split in loaded)
    declared = {key: f.num_classes for key, f in features.items() if isinstance(f, tfds.features.ClassLabel)}
    if request.limit is not None:
        return Columns(train, test, key, declared=declared, own=False)
    return Columns(_joined(train()), _joined(test()), key, declared=declared, own=False)


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


def _reader(split: Any, image: str, request: Request) -> Parts:
    """Reads a split, batch by batch."""
    import tensorflow as tf

    size = request.image_size

    def flatten(example: Mapping[str, Any]) -> dict[str, Any]:
        flat = {key: value for key, value in _features(example) if key == image or value.shape.rank == 0}
        picture = tf.image.convert_image_dtype(flat[image], tf.float32)
        if size is not None:
            # Rounding lifts white a little above 1.
            picture = tf.clip_by_value(tf.image.resize(picture, [size, size], antialias=True), 0.0, 1.0)
        flat[image] = picture
        return flat

    def read() -> Iterator[Arrays]:
        try:
            yield from _batches(split.map(flatten, num_parallel_calls=tf.data.AUTOTUNE), image, request)
        except tf.errors.OpError as error:
            reason = str(error.message).splitlines()[0][:200]
            raise DataError(
                f"Data set {request.name!r} has a damaged or truncated record: {reason}. Delete its folder and prepare it again."
            ) from error

    return read


def _batches(examples: Any, image: str, request: Request) -> Iterator[Arrays]:
    import tensorflow as tf

    shapes: set[tuple[int, ...]] = set()
    try:
        for batch in examples.batch(_BATCH).as_numpy_iterator():
            shapes.add(batch[image].shape[1:])
            one_shape(shapes)
            yield {**batch, image: in_range(batch[image], request.value_range)}
    except tf.errors.InvalidArgumentError as error:
        one_shape({picture.shape for picture in examples.map(lambda example: example[image]).as_numpy_iterator()}, error)
        raise


def _joined(parts: Iterator[Arrays]) -> Arrays:
    batches = list(parts)
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]} if batches else {}
