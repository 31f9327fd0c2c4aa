"""`--model`: a `.keras` file, or `package.module:function` that returns a model."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keras_privpart.errors import ModelError
from keras_privpart.named_function import called, check_module

from .console import import_tensorflow

if TYPE_CHECKING:
    import keras

Command = TypeVar("Command", bound=Callable[..., Any])


def model_argument(command: Command) -> Command:
    """Adds the model, as an argument or as `--model`; the command receives `model`."""
    command = click.argument("model_argument", metavar="[MODEL]", required=False, callback=_either, expose_value=False)(command)
    return click.option("--model", "model", help="A .keras file, or package.module:function that returns a model.", is_eager=True)(command)


def _either(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    option = ctx.params.get("model")
    if (value is None) == (option is None):
        raise click.UsageError("Give the model once: MODEL or --model, a .keras file or package.module:function.")
    ctx.params["model"] = value or option


def load_model(source: str) -> keras.Model:
    """Loads the model that `source` names.

    Raises:
        ModelError: no such file, module or function, or what it holds is no Keras model.
    """
    by_function = ":" in source and not source.endswith(".keras")
    check_module(source, ModelError) if by_function else _check_file(source)
    import_tensorflow()
    import keras

    importlib.import_module("keras_privpart.channels")  # registers what models may hold, channels among it
    if by_function:
        model = called(source, "a model", ModelError)
        if not isinstance(model, keras.Model):
            raise ModelError(f"{source} returned a {type(model).__name__}; expected a keras.Model. Return the model.")
        return model
    try:
        return keras.models.load_model(Path(source), compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the file provokes
        raise ModelError(
            f"Can't load {source}: {_first_line(error)} Save it again with this Keras, or give package.module:function."
        ) from error


def _check_file(source: str) -> None:
    """What shows of a file before TensorFlow is loaded, which takes seconds."""
    if not Path(source).is_file():
        raise ModelError(f"Found no model file {source!r}; expected a .keras file, or package.module:function.")
    if not zipfile.is_zipfile(source):
        raise ModelError(f"{source} is not a .keras file, or is damaged; expected what `model.save('x.keras')` writes.")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
