"""Options that name a data set, and its loading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .console import import_tensorflow, say

if TYPE_CHECKING:
    from keras_privpart.datasets import Dataset

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--task", help="Key of the task's label, such as identity/Identity_No.  [default: label]"),
    click.option("--private", multiple=True, metavar="KEY", help="Key of a private attribute, such as attributes/Male; may be repeated."),
    click.option("--train-split", default="train", help="Split to train on, in tensorflow-datasets' notation."),
    click.option("--test-split", default="test", help="Split to test on: the victims of an audit."),
    click.option("--image-size", type=click.IntRange(min=1), help="Side in pixels to resize images to.  [default: as stored]"),
    click.option("--image", metavar="KEY", help="Key of the pictures where an example has several.  [default: image]"),
    click.option("--data-dir", envvar="TFDS_DATA_DIR", show_envvar=True, help="Folder of prepared data sets."),
    click.option("--download/--no-download", default=True, help="Whether missing data may be fetched."),
)


@dataclass(frozen=True)
class DataSource:
    """What the options say, as a run records it."""

    dataset: str
    task: str | None = None
    private: tuple[str, ...] = ()
    train_split: str = "train"
    test_split: str = "test"
    image_size: int | None = None
    data_dir: str | None = None
    download: bool = True
    image: str | None = None

    def load(self) -> Dataset:
        """Reads or fetches the data."""
        import_tensorflow()
        from keras_privpart import datasets

        say(f"Loading {self.dataset} ...")
        options = asdict(self)
        return datasets.load(options.pop("dataset"), **options)

    @property
    def private_names(self) -> list[str]:
        """Keys of the private attributes in the targets."""
        return [key.rsplit("/", 1)[-1] for key in self.private]


def data_options(required: bool) -> Callable[[Command], Command]:
    """Adds the options; the command receives them as keyword arguments that make a `DataSource`."""
    name = click.option("--dataset", required=required, help="'digits', or a name of tensorflow-datasets such as mnist or celeb_a.")

    def decorate(command: Command) -> Command:
        for option in reversed((name, *_OPTIONS)):
            command = option(command)
        return command

    return decorate
