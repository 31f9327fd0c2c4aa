"""A learned prior asks for few pairs of what is seen and picture."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import Effort, LearnedPriorAttack
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.errors import AuditError


def test_few_pairs_are_asked_for(digits):
    train, test = digits
    known, held_out = train[:440], train[440:]
    asked = []

    def noisy(x):
        asked.extend(row.tobytes() for row in np.asarray(x, "float32"))
        return x + np.random.default_rng(len(asked)).normal(size=x.shape) * 0.05

    attack = LearnedPriorAttack(pairs=60)
    attack.fit(View("a little noise", noisy), known, held_out, Effort(epochs=40, batch_size=32), seed=0)
    mine = {row.tobytes() for row in known.x}
    assert len(mine & set(asked)) == len({row.tobytes() for row in known.x[:60]}), "of its own pictures it asks for sixty"
    assert attack.score([test.x], test).scores()["ssim"] > 0.7, "and reads what crosses from these"


def test_pairs_are_checked():
    with pytest.raises(AuditError, match="pairs=0"):
        LearnedPriorAttack(pairs=0)
