"""`ThreatModel`: who sees what in a partitioned service, and what the attacker knows. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from keras_privpart.errors import ThreatModelError
from keras_privpart.readable import Readable

DATA = ("none", "other", "alike", "training")
_DATA_IN_WORDS = {
    "none": "It has no data of its own.",
    "other": "It has data of another kind, with labels.",
    "alike": "It has data like the victims', of other people, with labels.",
    "training": "It has the very data that the model was trained on, with labels.",
}
_FIELDS_IN_WORDS = {
    "device_weights": ("It knows the weights of the device half (white box).", "It does not know the weights of the device half."),
    "queries": ("It may run the device half on inputs of its choice.", "It cannot run the device half."),
    "identities": ("It has seen other pictures of the victims themselves.", "It has never seen the victims."),
}
_NOT_PROMISED = (
    "The device side is trusted: its owner sees the raw input, and so does whoever takes the device over.",
    "What the answer itself tells (the floor) is not hidden: the server must be able to compute it.",
    "There is no proof: a stronger attacker than those of the audit may read more. Only encryption hides from all.",
    "Training data are not protected as such (membership), nor is the model against theft.",
)


@dataclass(frozen=True, repr=False)
class ThreatModel(Readable):
    """Bipartite: the device side is trusted and sees the raw input; the server side is not, and sees the boundary.

    Args:
        private: names of the attributes to hide, keys of the targets.
        input_private: whether the input itself (the picture) is to be hidden.
        device_weights: whether the attacker knows the device half's weights. A device half that is shipped is known.
        data: what it has to learn from: `"none"`, `"other"` data, data `"alike"` the victims', or the `"training"` data.
        queries: whether it may run the device half on inputs of its choice.
        identities: whether it knows the victims, from other pictures of them.

    Raises:
        ThreatModelError: nothing is private, or a field has a value that is none of these.

    Example:
        >>> print(ThreatModel(input_private=False, private=("Male",)).attacks())
        ('attribute probe', 'unseen attribute', 'de-censoring')
    """

    private: tuple[str, ...] = ()
    input_private: bool = True
    device_weights: bool = True
    data: str = "alike"
    queries: bool = True
    identities: bool = False

    def __post_init__(self) -> None:
        names = self.private
        if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
            raise ThreatModelError(f"Received private={names!r}; expected a tuple of names of attributes, such as ('Male',).")
        object.__setattr__(self, "private", tuple(names))
        for name in ("input_private", "device_weights", "queries", "identities"):
            if not isinstance(getattr(self, name), bool):
                raise ThreatModelError(f"Received {name}={getattr(self, name)!r}; expected True or False.")
        if self.data not in DATA:
            raise ThreatModelError(f"Received data={self.data!r}; expected one of {', '.join(DATA)}. It is what the attacker learns from.")
        if not self.private and not self.input_private:
            raise ThreatModelError("Received a threat model without anything private; expected input_private=True or names in private.")

    @property
    def learns(self) -> bool:
        """Whether the attacker can train on pairs of inputs and boundaries: it needs data, and the device half to run them through."""
        return self.data != "none" and (self.queries or self.device_weights)

    def adversaries(self) -> tuple[str, ...]:
        """What to train against: `"reconstruction"` for the input, and the private attributes' names."""
        return (*(("reconstruction",) if self.input_private else ()), *self.private)

    def attacks(self) -> tuple[str, ...]:
        """Families of attacks that an audit must try, given what the attacker knows, each a member of `ATTACKS`."""
        found: list[str] = []
        if self.input_private:
            found += ["kernel posterior", "decoder", "computed properties"] if self.learns else []
            found += ["white-box inversion"] if self.device_weights else []
            found += ["generative prior"] if self.device_weights else []
            found += ["re-identification"] if self.device_weights and self.data != "none" else []
            found += ["shadow model"] if not self.device_weights and not (self.queries and self.data != "none") else []
        if self.private:
            found += ["attribute probe", "unseen attribute", "de-censoring"] if self.learns else ["shadow model"]
        if self.identities:
            found.append("identification")
        if self.data == "training":
            found.append("membership")
        return tuple(dict.fromkeys(found))

    def sides(self) -> dict[str, str]:
        """Who sees what."""
        return {
            "device side (trusted)": "the raw input, the device half with its channel, the boundary, the answer",
            "server side (not trusted)": "the boundary, the server half, the answer; never the raw input",
        }

    def describe(self) -> str:
        """The threat model in words, with what is not promised."""
        hidden = [*(["the input"] if self.input_private else []), *(f"the attribute {name!r}" for name in self.private)]
        known = [_DATA_IN_WORDS[self.data], *(words[not getattr(self, name)] for name, words in _FIELDS_IN_WORDS.items())]
        lines = ["Who sees what:", *(f"- {side}: {sees}" for side, sees in self.sides().items())]
        lines += [f"To be hidden from the server side: {', '.join(hidden)}.", "What the attacker on the server side knows:"]
        lines += [f"- {text}" for text in known]
        return "\n".join([*lines, "What is not promised:", *(f"- {text}" for text in _NOT_PROMISED)])

    def words(self) -> str:
        """As `describe`."""
        return self.describe()

    def to_json(self) -> dict[str, Any]:
        """For the contract and the report."""
        return {**asdict(self), "private": list(self.private)}

    @classmethod
    def from_json(cls, data: Any) -> ThreatModel:
        """Reads what `to_json` wrote.

        Raises:
            ThreatModelError: unknown keys, or values that do not fit.
        """
        known = {f.name for f in fields(cls)}
        if not isinstance(data, Mapping) or not set(data) <= known:
            got = sorted(data) if isinstance(data, Mapping) else type(data).__name__
            raise ThreatModelError(f"Received {got} as a threat model; expected an object with the keys {sorted(known)}.")
        return cls(**{**data, "private": tuple(data.get("private", ()))})


ATTACKS = (
    "kernel posterior",
    "computed properties",
    "decoder",
    "white-box inversion",
    "generative prior",
    "learned prior",
    "shadow model",
    "model completion",
    "attribute probe",
    "unseen attribute",
    "de-censoring",
    "identification",
    "re-identification",
    "membership",
)
