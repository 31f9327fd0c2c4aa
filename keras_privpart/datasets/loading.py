"""`load`: which kind of source a name means, and its data as a `Dataset`. The one place where `--data` is understood."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras_privpart.datasets import arrays, folders, prepared, tables
from keras_privpart.datasets.columns import Columns, Request, assembled
from keras_privpart.datasets.samples import Dataset
from keras_privpart.errors import DataError
from keras_privpart.named_function import is_named_function

DIGITS = "digits"


def load(
    name: str,
    *,
    task: str | None = None,
    private: Sequence[str] = (),
    others: Sequence[str] = (),
    train_split: str = "train",
    test_split: str = "test",
    image_size: int | None = None,
    data_dir: str | None = None,
    download: bool = True,
    image: str | None = None,
    attributes: str | None = None,
    value_range: tuple[float, float] | None = None,
    channels: int | None = None,
    inputs: Sequence[str] = (),
    limit: int | None = None,
) -> Dataset:
    """Loads data: into memory, or, with a limit, as a stream where they come as one.

    | name | what |
    |---|---|
    | `"digits"` | scikit-learn's real digits, without a network |
    | `"folder:PATH"` | pictures, a sub-folder a class, in `PATH` or in `PATH/train` and `PATH/test` |
    | `"PATH.npz"` | arrays `x` and `y`, or `x_train`, `y_train`, `x_test`, `y_test`; attributes by name, `Male` or `Male_train` |
    | `"PATH.csv"`, `"PATH.parquet"` | a table: a row an example, all columns inputs but the task's and the private ones |
    | `"package.module:function"` | what it returns: examples, or a pair of them to train and to test on |
    | any other | a data set of tensorflow-datasets, such as `"mnist"` or `"celeb_a:2.1.0"` |

    Of a model with several inputs a `.npz` file holds an array for each, by its name, in place of `x`; a function returns a dict of them.
    Where there is one set of examples, a fifth is drawn to test on, with a fixed seed, alike of every class.

    Args:
        name: see above.
        task: key of the task's label: `"label"` by default, which is the sub-folder's number; `"y"` of arrays, `"task"` of a function. Of
            tensorflow-datasets nested keys take a slash: `"identity/Identity_No"`.
        private: keys of the private attributes, such as `"attributes/Male"`. In `targets` they go by their last part, `"Male"`.
        others: keys of further targets; columns of a table stay inputs all the same.
        train_split, test_split: in tensorflow-datasets' notation, such as `"train[:10%]"`; sub-folders of a folder; the endings of arrays.
        image_size: side in pixels to resize pictures to; as stored by default.
        data_dir: where prepared data sets are; `TFDS_DATA_DIR` or `~/tensorflow_datasets` by default.
        download: whether missing data may be fetched.
        image: key of the pictures where an example has several; by default `"image"`, or the key that the data set names as its input.
        attributes: of a folder, a CSV or parquet table with a column of file names, or paths under the folder, and a column an attribute.
        value_range: black and white as the model takes them, for pictures of folders and of prepared data sets: (0, 255) gives uint8,
            others float32. By default folders give uint8 and prepared data sets float32 in [0, 1]. Arrays and tables stay as they are.
        channels: of the pictures of a folder, 1, 3 or 4; 3 by default.
        inputs: names of a model's inputs where it takes several: arrays of these names in a `.npz` file make up its inputs.
        limit: the most examples of a split to hold where data come in batches, as those of tensorflow-datasets and a function's
            `tf.data.Dataset`s or `keras.utils.PyDataset`s do: `train` is a `Stream` then, `test` a draw. All else is in memory.

    Returns:
        A `Dataset`. Labels become class indices: truth values, one-hot rows, and whole numbers that count classes, as they say; text, -1
        and 1, and identities in the order of their values in the training split, which `Dataset.values` tells.

    Raises:
        DataError: the data set, a split or a key is missing, a split is empty or damaged, its pictures are of several sizes, or a label is
            out of range.

    Example:
        >>> load("folder:faces", attributes="faces.csv", private=["Male"], image_size=64)  # doctest: +SKIP
    """
    request = Request(
        name,
        task,
        tuple(private),
        tuple(others),
        train_split,
        test_split,
        image_size,
        data_dir,
        download,
        image,
        attributes,
        value_range,
        channels,
        tuple(inputs),
        limit,
    )
    request.keys("")  # raises before anything is read
    return assembled(request, _source(name)(request))


def _source(name: str) -> Callable[[Request], Columns]:
    lower = name.lower()
    if name == DIGITS:
        return prepared.digits
    if name.startswith(folders.PREFIX):
        return folders.folder
    if lower.endswith(arrays.ENDING):
        return arrays.npz
    if lower.endswith(tables.ENDINGS):
        return tables.table
    if is_named_function(name):
        return arrays.function
    if not name.strip() or "\n" in name:
        raise DataError(f"Received the data {name!r}; expected 'digits', folder:PATH, a .npz, .csv or .parquet file, or a name.")
    return prepared.tensorflow_datasets
