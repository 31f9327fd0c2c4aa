"""`Fits`: carries out single fits, one attack at one seat with one seed each, on several threads, and remembers what they found."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import numpy as np

from keras_privpart.auditing.attacks import RECONSTRUCTION, Attack, Effort
from keras_privpart.auditing.cases import Case
from keras_privpart.auditing.evaluation_classifier import Judge
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.evidence import Pictures
from keras_privpart.auditing.store import Found, Store, digest_of_attack, digest_of_samples, key_of

BOUNDARY, DECISION, ANSWER, CEILING = "boundary", "decision", "answer", "ceiling"
_SEED_STRIDE = 1000


@dataclass(frozen=True)
class Seat:
    """A place to attack from: what is seen there, and a digest of all that it depends on; None where that cannot be told."""

    view: View
    digest: str | None


@dataclass(frozen=True)
class Job:
    """One fit.

    Attributes:
        attack, case: which.
        seat: where.
        model: against which of the models.
        seed: which attacker, from 0.
        effort: what it may cost.
    """

    attack: Attack
    case: Case
    seat: str
    model: int
    seed: int
    effort: Effort


class Fits:
    """All single fits of an audit.

    Args:
        models: for every model, its seats: boundary, decision, answer, ceiling; of an open set, another decision under its own word.
        seeds: how many attackers of a kind there are, for messages.
        seed: of the audit; attackers have seeds of their own that follow from it.
        store: what was found before.
        judge: of reconstructions; None where there is nothing to judge by.
        announce: called with a few words before each fit; from several threads.
        workers: fits that are carried out at once; as many as there are cores by default.
    """

    def __init__(
        self,
        models: Sequence[Mapping[str, Seat]],
        seeds: int,
        seed: int,
        store: Store,
        judge: Judge | None,
        announce: Callable[[str], None],
        workers: int | None = None,
    ) -> None:
        self.models = models
        self._seeds = seeds
        self._seed = seed
        self._store = store
        self._judge = judge
        self._announce = announce
        self._workers = workers or os.cpu_count() or 1
        self._digests: dict[int, str] = {}
        self._described: dict[int, str | None] = {}
        self._made: dict[tuple[object, ...], Found] = {}
        self._free: dict[int, list[Attack]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def introduce(self, attacks: Sequence[Attack]) -> None:
        """Writes down what attacks are before they learn anything."""
        for attack in attacks:
            self._described[id(attack)] = digest_of_attack(attack)
            self._free[id(attack)] = [attack]

    def run(self, jobs: Sequence[Job]) -> list[Found]:
        """What every job found, in their order; those of attacks that may be carried out at once on several threads.

        An attacker's network is too small to keep more than one core busy, so that a job has a thread of its own.
        """
        jobs = list(jobs)
        found: dict[int, Found] = {}
        if self._workers > 1 and len(jobs) > 1:
            with ThreadPoolExecutor(min(self._workers, len(jobs))) as pool:
                try:
                    started = {i: pool.submit(self.one, job) for i, job in enumerate(jobs) if job.attack.concurrent}
                    for future in wait(started.values(), return_when=FIRST_EXCEPTION).done:
                        future.result()
                    found = {i: future.result() for i, future in started.items()}
                except BaseException:
                    self._stopped.set()
                    pool.shutdown(cancel_futures=True)
                    raise
        return [found[i] if i in found else self.one(job) for i, job in enumerate(jobs)]

    def one(self, job: Job) -> Found:
        """What one job found: before, or now."""
        if self._stopped.is_set():
            raise InterruptedError("another attack failed")
        seat, case = self.models[job.model][job.seat], job.case
        # Without noise, or where it is frozen, more looks at the same input show no more.
        alike = case.looks == 1 or (not case.frames and seat.view.sent.repeats(case.data.known.x))
        looks = 1 if alike else case.looks
        mine = (id(job.attack), id(case.data), job.seat, job.model, job.seed, looks, case.frames, job.effort)
        if mine in self._made:
            return self._made[mine]
        which = f", model {job.model + 1} of {len(self.models)}" if len(self.models) > 1 else ""
        words = replace(case, looks=looks).words()
        self._announce(f"{job.attack.name}: {job.seat}{which}, seed {job.seed + 1} of {self._seeds}{words}")
        seed = self._seed * _SEED_STRIDE + job.seed
        view = seat.digest and (seat.digest if looks == 1 else f"{seat.digest}, {looks} {'frames' if case.frames else 'looks'}")
        key = key_of(self._described[id(job.attack)], view, self._digest(case), job.effort, seed)
        found = self._store.get(key)
        if found is None:
            attack = self._borrowed(job.attack)
            found = self._fitted(attack, seat.view.looking(looks, case.frames) if looks > 1 else seat.view, job, seed)
            with self._lock:
                self._free[id(job.attack)].append(attack)
            self._store.put(key, found)
        self._made[mine] = found
        return found

    def _borrowed(self, attack: Attack) -> Attack:
        """The attack itself, or another one with its settings while that is busy."""
        with self._lock:
            free = self._free[id(attack)]
            return free.pop() if free else attack.another()

    def _fitted(self, attack: Attack, view: View, job: Job, seed: int) -> Found:
        data = job.case.data
        attack.fit(view, data.known, data.held_out, job.effort, seed)
        notes = tuple(attack.notes)
        evidence = attack.score(view.sent.see(data.victims.x), data.victims)
        if isinstance(evidence, Pictures):
            judge = self._judge if attack.kind == RECONSTRUCTION else None
            told = None if judge is None or evidence.images is None else judge.told(evidence.images, data.victims)
            evidence = evidence.forgetful(told)
        held_out = float("nan")
        if attack.trains:
            checked = attack.score(view.see(data.held_out.x), data.held_out)
            held_out = float(np.mean(checked.scores()[checked.headline]))
        return Found(evidence, notes, held_out)

    def _digest(self, case: Case) -> str:
        if id(case.data) not in self._digests:
            data = case.data
            self._digests[id(case.data)] = digest_of_samples(data.known, data.held_out, data.victims)
        return self._digests[id(case.data)]
