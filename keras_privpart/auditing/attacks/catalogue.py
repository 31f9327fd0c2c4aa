"""Named sets of attacks, and which of them a threat model allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras_privpart.auditing.attacks.base.attack import DATA, QUERIES, TRAINING_DATA, WHITE_BOX, Attack
from keras_privpart.auditing.attacks.inference.completion import CompletionAttack
from keras_privpart.auditing.attacks.inference.decensoring import decensoring
from keras_privpart.auditing.attacks.inference.membership import MembershipAttack
from keras_privpart.auditing.attacks.inference.neighbours import NeighboursAttack
from keras_privpart.auditing.attacks.inference.probe import ProbeAttack
from keras_privpart.auditing.attacks.inference.properties import PropertiesAttack
from keras_privpart.auditing.attacks.inference.translated import from_reconstruction
from keras_privpart.auditing.attacks.inference.trees import TreesAttack
from keras_privpart.auditing.attacks.linkage import LinkageAttack, ReconstructedLinkageAttack
from keras_privpart.auditing.attacks.reconstruction.autoencoder import AutoencoderAttack
from keras_privpart.auditing.attacks.reconstruction.decoder import DecoderAttack
from keras_privpart.auditing.attacks.reconstruction.deep_prior import DeepPriorAttack
from keras_privpart.auditing.attacks.reconstruction.input_attacks import InputDecoderAttack, InputPosteriorAttack
from keras_privpart.auditing.attacks.reconstruction.kernel_posterior import KernelPosteriorAttack
from keras_privpart.auditing.attacks.reconstruction.learned_prior import LearnedPriorAttack
from keras_privpart.auditing.attacks.reconstruction.unsplit import UnsplitAttack
from keras_privpart.auditing.attacks.reconstruction.white_box_inversion import WhiteBoxAttack
from keras_privpart.auditing.attacks.shadow import ShadowAttack
from keras_privpart.datasets import TASK
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.input_kind import InputKind
from keras_privpart.threat_model import ThreatModel

SIZES, LOSSES = ("small", "medium", "large", "deep", "huge"), ("mse", "l1", "ssim")
# Few, and far apart: one with a dense path that looks at its own picture again, one that fits pixels, one that fits structure.
STANDARD = (("deep", "mixed"), ("medium", "mse"), ("small", "ssim"))
STANDARD_SIZES, INPUT_SIZES = ("small", "medium"), ("small", "medium", "large")  # of decoders of other inputs than one picture


def standard(private: Sequence[str] = (), pictures: int = 8, unseen: Sequence[str] = (), inputs: Sequence[InputKind] = ()) -> list[Attack]:
    """The attacks of every audit: all that are cheap but model completion, whose floor is mostly above its ceiling (a decision says the
    label); three decoders of different size and loss, and a linear and an MLP probe for every attribute.

    Args:
        private: attributes to infer.
        pictures: how many reconstructions the evidence keeps.
        unseen: those among the private ones that no defence was trained for.
        inputs: what to reconstruct, each by itself, instead of the one picture that the model takes by default.
    """
    cheap = [attack for attack in full(private, pictures, unseen, inputs) if attack.cheap and not isinstance(attack, CompletionAttack)]
    decoders: list[Attack] = [DecoderAttack(size, loss, pictures) for size, loss in STANDARD]
    if inputs:
        decoders = [attack for attack in _of_inputs(inputs, pictures, STANDARD_SIZES) if not attack.cheap]
    return [*cheap, *decoders, *(ProbeAttack(a, probe, a in unseen) for a in private for probe in ("linear", "mlp"))]


def full(private: Sequence[str] = (), pictures: int = 8, unseen: Sequence[str] = (), inputs: Sequence[InputKind] = ()) -> list[Attack]:
    """All attacks there are: hours where `standard` takes minutes.

    Decoders of five sizes and three losses and four with a mixed one; white-box search from noise and from a decoder's answer; deep image
    and autoencoder priors; a learned prior with few pairs; a shadow model's decoder; UnSplit; label and membership inference, model
    completion; and for every attribute linear, MLP and convolutional probes, trees, probes on the reconstruction, on the de-censored
    boundary and on a shadow model.

    Args:
        private, pictures, unseen, inputs: as for `standard`.
    """
    found = _of_inputs(inputs, pictures, INPUT_SIZES) if inputs else _of_pictures(pictures)
    found += [LinkageAttack(), LinkageAttack(False), CompletionAttack()] if inputs else []
    found += [ProbeAttack(TASK, "mlp"), MembershipAttack()]
    for attribute in private:
        known = attribute in unseen
        found += [ProbeAttack(attribute, probe, known) for probe in ("linear", "mlp", "conv")]
        found += [NeighboursAttack(attribute, known), TreesAttack(attribute, known)]
        found += [] if inputs else [from_reconstruction(attribute, unseen=known)]
        found += [decensoring(attribute, unseen=known), ShadowAttack(ProbeAttack(attribute, "mlp", known))]
    return found


def _of_inputs(inputs: Sequence[InputKind], pictures: int, sizes: Sequence[str]) -> list[Attack]:
    """Attacks on each of several inputs, or on one that is no picture."""
    found: list[Attack] = []
    for each in inputs:
        found.append(InputPosteriorAttack(each, len(inputs) == 1, pictures))
        found += [InputDecoderAttack(each, len(inputs) == 1, size, pictures) for size in sizes]
    return found


def _of_pictures(pictures: int) -> list[Attack]:
    """Attacks on the one picture that a model takes."""
    decoders = [*((size, loss) for size in SIZES for loss in LOSSES), *((size, "mixed") for size in SIZES[1:])]
    found: list[Attack] = [
        KernelPosteriorAttack(keep=pictures),
        KernelPosteriorAttack("mse", pictures),
        LinkageAttack(),
        LinkageAttack(False),
        ReconstructedLinkageAttack(),
        PropertiesAttack(),
    ]
    found += [DecoderAttack(size, loss, pictures) for size, loss in decoders]
    found += [WhiteBoxAttack(keep=pictures), WhiteBoxAttack(DecoderAttack("large", "mixed"), keep=pictures)]
    found += [DeepPriorAttack(keep=pictures), AutoencoderAttack(keep=pictures), UnsplitAttack(keep=pictures)]
    found += [LearnedPriorAttack(keep=pictures), CompletionAttack()]
    return [*found, ShadowAttack(DecoderAttack("large", "mixed", pictures))]


SETS: dict[str, Callable[..., list[Attack]]] = {"standard": standard, "full": full}


def chosen(
    attacks: str | Sequence[str | Attack] | None,
    private: Sequence[str] = (),
    pictures: int = 8,
    unseen: Sequence[str] = (),
    inputs: Sequence[InputKind] = (),
) -> list[Attack]:
    """The attacks that a caller names.

    Args:
        attacks: objects, or names: of a set (`"standard"`, `"full"`), of a family (one of `threat_model.ATTACKS`, for all its members in
            `full`), or of one attack in `full`; upper and lower case, and spaces around commas, make no difference. None for `"standard"`.
        private, pictures, unseen, inputs: as for `standard`.

    Raises:
        AuditError: a name that is none of these.
    """
    if attacks is None or isinstance(attacks, str):
        attacks = ["standard" if attacks is None else attacks]
    found: dict[str, Attack] = {}
    for item in attacks:
        for attack in _named(item, private, pictures, unseen, inputs) if isinstance(item, str) else [item]:
            if attack.name in found and not isinstance(item, str):
                raise AuditError(f"Received the attack {attack.name!r} twice; expected each once. Rename or drop one.")
            found.setdefault(attack.name, attack)
    return list(found.values())


def _named(name: str, private: Sequence[str], pictures: int, unseen: Sequence[str], inputs: Sequence[InputKind]) -> list[Attack]:
    wanted = _plain(name)
    if wanted in SETS:
        return SETS[wanted](private, pictures, unseen, inputs)
    everything = full(private, pictures, unseen, inputs)
    found = [attack for attack in everything if wanted in (_plain(attack.name), _plain(attack.family))]
    if not found:
        families = dict.fromkeys(attack.family for attack in everything)
        raise AuditError(
            f"Received the attack {name!r}; expected a set ({', '.join(SETS)}), a family ({', '.join(families)}) or the name of "
            f"one attack: {'; '.join(attack.name for attack in everything)}. Choose among them, or give an Attack."
        )
    return found


def _plain(name: str) -> str:
    """A name however it is typed: `Decoder,small, MSE` is `decoder, small, mse`."""
    return ", ".join(" ".join(part.split()) for part in name.casefold().split(","))


def denied(attack: Attack, threat: ThreatModel) -> str | None:
    """Why an attacker of this threat model cannot carry out an attack; None if it can. The report lists it as not tested."""
    has = {
        WHITE_BOX: threat.device_weights,
        DATA: threat.data != "none",
        QUERIES: threat.queries or threat.device_weights,
        TRAINING_DATA: threat.data == "training",
    }
    lacks = {
        WHITE_BOX: "the attacker does not know the device half's weights",
        DATA: "the attacker has no data of its own",
        QUERIES: "the attacker cannot run the device half",
        TRAINING_DATA: "the attacker does not have the training data",
    }
    missing = [lacks[need] for need in sorted(attack.needs) if not has[need]]
    return f"the threat model leaves it out: {' and '.join(missing)}" if missing else None
