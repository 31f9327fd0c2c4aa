"""Options that say what to train against, and the `Defence` they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from keras_privpart.channels import Channel
    from keras_privpart.training.privacy_terms.adversaries import AttributeAdversary, ReconstructionAdversary
    from keras_privpart.training.privacy_terms.goals import Goal
    from keras_privpart.training.privacy_terms.regularizers import Regularizer
    from keras_privpart.training.recipe import Defence

Command = TypeVar("Command", bound=Callable[..., Any])

CHANNELS = ("gaussian", "laplace", "quantize", "gate", "dropout")
REGULARIZERS = ("distance-correlation", "conditional-entropy", "jacobian", "hsic")
GOALS = ("reverse", "dissimilarity", "mean", "class-mean")
ATTRIBUTE_GOALS = ("reverse", "entropy", "prior")
RECIPES = (
    *("undefended", "reconstruction", "reconstruction-distilled", "bits", "attribute", "attribute-distilled"),
    *("bottleneck-and-noise", "bottleneck-only", "noise-only", "nopeek", "deep-obfuscator", "conditional-entropy", "maximum-entropy"),
)


class Term(click.ParamType):
    """`NAME:NUMBER`, such as gaussian:0.5, with a name out of a list; some parameters also take `none`."""

    name = "NAME:NUMBER"

    def __init__(self, names: tuple[str, ...], none: bool = False) -> None:
        self._names = names
        self._none = none

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it was given, once it is known to make sense."""
        if self._none and value == "none":
            return str(value)
        name, colon, number = str(value).partition(":")
        if name not in self._names or not colon or not _is_number(number):
            choices = [*(f"{n}:NUMBER" for n in self._names), *(["none"] if self._none else [])]
            self.fail(f"{value!r} is none of {', '.join(choices)}.", param, ctx)
        return str(value)


_OPTIONS = (
    click.option("--recipe", type=click.Choice(RECIPES), help="A defence by name, ours or a peer's, in place of the options below."),
    click.option(
        "--reconstruction", type=click.FloatRange(min=0), default=1.0, help="Weight of the reconstruction adversary; 0 leaves it out."
    ),
    click.option("--goal", type=click.Choice(GOALS), default="reverse", help="What the halves do to the reconstruction adversary."),
    click.option("--attribute", type=click.FloatRange(min=0), default=1.0, help="Weight of the adversary of each --private attribute."),
    click.option(
        "--attribute-goal", type=click.Choice(ATTRIBUTE_GOALS), default="reverse", help="What the halves do to an attribute's adversary."
    ),
    click.option("--channel", type=Term(CHANNELS, none=True), help="Channel, such as laplace:0.5, quantize:2 (bits) or gate:0.5, or none."),
    click.option("--noise", type=click.FloatRange(min=0), help="Short for --channel gaussian:NOISE.  [default: 0.5]"),
    click.option("--regularizer", type=Term(REGULARIZERS), multiple=True, help="Privacy term without an adversary; may be repeated."),
    click.option("--mode", type=click.Choice(("fused", "alternating")), default="fused", help="Who moves when."),
    click.option("--steps", type=click.IntRange(min=0), default=0, help="Extra steps of each adversary per batch."),
    click.option("--restart-every", type=click.IntRange(min=1), help="Epochs after which the adversaries begin afresh."),
    click.option("--pool", type=click.IntRange(min=0), default=0, help="Past networks of each adversary that go on reading."),
)


def defence_options(command: Command) -> Command:
    """Adds the options; the command receives them as keyword arguments that make a `DefenceSource`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class DefenceSource:
    """What the options say."""

    reconstruction: float = 1.0
    goal: str = "reverse"
    attribute: float = 1.0
    attribute_goal: str = "reverse"
    channel: str | None = None
    noise: float | None = None
    regularizer: tuple[str, ...] = ()
    mode: str = "fused"
    steps: int = 0
    restart_every: int | None = None
    pool: int = 0
    recipe: str | None = None

    def __post_init__(self) -> None:
        changed = [f.name for f in fields(self) if f.name != "recipe" and getattr(self, f.name) != f.default]
        if self.recipe is not None and changed:
            option = f"--{changed[0].replace('_', '-')}"
            raise click.UsageError(f"Give --recipe {self.recipe} or the parts of a defence, such as {option}, not both.")
        if self.channel is not None and self.noise is not None:
            raise click.UsageError("Give --channel or --noise, not both: --noise 0.5 is --channel gaussian:0.5.")

    def defence(self, classes: Mapping[str, int], private: list[str], value_range: tuple[float, float] | None = None) -> Defence:
        """The defence, for data whose targets have so many classes each, and whose pictures are in `value_range` where that was told."""
        from keras_privpart.datasets import TASK
        from keras_privpart.training.recipe import Defence

        if self.recipe is not None:
            from keras_privpart.training import recipes

            return recipes.named(self.recipe, classes, private, value_range)
        task = classes[TASK]
        regularizers = [r for term in self.regularizer for r in _regularizers(term, task, private)]
        adversaries = [
            *self._reconstruction(task, value_range),
            *(self._attribute(name, classes[name]) for name in private if self.attribute),
        ]
        return Defence(adversaries, self._channel(), regularizers, self.mode, self.pool, self.restart_every)

    def _channel(self) -> Channel | None:
        if self.channel is None:
            noise = 0.5 if self.noise is None else self.noise
            return _channel(f"gaussian:{noise}") if noise else None
        return None if self.channel == "none" else _channel(self.channel)

    def _reconstruction(self, classes: int, value_range: tuple[float, float] | None) -> list[ReconstructionAdversary]:
        from keras_privpart.training.privacy_terms import goals
        from keras_privpart.training.privacy_terms.adversaries import ReconstructionAdversary

        if not self.reconstruction:
            return []
        made: dict[str, Callable[[], Goal | None]] = {
            "reverse": lambda: None,
            "dissimilarity": goals.Dissimilarity,
            "mean": goals.PullToMean,
            "class-mean": lambda: goals.PullToClassMean(classes),
        }
        return [ReconstructionAdversary(weight=self.reconstruction, goal=made[self.goal](), steps=self.steps, value_range=value_range)]

    def _attribute(self, name: str, classes: int) -> AttributeAdversary:
        from keras_privpart.training.privacy_terms import goals
        from keras_privpart.training.privacy_terms.adversaries import AttributeAdversary

        made: dict[str, Callable[[], Goal | None]] = {
            "reverse": lambda: None,
            "entropy": goals.MaximumEntropy,
            "prior": lambda: goals.PredictPrior(classes),
        }
        return AttributeAdversary(name, classes=classes, weight=self.attribute, goal=made[self.attribute_goal](), steps=self.steps)


def _channel(term: str) -> Channel:
    from keras_privpart import channels

    name, _, number = term.partition(":")
    made: dict[str, Callable[[], Channel]] = {
        "gaussian": lambda: channels.GaussianChannel(float(number)),
        "laplace": lambda: channels.LaplaceChannel(float(number)),
        "quantize": lambda: channels.QuantizeChannel(_whole(term, number)),
        "gate": lambda: channels.GateChannel(float(number)),
        "dropout": lambda: channels.DropoutChannel(float(number)),
    }
    return made[name]()


def _regularizers(term: str, classes: int, private: list[str]) -> Sequence[Regularizer]:
    from keras_privpart.training.privacy_terms import regularizers

    name, _, number = term.partition(":")
    weight = float(number)
    if name == "hsic" and not private:
        raise click.UsageError("--regularizer hsic hides private attributes; give at least one --private KEY.")
    made: dict[str, Callable[[], Sequence[Regularizer]]] = {
        "distance-correlation": lambda: [regularizers.DistanceCorrelation(weight)],
        "conditional-entropy": lambda: [regularizers.ConditionalEntropy(classes, weight=weight)],
        "jacobian": lambda: [regularizers.JacobianPenalty(weight)],
        "hsic": lambda: [regularizers.AttributeDependence(attribute, weight) for attribute in private],
    }
    return made[name]()


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


def _whole(term: str, number: str) -> int:
    if not number.isdigit():
        raise click.UsageError(f"{term!r} counts bits; give a whole number, such as quantize:2.")
    return int(number)
