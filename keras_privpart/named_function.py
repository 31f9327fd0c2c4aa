"""`package.module:function`: whether a text names one, and what it returns."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from keras_privpart.errors import PrivPartError


def is_named_function(text: str) -> bool:
    """Whether a text has the form `package.module:function`."""
    module, colon, function = text.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def check_module(text: str, error: type[PrivPartError]) -> None:
    """Raises `error` where there is no such module; its packages are imported for it, of which TensorFlow may be the price."""
    module = text.partition(":")[0]
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    try:
        missing = module if importlib.util.find_spec(module) is None else None
    except ModuleNotFoundError as raised:
        missing = raised.name
    except ValueError:  # of a name such as "" or "a..b"
        missing = module
    if missing is not None:
        raise error(_missing(missing, text))


def called(text: str, what: str, error: type[PrivPartError]) -> object:
    """What the function that `text` names returns.

    Args:
        text: `package.module:function`.
        what: it is expected to return, such as `"a model"`.
        error: what to raise where there is no such function.
    """
    check_module(text, error)
    module, _, function = text.partition(":")
    try:
        made = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as raised:
        raise error(_missing(str(raised.name), text)) from raised
    except AttributeError as raised:
        raise error(f"The module {module!r} has no {function!r}; expected a function that returns {what}.") from raised
    if not callable(made):
        raise error(f"{text} is a {type(made).__name__}; expected a function that returns {what}.")
    return made()


def _missing(name: str, text: str) -> str:
    return f"Can't import {name!r} for {text}; expected a module on the path or in this folder."
