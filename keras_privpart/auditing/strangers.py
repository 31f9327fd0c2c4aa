"""An audit of an open set: the decisions that attackers see of it, and what its task is worth beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_privpart.auditing.fits import DECISION, Seat
from keras_privpart.auditing.knowledge.open_set import ENROLLED, GROUPS, HELPERS, UNSEEN, WhoOrUnknown, threshold
from keras_privpart.auditing.knowledge.people import whose
from keras_privpart.auditing.knowledge.views import TOP1, WHO, View, Views
from keras_privpart.auditing.plan import AuditPlan
from keras_privpart.auditing.scoring.identification import Identification, identified
from keras_privpart.datasets import TASK
from keras_privpart.errors import AuditError


def open_seats(views: Views, decision: Seat, digest: str | None, plan: AuditPlan) -> dict[str, Seat]:
    """Of an open set: who comes first, and who it is or unknown; what the operator returns of the two is the decision."""
    groups, group, answer = plan.settings.groups, str(plan.settings.group), plan.settings.answer
    scores = views.answer.sent.see(plan.test.x[:1])
    strangers = None if groups is None else groups.pictures(plan.train, group, HELPERS)
    if groups is None or strangers is None or not len(strangers) or len(scores) != 1 or scores[0].ndim != 2 or scores[0].shape[1] < 2:
        if answer == WHO:
            raise AuditError(
                f"Received answer={WHO!r}, and no pictures of helpers in train or no scores [batch, people]; expected both: by them the "
                "operator's threshold is set. Give helpers, or another answer."
            )
        return {}
    limit = threshold(views.answer.sent.see(strangers.x)[0], groups.false_alarms)
    who = Seat(views.decided_by(WHO, WhoOrUnknown(limit)), digest and f"{WHO} over {limit!r} {digest}")
    return {DECISION: who, TOP1: decision} if answer == WHO else {WHO: who}


def identification(answers: Mapping[str, Sequence[View]], plan: AuditPlan) -> Identification | None:
    """What an open set's task is worth on the victims; None where there is none, or nobody to tell."""
    groups, group, seed = plan.settings.groups, str(plan.settings.group), plan.settings.seed
    if groups is None:
        return None
    enrolled, strangers = (groups.pictures(plan.test, group, name) for name in (ENROLLED, UNSEEN))
    if TASK not in enrolled.targets or not len(enrolled) or not len(strangers):
        return None
    labels = np.asarray(enrolled.targets[TASK]).reshape(-1)
    found = {}
    for side, views in answers.items():
        looks = [(view.see(enrolled.x), view.see(strangers.x)) for view in views for _ in range(plan.settings.seeds)]
        if any(len(look) != 1 or look[0].ndim != 2 or look[0].shape[1] < 2 for look, _ in looks):
            return None
        known, unknown = [look[0] for look, _ in looks], [look[0] for _, look in looks]
        found[side] = identified(known, labels, unknown, groups.false_alarms, len(views), seed)
    everyone = np.concatenate([whose(samples, group) for samples in (plan.train, plan.test)])
    people = {name: int(np.sum(groups.of(np.unique(everyone)) == name)) for name in GROUPS}
    identity, detected = ({side: scores[i] for side, scores in found.items()} for i in range(2))
    return Identification(people, groups.false_alarms, len(strangers), identity, detected)
