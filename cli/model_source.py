"""`--model`: a `.keras` file, or `package.module:function` that returns a model."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keras_privpart.errors import ModelError

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
    module, colon, function = source.partition(":")
    called = colon and not source.endswith(".keras")
    _check_module(module, function) if called else _check_file(source)
    import_tensorflow()
    import keras

    importlib.import_module("keras_privpart.channels")  # registers what models may hold, channels among it
    if called:
        model = _call(module, function)
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


def _check_module(module: str, function: str) -> None:
    """Whether there is such a module; of its packages, which are imported for it, TensorFlow may be the price."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    try:
        missing = module if importlib.util.find_spec(module) is None else None
    except ModuleNotFoundError as error:
        missing = error.name
    except ValueError:  # of a name such as "" or "a..b"
        missing = module
    if missing is not None:
        raise ModelError(f"Can't import {missing!r} for {module}:{function}; expected a module on the path or in this folder.")


def _call(module: str, function: str) -> object:
    try:
        made = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"Can't import {error.name!r} for {module}:{function}; expected a module on the path or in this folder."
        ) from error
    except AttributeError as error:
        raise ModelError(f"The module {module!r} has no {function!r}; expected a function that returns a model.") from error
    if not callable(made):
        raise ModelError(f"{module}:{function} is a {type(made).__name__}; expected a function that returns a model.")
    return made()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
