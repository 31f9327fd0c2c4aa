"""Fresh attackers, one family a file. `standard` gives those of every audit, `full` all there are, `chosen` what a caller names."""

from __future__ import annotations

from keras_privpart.auditing.attacks.attributes import AttributeAttack
from keras_privpart.auditing.attacks.autoencoder import AutoencoderAttack
from keras_privpart.auditing.attacks.base import NEEDS, RECONSTRUCTION, Attack
from keras_privpart.auditing.attacks.decensoring import decensoring
from keras_privpart.auditing.attacks.decoder import DecoderAttack
from keras_privpart.auditing.attacks.deep_prior import DeepPriorAttack
from keras_privpart.auditing.attacks.inversion import InversionAttack
from keras_privpart.auditing.attacks.learner import Effort
from keras_privpart.auditing.attacks.membership import MEMBER, MembershipAttack, membership
from keras_privpart.auditing.attacks.probe import ProbeAttack
from keras_privpart.auditing.attacks.sets import SETS, chosen, denied, full, standard
from keras_privpart.auditing.attacks.shadow import ShadowAttack
from keras_privpart.auditing.attacks.translated import TranslatedAttack, Translation, from_reconstruction
from keras_privpart.auditing.attacks.trees import TreesAttack
from keras_privpart.auditing.attacks.unsplit import UnsplitAttack
from keras_privpart.auditing.attacks.whitebox import WhiteBoxAttack

__all__ = [
    "MEMBER",
    "NEEDS",
    "RECONSTRUCTION",
    "SETS",
    "Attack",
    "AttributeAttack",
    "AutoencoderAttack",
    "DecoderAttack",
    "DeepPriorAttack",
    "Effort",
    "InversionAttack",
    "MembershipAttack",
    "ProbeAttack",
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
