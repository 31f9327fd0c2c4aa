"""Fresh attackers, one family per file. `standard` gives those of every audit, `full` all there are, `chosen` what a caller names."""

from __future__ import annotations

from keras_privpart.auditing.attacks.base.attack import NEEDS, RECONSTRUCTION, Attack
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.catalogue import SETS, chosen, denied, full, standard
from keras_privpart.auditing.attacks.inference.attributes import AttributeAttack
from keras_privpart.auditing.attacks.inference.completion import CompletionAttack
from keras_privpart.auditing.attacks.inference.decensoring import decensoring
from keras_privpart.auditing.attacks.inference.membership import MEMBER, MembershipAttack, membership
from keras_privpart.auditing.attacks.inference.neighbours import NeighboursAttack
from keras_privpart.auditing.attacks.inference.probe import ProbeAttack
from keras_privpart.auditing.attacks.inference.properties import PropertiesAttack
from keras_privpart.auditing.attacks.inference.translated import TranslatedAttack, Translation, from_reconstruction
from keras_privpart.auditing.attacks.inference.trees import TreesAttack
from keras_privpart.auditing.attacks.linkage import LinkageAttack, ReconstructedLinkageAttack
from keras_privpart.auditing.attacks.reconstruction.autoencoder import AutoencoderAttack
from keras_privpart.auditing.attacks.reconstruction.decoder import DecoderAttack
from keras_privpart.auditing.attacks.reconstruction.deep_prior import DeepPriorAttack
from keras_privpart.auditing.attacks.reconstruction.input_attacks import InputAttack, InputDecoderAttack, InputPosteriorAttack
from keras_privpart.auditing.attacks.reconstruction.inversion import InversionAttack
from keras_privpart.auditing.attacks.reconstruction.kernel_posterior import KernelPosteriorAttack
from keras_privpart.auditing.attacks.reconstruction.learned_prior import LearnedPriorAttack
from keras_privpart.auditing.attacks.reconstruction.unsplit import UnsplitAttack
from keras_privpart.auditing.attacks.reconstruction.white_box_inversion import WhiteBoxAttack
from keras_privpart.auditing.attacks.shadow import ShadowAttack

__all__ = [
    "MEMBER",
    "NEEDS",
    "RECONSTRUCTION",
    "SETS",
    "Attack",
    "AttributeAttack",
    "AutoencoderAttack",
    "CompletionAttack",
    "DecoderAttack",
    "DeepPriorAttack",
    "Effort",
    "InputAttack",
    "InputDecoderAttack",
    "InputPosteriorAttack",
    "InversionAttack",
    "KernelPosteriorAttack",
    "LearnedPriorAttack",
    "LinkageAttack",
    "MembershipAttack",
    "NeighboursAttack",
    "ProbeAttack",
    "PropertiesAttack",
    "ReconstructedLinkageAttack",
    "ShadowAttack",
    "TranslatedAttack",
    "Translation",
    "TreesAttack",
    "UnsplitAttack",
    "WhiteBoxAttack",
    "chosen",
    "decensoring",
    "denied",
    "from_reconstruction",
    "full",
    "membership",
    "standard",
]
