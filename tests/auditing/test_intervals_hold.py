"""Intervals hold: of many audits with victims of their own, as many intervals cover the truth as they say."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import Effort, KernelPosteriorAttack, NeighboursAttack
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.intervals import compare
from keras_privpart.datasets import Samples

REPETITIONS, FEWEST = 20, 15  # of 95 % intervals 19 cover on average, and under 15 do with a chance of 3 in 10,000
NOISE = 0.7


def world(count, rng):
    """Pictures `[n, 3, 3, 1]` of one shade each, and whether it is a light one; nothing else differs."""
    shade = rng.uniform(0.1, 0.9, size=count).astype("float32")
    return Samples(np.broadcast_to(shade[:, None, None, None], (count, 3, 3, 1)).copy(), {"light": (shade > 0.5).astype(int)})


def noisy(rng, stddev):
    return View("a shade with noise", lambda x: x[:, :1, 0, 0] + stddev * rng.normal(size=(len(x), 1)))


def seats(rng):
    return {"boundary": noisy(rng, NOISE), "decision": View("nothing", lambda x: np.ones((len(x), 1))), "ceiling": noisy(rng, 0.05)}


ATTACKS = {"kernel posterior": lambda: KernelPosteriorAttack("mse"), "neighbours": lambda: NeighboursAttack("light")}


@pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)
def test_intervals_cover_what_very_many_victims_say(make):
    """Attackers learn once; twenty audits have victims of their own, and the truth is that of very many."""
    rng = np.random.default_rng(0)
    known, held_out, many = (world(count, rng) for count in (400, 100, 8000))
    places = seats(rng)
    fitted = {}
    for seat, view in places.items():
        fitted[seat] = make()
        fitted[seat].fit(view, known, held_out, Effort(1, 32), seed=0)

    def evidence(victims):
        return {seat: attack.score(places[seat].see(victims.x), victims) for seat, attack in fitted.items()}

    truth = {seat: float(e.scores()[e.headline]) for seat, e in evidence(many).items()}
    sides = [{seat: [[e]] for seat, e in evidence(world(150, rng)).items()} for _ in range(REPETITIONS)]
    repeated = [compare(s["boundary"], {"decision": s["decision"]}, s["ceiling"], i) for i, s in enumerate(sides)]
    leakage = (truth["boundary"] - truth["decision"]) / (truth["ceiling"] - truth["decision"])
    intervals = (
        (leakage, [one.leakage for one in repeated]),
        (truth["boundary"], [one.boundary[one.headline] for one in repeated]),
        (truth["ceiling"], [one.ceiling[one.headline] for one in repeated]),
    )
    for value, found in intervals:
        assert sum(one.low <= value <= one.high for one in found) >= FEWEST
    assert 0.02 < leakage < 0.9
    widths = [one.leakage.high - one.leakage.low for one in repeated]
    assert max(widths) < 0.6, "an interval that covers all says nothing"
