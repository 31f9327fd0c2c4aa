"""Options that name data, and their loading as a model takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keras_privpart.errors import DataError
from keras_privpart.several_inputs import Inputs

from .console import import_tensorflow, say

if TYPE_CHECKING:
    import keras

    from keras_privpart.contract import Contract
    from keras_privpart.datasets import Dataset

Command = TypeVar("Command", bound=Callable[..., Any])
Shapes = Mapping[str, tuple[int | None, ...]]  # of one example of each of a model's inputs, by its name

_PICTURES = "folder:"
_FILES = (".npz", ".csv", ".parquet")
_NAMES = (
    "'digits', folder:PATH (pictures, a sub-folder a class), a .npz, .csv or .parquet file, package.module:function, or a name of "
    "tensorflow-datasets such as mnist or celeb_a."
)
_OPTIONS = (
    click.option("--task", help="Key of the task's label, such as identity/Identity_No, or a column.  [default: label]"),
    click.option("--private", multiple=True, metavar="KEY", help="Key or column of a private attribute; may be repeated."),
    click.option("--attributes", metavar="FILE", help="Of a folder: a .csv or .parquet file with a column of file names, and attributes."),
    click.option("--train-split", default="train", help="Split to train on: a sub-folder, or in tensorflow-datasets' notation."),
    click.option("--test-split", default="test", help="Split to test on: the victims of an audit."),
    click.option("--image-size", type=click.IntRange(min=1), help="Side in pixels to resize images to.  [default: as stored]"),
    click.option("--image", metavar="KEY", help="Key of the pictures where an example has several.  [default: image]"),
    click.option(
        "--value-range",
        type=float,
        nargs=2,
        metavar="LO HI",
        help="Black and white as the model takes them, such as 0 255.  [default: as the model's front tells, else 0 1]",
    ),
    click.option("--data-dir", envvar="TFDS_DATA_DIR", show_envvar=True, help="Folder of prepared data sets."),
    click.option("--download/--no-download", default=True, help="Whether missing data may be fetched."),
)


@dataclass(frozen=True)
class DataSource:
    """What the options say, as a run records it; paths are absolute, so that later commands may be called elsewhere.

    Attributes:
        dataset: as `datasets.load` takes it; the other fields are arguments of it as well.
        others: keys of further targets, which an audit adds.
        limit: the most examples to hold of a stream; None to hold all.
    """

    dataset: str
    task: str | None = None
    private: tuple[str, ...] = ()
    train_split: str = "train"
    test_split: str = "test"
    image_size: int | None = None
    data_dir: str | None = None
    download: bool = True
    image: str | None = None
    attributes: str | None = None
    value_range: tuple[float, float] | None = None
    others: tuple[str, ...] = ()
    limit: int | None = None

    def __post_init__(self) -> None:
        for name in ("private", "others"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.value_range is not None:
            low, high = self.value_range
            object.__setattr__(self, "value_range", (float(low), float(high)))
        if self.attributes is not None:
            object.__setattr__(self, "attributes", _absolute(self.attributes))
        prefix = _PICTURES if self.dataset.startswith(_PICTURES) else ""
        if prefix or self.dataset.lower().endswith(_FILES):
            object.__setattr__(self, "dataset", prefix + _absolute(self.dataset.removeprefix(prefix)))

    def load(self, model: keras.Model) -> Dataset:
        """Reads or fetches the data, pictures in the range that `model` takes.

        Raises:
            DataError: they cannot be had, or do not fit the model.
        """
        import_tensorflow()
        from keras_privpart.partitioning.graphs.graph import input_names
        from keras_privpart.value_range import resolved

        found, is_inferred = resolved(model, self.value_range, DataError)
        shapes = {name: tuple(x.shape)[1:] for name, x in zip(input_names(model), model.inputs, strict=True)}
        data = self._loaded(found, shapes)
        x = data.train.held.x
        if getattr(x, "ndim", 0) == 4 and x.dtype != "uint8" and self.value_range is None and not is_inferred:
            say(f"Pictures are given to the model from {found[0]:g} to {found[1]:g}; --value-range says otherwise.")
        return _fitting(data, shapes)

    def load_for(self, contract: Contract) -> Dataset:
        """The same for the device half that a contract describes, without TensorFlow's help."""
        spec = contract.inputs[0]
        told = contract.value_range or ((0.0, 255.0) if spec.dtype == "uint8" else (0.0, 1.0))
        shapes = {spec.source: tuple(spec.shape)[1:] for spec in contract.inputs}
        return _fitting(self._loaded(self.value_range or told, shapes), shapes)

    def _loaded(self, value_range: tuple[float, float], shapes: Shapes) -> Dataset:
        from keras_privpart import datasets

        say(f"Loading {self.dataset} ...")
        options = {**asdict(self), "value_range": value_range}
        first = next(iter(shapes.values()))
        channels, inputs = first[-1] if len(first) == 3 else None, tuple(shapes) if len(shapes) > 1 else ()
        data = datasets.load(options.pop("dataset"), **options, channels=channels, inputs=inputs)
        for target, values in data.values.items():
            shown = ", ".join(f"{i} is {value}" for i, value in enumerate(values[:4]))
            say(f"Classes of {target}: {shown}{', ...' if len(values) > 4 else ''}.")
        if data.train.held.drawn_from:
            say(f"Holding {len(data.train.held):,} of {len(data.train):,} examples; training streams all of them.")
        return data

    @property
    def private_names(self) -> list[str]:
        """Keys of the private attributes in the targets."""
        return [key.rsplit("/", 1)[-1] for key in self.private]

    def words(self) -> list[str]:
        """The options that make it again."""
        usual, words = DataSource(self.dataset), ["--data", self.dataset]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("dataset", "others", "limit", "data_dir", "download") or value == getattr(usual, field.name):
                continue
            option = f"--{field.name.replace('_', '-')}"
            each = value if field.name == "private" else [value]
            words += [w for one in each for w in (option, *map(str, one if isinstance(one, tuple) else [one]))]
        return words

    def with_others(self, *keys: str) -> DataSource:
        """The source with more keys among what it loads than the training needed."""
        known = (self.task, *self.private)
        return replace(self, others=tuple(key for key in dict.fromkeys(keys) if key not in known))

    def record(self) -> dict[str, Any]:
        """As JSON; what says nothing is left out."""
        plain = DataSource(self.dataset)
        late = ("attributes", "value_range", "others", "limit")
        return {k: v for k, v in asdict(self).items() if k not in late or v != getattr(plain, k)}


def data_options(required: bool, name: str = "--data") -> Callable[[Command], Command]:
    """Adds the options; the command receives them as keyword arguments, from which `data_source` makes a `DataSource`."""
    names = (name, "--dataset") if name == "--data" else (name,)
    source = click.option(*names, "dataset", metavar="DATA", required=required, help=_NAMES)

    def decorate(command: Command) -> Command:
        for option in reversed((source, *_OPTIONS)):
            command = option(command)
        return command

    return decorate


limit_option = click.option(
    "--limit",
    type=click.IntRange(min=10),
    help="Hold so many examples of a split where data come in batches (tensorflow-datasets, a function's tf.data.Datasets), and may be "
    "larger than memory: training streams all. An audit draws so many of any data.",
)


def data_source(options: dict[str, Any], usual: DataSource | None = None) -> DataSource | None:
    """Takes the options of `data_options` out of a command's; None where they name no data.

    Args:
        options: of the command.
        usual: what a run recorded, whose task and attributes hold where data are named and they are not.

    Raises:
        click.UsageError: options of data without data.
    """
    given = {field.name: options.pop(field.name) for field in fields(DataSource) if field.name in options and field.name != "limit"}
    if given["dataset"] is not None:
        kept = {} if usual is None else {"task": given["task"] or usual.task, "private": given["private"] or usual.private}
        return DataSource(**{**given, **kept})
    for name in ("task", "private", "attributes", "image_size", "image", "value_range"):
        if given[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} is of data; name them: --data.")
    return None


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _fitting(data: Dataset, shapes: Shapes) -> Dataset:
    """The data, once there is an array for each of the model's inputs, by its name, of a shape that the model takes."""
    x = data.train.held.x
    if not isinstance(x, Inputs) and len(shapes) == 1:
        _check_shape(data, x.shape[1:], next(iter(shapes.values())))
        return data
    given = list(x.arrays) if isinstance(x, Inputs) else ["one array"]
    if not isinstance(x, Inputs) or len(given) != len(shapes) or not (x.unnamed or set(given) == set(shapes)):
        raise DataError(
            f"Received the inputs {', '.join(given)}; the model takes {', '.join(shapes)}. Give a .npz file with an array of each name, or "
            "a function that returns them as a dict by these names."
        )

    def named(inputs: Inputs) -> Inputs:
        return inputs.renamed(list(shapes))

    train, test = data.train.with_inputs(named), data.test.with_inputs(named)
    for name, array in train.held.x.arrays.items():
        _check_shape(data, array.shape[1:], shapes[name], f" for {name!r}")
    return replace(data, train=train, test=test)


def _check_shape(data: Dataset, found: tuple[int, ...], shape: tuple[int | None, ...], where: str = "") -> None:
    if len(found) == len(shape) and all(want in (None, got) for want, got in zip(shape, found, strict=True)):
        return
    if len(found) == len(shape) == 3 and found[2] == shape[2] and shape[0] == shape[1]:
        hint = f"Resize them: --image-size {shape[0]}."
    elif data.features:
        hint = f"The inputs are the columns {', '.join(data.features)}; those of --task and --private are none."
    else:
        hint = "Give the data as the model takes them."
    raise DataError(
        f"Received inputs of the shape {list(found)}{where}; the model takes {['any' if s is None else s for s in shape]}. {hint}"
    )
