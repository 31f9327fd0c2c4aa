"""The command group. A command is loaded when it is called, and imports TensorFlow in its body only, so that `--help` is quick."""

from __future__ import annotations

import importlib
from collections import UserDict
from typing import Any, cast

import click

from keras_privpart import __version__
from keras_privpart.errors import PrivPartError

# In the order of the workflow, each with its line in the overview. `cli/commands/<name>.py` holds the command, as `<name>`.
_COMMANDS = {
    "protect": "Cut, train and audit a model in one go, and say what was chosen and why.",
    "cuts": "List every valid cut of a model with its costs.",
    "partition": "Cut a model into a device half and a server half.",
    "train": "Train a run's partition, undefended and defended.",
    "audit": "Attack a trained run with fresh attackers and write the report.",
    "sweep": "Train and audit over cuts, weights, channels and seeds.",
    "export": "Export a run as a bundle for the device and for TensorFlow Serving.",
    "inspect": "Show and verify everything in a bundle.",
    "promote": "Label a version of a bundle stable or canary.",
    "serve": "Serve a bundle: TensorFlow Serving if it can be had, else the local server.",
    "certs": "Make a development CA, and certificates for the server and its clients.",
    "predict": "Query a served bundle: device half here, server half there.",
    "playground": "Show on a page what leaves the device, and what an attacker makes of it.",
    "demo": "Run the whole chain on pictures of digits, in a few minutes.",
}


class _Lazy(UserDict[str, Any]):
    """Commands by name; the module of one is imported when the command is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        module = importlib.import_module(super().__getitem__(name), __package__)
        return cast("click.Command", getattr(module, name))


class _Group(click.Group):
    """Loads a command when it is called; turns the library's errors into one line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PrivPartError as error:
            raise click.ClickException(str(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the workflow."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview's lines, for which no command is loaded."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Group,
    commands=_Lazy({name: f".commands.{name}" for name in _COMMANDS}),
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120},
)
@click.version_option(__version__, prog_name="privpart-keras")
def main() -> None:
    """Privacy partitioning for Keras: keep a few layers on the device, serve the rest, and measure what leaks.

    \b
    All in one go, or cut, train, audit, export, serve and query:
      privpart-keras protect examples.models:lenet --data mnist --out runs/mnist
      privpart-keras cuts examples.models:lenet
      privpart-keras partition examples.models:lenet --out runs/mnist
      privpart-keras train runs/mnist --data mnist
      privpart-keras audit runs/mnist
      privpart-keras export runs/mnist --to saved_models/mnist
      privpart-keras inspect saved_models/mnist
      privpart-keras serve saved_models/mnist
      privpart-keras predict saved_models/mnist --data mnist
      privpart-keras playground saved_models/mnist --run runs/mnist --train-decoders
    """
