"""Runs attacks as a race: each once on the boundary; the strongest again with more effort and seeds, on the floors and the ceiling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from keras_privpart.auditing.attacks import Attack, Effort
from keras_privpart.auditing.cases import Case, Halves
from keras_privpart.auditing.fits import ANSWER, BOUNDARY, CEILING, DECISION, Fits, Job
from keras_privpart.auditing.knowledge.views import TOP1, WHO
from keras_privpart.auditing.reporting.results import AttackResult
from keras_privpart.auditing.scoring.chance import chance, mirrored
from keras_privpart.auditing.scoring.confusion import readings
from keras_privpart.auditing.scoring.evidence import Pictures
from keras_privpart.auditing.scoring.intervals import Leakage, Side, compare, mean_score, table_of
from keras_privpart.auditing.store import Found

FLOORS = (DECISION, TOP1, WHO, ANSWER)
NEAR = 0.02  # of the leader's score, in units of `Evidence.whole`: attacks as close as that go on
ENOUGH = 0.005  # of the held-out score: doubling the updates must gain as much to go on
NOT_MEASURED = "it was not among the strongest attacks, so that its floor and ceiling were not measured"


@dataclass(frozen=True)
class Outcome:
    """One attack's result, and the reconstructions that the report may show, by side: of the first model, by the first attacker."""

    result: AttackResult
    samples: Mapping[str, np.ndarray]


@dataclass(eq=False)
class Runner:
    """One attack in one case.

    Attributes:
        effort: what its fits cost; grows.
        at_least: whether more effort helped to the last, or was never tried.
        goes_on: whether it is among the strongest.
        found: by seat, of every model and seed.
    """

    attack: Attack
    case: Case
    effort: Effort
    at_least: bool = False
    goes_on: bool = True
    found: dict[str, list[list[Found]]] = field(default_factory=dict)

    @property
    def whole(self) -> float:
        """What differences of its headline score are measured by."""
        return self.found[BOUNDARY][0][0].evidence.whole

    def side(self, seat: str) -> Side:
        return [[found.evidence for found in model] for model in self.found[seat]]


@dataclass(frozen=True, eq=False)
class Race:
    """The attacks of one kind in one case, which are compared with each other."""

    kind: str
    case: Case
    halves: Halves
    runners: tuple[Runner, ...]


class Campaign:
    """Everything that the attacks of one audit share.

    Args:
        fits: carries out single fits.
        seeds: attackers of the strongest attacks at every seat.
        seed: of the audit.
        race: whether attacks that are far behind the leader stop early; otherwise all go on.
        doublings: how often the updates of the strongest may be doubled.
        expect: told how many more fits there can be at most, first before any and again whenever some have dropped out.
    """

    def __init__(
        self,
        fits: Fits,
        seeds: int,
        seed: int,
        race: bool = True,
        doublings: int = 3,
        expect: Callable[[int], None] = lambda most: None,
    ) -> None:
        self._fits = fits
        self._seeds = seeds
        self._seed = seed
        self._race = race
        self._doublings = doublings
        self._expect = expect
        self._models = range(len(fits.models))

    def seats_of(self, attack: Attack) -> list[str]:
        """Where the attack can be carried out: the boundary, at least one floor and the ceiling, or nowhere."""
        models = self._fits.models
        seats = [name for name in models[0] if all(attack.inapplicable_to(model[name].view) is None for model in models)]
        return seats if {BOUNDARY, CEILING} <= set(seats) and set(FLOORS) & set(seats) else []

    def unreachable(self, attack: Attack) -> str | None:
        """Why the attack cannot be carried out on what there is to see; None if it can."""
        if self.seats_of(attack):
            return None
        seats = (seat for model in self._fits.models for seat in model.values())
        return next(reason for seat in seats if (reason := attack.inapplicable_to(seat.view)))

    def run(self, plan: Sequence[tuple[Attack, Sequence[Case]]]) -> list[Outcome]:
        """Carries out attacks in their cases; results in the order of the plan."""
        self._fits.introduce([attack for attack, _ in plan])
        races = self._races(plan)
        runners = [r for race in races for r in race.runners]
        self._expect(self._most_fits(races, self._doublings))
        for cheap in (True, False):  # a bar first, which the others must pass
            self._fill([(r, BOUNDARY, 1) for r in runners if r.attack.cheap is cheap])
        for race in races:
            self._sift(race)
        self._expect(self._most_fits(races, self._doublings))
        self._strengthen([r for race in races for r in self._leaders(race)])
        for race in races:
            self._sift(race)
        self._expect(self._most_fits(races, 0))
        self._fill([(r, BOUNDARY, self._seeds_of(r)) for r in runners if r.goes_on])
        self._fill([(r, seat, self._seeds_of(r)) for r in runners if r.goes_on for seat in self.seats_of(r.attack)])
        found = {(id(r.attack), id(r.case)): self._outcome(race, r) for race in races for r in race.runners}
        return [found[id(attack), id(case)] for attack, cases in plan for case in cases]

    def curve(self, attack: Attack, cases: Sequence[Case]) -> list[tuple[int, float]]:
        """The headline score of one attack by number of examples, one attacker each, on all victims."""
        jobs = [Job(attack, case, BOUNDARY, 0, 0, case.effort) for case in cases]
        found = self._fits.run(jobs)
        scores = [float(np.mean(f.evidence.scores()[f.evidence.headline])) for f in found]
        return [(case.data.owned, score) for case, score in zip(cases, scores, strict=True)]

    def _races(self, plan: Sequence[tuple[Attack, Sequence[Case]]]) -> list[Race]:
        groups: dict[tuple[str, int], list[Runner]] = {}
        for attack, cases in plan:
            for case in cases:
                groups.setdefault((case.kind_of(attack), id(case)), []).append(Runner(attack, case, case.effort, attack.trains))
        rivals: dict[str, set[int]] = {}  # all who go for the same thing are compared on the same victims, whatever the budget and looks
        for (kind, _), group in groups.items():
            rivals.setdefault(kind, set()).update(id(r.attack) for r in group)
        return [
            Race(kind, group[0].case, Halves.of(group[0].case.data, len(rivals[kind]), self._seed), tuple(group))
            for (kind, _), group in groups.items()
        ]

    def _most_fits(self, races: Sequence[Race], doublings: int) -> int:
        """How many more fits there can be at most: of all who are still in the race, every seed at every seat, and so many doublings."""
        going = [r for race in races for r in race.runners if r.goes_on]
        wanted = sum(len(self.seats_of(r.attack)) * self._seeds_of(r) for r in going) * len(self._models)
        done = sum(len(found) for r in going for models in r.found.values() for found in models)
        doubled = sum(min(1, n) if self._race else n for n in (sum(r.attack.trains for r in race.runners) for race in races))
        return wanted - done + doublings * doubled * len(self._models)

    def _seeds_of(self, runner: Runner) -> int:
        return 1 if runner.attack.cheap else self._seeds

    def _fill(self, wanted: Sequence[tuple[Runner, str, int]]) -> None:
        """Sees to it that runners have so many seeds at a seat."""
        jobs = [
            (runner, seat, Job(runner.attack, runner.case, seat, model, seed, runner.effort))
            for runner, seat, seeds in wanted
            for model in self._models
            for seed in range(len(runner.found[seat][model]) if seat in runner.found else 0, seeds)
        ]
        for (runner, seat, job), found in zip(jobs, self._fits.run([job for *_, job in jobs]), strict=True):
            runner.found.setdefault(seat, [[] for _ in self._models])[job.model].append(found)

    def _sift(self, race: Race) -> None:
        """Attacks that go on: the leader, those near it, and the cheap ones, which cost nothing and are the others' bar."""
        strengths = {id(r): self._strength(race, r) for r in race.runners}
        best, near = max(strengths.values()), NEAR * race.runners[0].whole
        for r in race.runners:
            r.goes_on = r.goes_on and (not self._race or r.attack.cheap or strengths[id(r)] >= best - near)

    def _leaders(self, race: Race) -> list[Runner]:
        """Whom more effort is given: the strongest attack that trains. Those near it stay as they are, and count where it gains nothing."""
        trained = [r for r in race.runners if r.goes_on and r.attack.trains]
        if not self._race:
            return trained
        return [max(trained, key=lambda r: self._strength(race, r))] if trained else []

    def _strength(self, race: Race, runner: Runner) -> float:
        side = runner.side(BOUNDARY)
        value = mean_score(mirrored(side, race.halves.choosing) or side, race.halves.choosing)
        return -math.inf if math.isnan(value) else value

    def _strengthen(self, runners: Sequence[Runner]) -> None:
        """Doubles the updates of attacks that train until it gains nothing on held-out examples; floors and ceiling get as many."""
        going = list(runners)
        for _ in range(self._doublings):
            jobs = [
                Job(r.attack, r.case, BOUNDARY, model, 0, replace(r.effort, epochs=2 * r.effort.epochs))
                for r in going
                for model in self._models
            ]
            found = iter(self._fits.run(jobs))
            longer = [[next(found) for _ in self._models] for _ in going]
            still = []
            for r, again in zip(going, longer, strict=True):
                before = np.mean([model[0].held_out for model in r.found[BOUNDARY]])
                if not np.mean([f.held_out for f in again]) - before >= ENOUGH * r.whole:
                    r.at_least = False
                    continue
                r.effort = replace(r.effort, epochs=2 * r.effort.epochs)
                r.found[BOUNDARY] = [[f] for f in again]
                still.append(r)
            going = still

    def _outcome(self, race: Race, runner: Runner) -> Outcome:
        attack, case, notes = runner.attack, runner.case, self._notes(runner)
        seats = runner.found if runner.goes_on else {BOUNDARY: runner.found[BOUNDARY]}
        sides = {seat: runner.side(seat) for seat in seats}
        for seat, side in sides.items():
            turned = mirrored(side, race.halves.choosing)
            if turned is not None:
                sides[seat] = turned
                notes.append(f"{seat}: its guesses were wrong more often than chance, and count the other way round")
        reported, people = race.halves.reported, case.data.people
        shared = AttackResult(
            attack=attack.name,
            kind=race.kind,
            headline="",
            boundary={},
            floors={},
            floor_from=DECISION,
            ceiling={},
            leakage=Leakage(None, reason=NOT_MEASURED),
            family=attack.family,
            budget=case.budget,
            people=case.people,
            known=case.data.owned,
            victims=int(np.sum(reported[: len(sides[BOUNDARY][0][0])])),
            notes=tuple(dict.fromkeys(notes)),
            looks=case.looks,
            frames=case.frames,
            chosen_by=mean_score(sides[BOUNDARY], race.halves.choosing),
            updates=_updates(runner) if attack.trains else None,
            at_least=runner.at_least,
        )
        if CEILING not in sides:
            headline, table = table_of(sides[BOUNDARY], self._seed, people, reported)
            return Outcome(replace(shared, headline=headline, boundary=table), {})
        floors, by = self._floors(race, runner, sides)
        first = sides[BOUNDARY][0][0]
        blind = chance(first, case.data.known, case.data.victims)
        compared = compare(
            sides[BOUNDARY], floors, sides[CEILING], self._seed, people, None if blind is None else [[blind]] * len(self._models), reported
        )
        shown = {"boundary": sides[BOUNDARY], "floor": floors[compared.floor], "ceiling": sides[CEILING]}
        result = replace(
            shared,
            headline=compared.headline,
            boundary=compared.boundary,
            floors=compared.floors,
            floor_from=compared.floor,
            ceiling=compared.ceiling,
            leakage=compared.leakage,
            beyond_answer=compared.beyond_answer,
            above_chance=compared.above_chance,
            floors_by=by,
            readings={side: reading for side, evidence in shown.items() if (reading := readings(evidence[0])) is not None},
        )
        firsts = {side: evidence[0][0] for side, evidence in shown.items()}
        return Outcome(result, {side: e.sample for side, e in firsts.items() if isinstance(e, Pictures)})

    def _floors(self, race: Race, runner: Runner, own: Mapping[str, Side]) -> tuple[dict[str, Side], dict[str, str]]:
        """The strongest attacker at each floor, whoever that is: who sees the whole answer sees the decision too."""
        floors, by = {}, {}
        for seat in [name for name in FLOORS if name in own]:
            entrants: list[tuple[str, Side]] = [("", own[seat])]
            entrants += [entrant for other in race.runners if other.goes_on for entrant in self._entrants(other, runner, seat)]
            scored = [(_number(mean_score(side, race.halves.choosing)), -i) for i, (_, side) in enumerate(entrants)]
            name, floors[seat] = entrants[-max(scored)[1]]
            if name:
                by[seat] = name
        return floors, by

    @staticmethod
    def _entrants(other: Runner, runner: Runner, seat: str) -> list[tuple[str, Side]]:
        """What another attack makes of a floor, or of the decision, which is part of the answer; of as many victims."""
        found = []
        for theirs in [name for name in dict.fromkeys((seat, DECISION)) if name in other.found and (other is not runner or name != seat)]:
            side = other.side(theirs)
            if len(side[0][0]) == len(runner.side(BOUNDARY)[0][0]):
                found.append((f"{other.attack.name}{', from the decision' if theirs != seat else ''}", side))
        return found

    @staticmethod
    def _notes(runner: Runner) -> list[str]:
        return [f"{seat}: {note}" for seat, models in runner.found.items() for found in models for f in found for note in f.notes]


def _updates(runner: Runner) -> int:
    effort, known = runner.effort, len(runner.case.data.known)
    return effort.epochs * max(1, known // min(effort.batch_size, known))


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value
