"""Runs attacks: each on the boundary, its floors and its ceiling, against every model, with several attacker seeds."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from keras_privpart.auditing.attacks import RECONSTRUCTION, Attack, Effort
from keras_privpart.auditing.evaluation_classifier import Judge
from keras_privpart.auditing.knowledge.splits import Split
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.reporting.report import AttackResult
from keras_privpart.auditing.scoring.confusion import readings
from keras_privpart.auditing.scoring.evidence import Evidence, Pictures
from keras_privpart.auditing.scoring.intervals import compare
from keras_privpart.auditing.store import Found, Store, digest_of_attack, digest_of_samples, key_of

BOUNDARY, ANSWER, TOP1, CEILING = "boundary", "answer", "top-1", "ceiling"
FLOORS = (ANSWER, TOP1)
# What a seat shows of its halves: a ceiling is a boundary too.
_SHOWN = {BOUNDARY: BOUNDARY, ANSWER: ANSWER, TOP1: TOP1, CEILING: BOUNDARY}
_SEED_STRIDE = 1000


@dataclass(frozen=True)
class Seat:
    """A place to attack from: what is seen there, and a digest of what stands behind it; None where that cannot be told."""

    view: View
    digest: str | None


@dataclass(frozen=True)
class Case:
    """One question that attacks are asked: with which examples, by which effort.

    Attributes:
        data: who knows which examples.
        effort: what one fit may cost.
        budget: how many examples the attacker was limited to; None for all.
        people: which people the attacker knows, see `people`; empty where the audit does not tell them apart.
    """

    data: Split
    effort: Effort
    budget: int | None = None
    people: str = ""

    def kind_of(self, attack: Attack) -> str:
        """What the attack is after; under different protocols, different things."""
        return f"{attack.kind} ({self.people})" if self.people else attack.kind

    def words(self) -> str:
        """For progress: `100 examples, same people`."""
        parts = [*([f"{self.budget:,} examples"] if self.budget else []), *([self.people] if self.people else [])]
        return f" ({', '.join(parts)})" if parts else ""


@dataclass(frozen=True)
class Outcome:
    """One attack's result, and the reconstructions that the report may show, by side: of the first model, by the first attacker."""

    result: AttackResult
    samples: Mapping[str, np.ndarray]


class Campaign:
    """Everything that the attacks of one audit share.

    Args:
        models: for every model, its seats: the boundary, the answer, the top-1 answer where there is one, and the ceiling.
        seeds: attackers for every seat.
        seed: of the audit; attackers have seeds of their own that follow from it.
        store: what was found before.
        judge: of reconstructions; None where there is nothing to judge by.
        announce: called with a few words before each fit; from several threads.
    """

    def __init__(
        self,
        models: Sequence[Mapping[str, Seat]],
        seeds: int,
        seed: int,
        store: Store,
        judge: Judge | None,
        announce: Callable[[str], None],
    ) -> None:
        self._models = models
        self._attackers = [seed * _SEED_STRIDE + i for i in range(seeds)]
        self._seed = seed
        self._store = store
        self._judge = judge
        self._announce = announce
        self._digests: dict[int, str] = {}
        self._described: dict[int, str | None] = {}  # before they learn anything
        self._stopped = threading.Event()

    def seats_of(self, attack: Attack) -> list[str]:
        """Where the attack can be carried out: the boundary, at least one floor and the ceiling, or nowhere."""
        seats = [name for name in self._models[0] if all(attack.inapplicable_to(model[name].view) is None for model in self._models)]
        return seats if {BOUNDARY, CEILING} <= set(seats) and set(FLOORS) & set(seats) else []

    def unreachable(self, attack: Attack) -> str | None:
        """Why the attack cannot be carried out on what there is to see; None if it can."""
        if self.seats_of(attack):
            return None
        return next(reason for model in self._models for seat in model.values() if (reason := attack.inapplicable_to(seat.view)))

    def fits(self, attack: Attack) -> int:
        """How many attackers one case of an attack takes."""
        return len(self.seats_of(attack)) * len(self._models) * len(self._attackers)

    def run(self, plan: Sequence[tuple[Attack, Sequence[Case]]], workers: int | None = None) -> list[Outcome]:
        """Carries out attacks, those that may be carried out at once on several threads; results in the order of the plan.

        Attackers' networks are too small to keep more than one core busy.
        """
        self._described = {id(attack): digest_of_attack(attack) for attack, _ in plan}
        threads = min(workers or os.cpu_count() or 1, max(1, len(plan)))
        results: dict[int, list[Outcome]] = {}
        with ThreadPoolExecutor(threads) as pool:
            try:
                started = {i: pool.submit(self._all, *plan[i]) for i in range(len(plan)) if plan[i][0].concurrent and threads > 1}
                for future in wait(started.values(), return_when=FIRST_EXCEPTION).done:
                    future.result()
                results = {i: future.result() for i, future in started.items()}
            except BaseException:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                raise
        return [outcome for i in range(len(plan)) for outcome in (results[i] if i in results else self._all(*plan[i]))]

    def _all(self, attack: Attack, cases: Sequence[Case]) -> list[Outcome]:
        return [self.carry_out(attack, case) for case in cases]

    def carry_out(self, attack: Attack, case: Case) -> Outcome:
        """One attack in one case, on all seats, against all models, with all seeds."""
        notes: list[str] = []
        found = {seat: [self._on(seat, model, attack, case, notes) for model in range(len(self._models))] for seat in self.seats_of(attack)}
        floors = {name: found[name] for name in FLOORS if name in found}
        compared = compare(found[BOUNDARY], floors, found[CEILING], self._seed, case.data.people)
        sides = {"boundary": found[BOUNDARY], "floor": found[compared.floor], "ceiling": found[CEILING]}
        result = AttackResult(
            attack=attack.name,
            kind=case.kind_of(attack),
            headline=compared.headline,
            boundary=compared.boundary,
            floors=compared.floors,
            floor_from=compared.floor,
            ceiling=compared.ceiling,
            leakage=compared.leakage,
            family=attack.family,
            budget=case.budget,
            people=case.people,
            known=case.data.owned,
            victims=len(found[BOUNDARY][0][0]),
            readings={side: reading for side, evidence in sides.items() if (reading := readings(evidence[0])) is not None},
            notes=tuple(dict.fromkeys(notes)),
        )
        first = {side: evidence[0][0] for side, evidence in sides.items()}
        return Outcome(result, {side: e.sample for side, e in first.items() if isinstance(e, Pictures)})

    def _on(self, seat: str, model: int, attack: Attack, case: Case, notes: list[str]) -> list[Evidence]:
        """The evidence of every attacker seed at one seat of one model."""
        view, digest = self._models[model][seat].view, self._models[model][seat].digest
        found = []
        for i, seed in enumerate(self._attackers):
            which = f", model {model + 1} of {len(self._models)}" if len(self._models) > 1 else ""
            self._announce(f"{attack.name}: {seat}{which}, seed {i + 1} of {len(self._attackers)}{case.words()}")
            if self._stopped.is_set():
                raise InterruptedError("another attack failed")
            key = key_of(self._described[id(attack)], digest and f"{_SHOWN[seat]} {digest}", self._digest(case), case.effort, seed)
            known = self._store.get(key)
            if known is None:
                known = self._fitted(attack, view, case, seed)
                self._store.put(key, known)
            found.append(known.evidence)
            notes += [f"{seat}: {note}" for note in known.notes]
        return found

    def _fitted(self, attack: Attack, view: View, case: Case, seed: int) -> Found:
        attack.fit(view, case.data.known, case.data.held_out, case.effort, seed)
        evidence = attack.score(view.see(case.data.victims.x), case.data.victims)
        if isinstance(evidence, Pictures):
            judge = self._judge if attack.kind == RECONSTRUCTION else None
            told = None if judge is None or evidence.images is None else judge.told(evidence.images, case.data.victims)
            evidence = evidence.forgetful(told)
        return Found(evidence, tuple(attack.notes))

    def _digest(self, case: Case) -> str:
        if id(case) not in self._digests:
            data = case.data
            self._digests[id(case)] = digest_of_samples(data.known, data.held_out, data.victims)
        return self._digests[id(case)]
