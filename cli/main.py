"""The command group. Commands import TensorFlow in their bodies only, so that `--help` is quick."""

from __future__ import annotations

from typing import Any

import click

from keras_privpart import __version__
from keras_privpart.errors import PrivPartError

from .commands.audit import audit
from .commands.certs import certs
from .commands.cuts import cuts
from .commands.demo import demo
from .commands.export import export
from .commands.inspect import inspect
from .commands.partition import partition
from .commands.predict import predict
from .commands.promote import promote
from .commands.serve import serve
from .commands.sweep import sweep
from .commands.train import train


class _Group(click.Group):
    """Turns the library's errors into one line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PrivPartError as error:
            raise click.ClickException(str(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the workflow."""
        return list(self.commands)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
@click.version_option(__version__, prog_name="privpart-keras")
def main() -> None:
    """Privacy partitioning for Keras: keep a few layers on the device, serve the rest, and measure what leaks.

    \b
    Cut, train, audit, export, serve and query:
      privpart-keras cuts examples.models:lenet
      privpart-keras partition examples.models:lenet --out runs/mnist
      privpart-keras train runs/mnist --dataset mnist
      privpart-keras audit runs/mnist
      privpart-keras export runs/mnist --to saved_models/mnist
      privpart-keras inspect saved_models/mnist
      privpart-keras serve saved_models/mnist
      privpart-keras predict saved_models/mnist --dataset mnist
    """


for command in (cuts, partition, train, audit, sweep, export, inspect, promote, serve, certs, predict, demo):
    main.add_command(command)
