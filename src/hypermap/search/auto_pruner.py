"""The pruner of the default strategy: it pauses trials that are behind others, and may resume them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hypermap.search.auto import SPACE
from hypermap.search.curves import PRIOR_TAU, CurveReader, Mask, Table, judged
from hypermap.search.schedule import PROPOSED, REPEATS, Allowed, Decision, Ledger, Size

LEAST_COMPLETE = 3  # minimum number of trials that a search trains to the end
LAST_SHARE, LEADERS = 0.1, 5.0  # reserved for the leaders: a share of the budget; trainings, at most half of it
UNPRUNED_SHARE = 0.1  # share of the spent budget for trials that are trained to the end whatever their scores
MEASURED_AGAIN = 2  # trials that are trained once more before one of them is named the best
TOLD_APART = 4.0  # a lead of this many times the fluctuation of the curves is not due to chance
BEYOND_SHARE = 0.3  # share of the spent budget for trials that continue although their rung's quota is used up
INFORMATIVE = 0.45  # Kendall's tau with the final score, from which on a step may stop trials


class AutoPruner(BasePruner):
    """Asynchronous successive halving with promotion, from the first step whose ranking is informative.

    Trials are compared at the rungs 1, 2, 4, 8, … and a trial is paused at each. The best ``1 / eta`` of all that
    reached a rung may continue to the next, even later, when more have reached it (Li et al. 2020, "A System for
    Massively Parallel Hyperparameter Tuning"). The highest rung comes first; if no trial may continue, a new one
    starts.

    - *Space-filling trials compete only with each other.* Other proposals go where early scores are good, and would
      take all places at the rungs; if early scores mislead, the best are found among the space-filling trials.
    - *Quotas hold.* If proposals keep improving, nearly every one is among the best so far and would be trained to the
      end. So no more than one in `eta` continues from a rung in total, except with three tenths of the spent budget.
    - *Early scores must prove themselves.* The worse a rung has ranked the completed trials of this study, the more
      trials it lets pass; and the first rung is the first that ranks them well (`Agreement.believed`). So a study in
      which early scores mislead soon trains its trials longer before it compares them (as Hyper-Tune does: Li et al.
      2022, "Hyper-Tune: Towards Efficient Hyper-parameter Tuning at Scale"). A tenth of the spent budget goes to trials
      that are never paused, which keep testing that.
    - *The leaders are finished.* When the remaining budget is just enough for three complete trials, and in any case
      for its last tenth or five trainings (but no more than half), it goes to the paused trials with the best predicted
      final scores: a small budget has no time to learn how far early scores mislead.
    - *The winner is measured again.* If a tenth of the budget is worth two trainings, the two best complete trials are
      trained once more with another seed, unless the lead is larger than the fluctuation of their curves; the mean
      decides.
    - *State is bounded.* At most `paused` trials are kept; those with the worst predicted final scores are dropped.

    In a study that cannot pause, a trial that may not continue at its rung is stopped (by `prune`, which Optuna calls).

    Args:
        max_resource: steps of a full trial, if known.
        eta: one in `eta` trials continues from each rung.
        paused: how many paused trials keep their state.
        baseline: whether the first trial is a baseline, which is trained to the end.
        pauses: whether trials can be paused; otherwise a trial that may not continue at its rung has ended, so the best
            so far always may, and the first three are trained to the end.
        curves: how reports are read; None: higher is better if the study maximizes.
    """

    def __init__(
        self,
        max_resource: int | None = None,
        eta: float = 3.0,
        paused: int = 64,
        baseline: bool = False,
        pauses: bool = True,
        curves: CurveReader | None = None,
    ) -> None:
        if eta < 1:
            raise ValueError(f"eta is {eta}; it must be at least 1")
        if paused < 1:
            raise ValueError(f"paused is {paused}; it must be at least 1")
        self.max_resource = max_resource
        self.eta = eta
        self.paused = paused
        self.baseline = baseline
        self.pauses = pauses
        self.curves = curves
        # By the id of a trial that has ended and will not change.
        self._charged: dict[int, tuple[Allowed, float]] = {}

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial should end at its last reported step, in a study that cannot pause."""
        step = trial.last_step
        if step is None or (self.max_resource is not None and step >= self.max_resource):
            return False
        trials = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.FAIL]
        table = self._read(study, trials)
        if step not in table.rungs:
            return False
        k = table.rungs.index(step)
        if k < self.first_rung(table) or trial.number < LEAST_COMPLETE:
            return False
        own = int(np.flatnonzero(table.numbers == trial.number)[0])
        return own not in self._ahead(table, k, next(group for group in groups(trials) if group[own]), least=1)

    def decide(self, trials: Sequence[FrozenTrial], ledger: Ledger) -> Decision | None:
        """Return what to do next; see `hypermap.search.schedule.Scheduler`."""
        seen = [trial for trial in trials if trial.state not in (TrialState.FAIL, TrialState.WAITING)]
        state = _State(self, seen, trials, ledger)
        decision = None if state.finishing else state.promote() or state.begin()
        return decision or state.finish() or state.measure_again()

    def first_rung(self, table: Table) -> int:
        """Return the index of the first rung at which trials may be stopped."""
        for k, agreement in enumerate(table.agreement()):
            if agreement.believed >= INFORMATIVE:
                return k
        return len(table.rungs) - 1

    def charged(self, trial: FrozenTrial, ledger: Ledger) -> tuple[Allowed, float]:
        """Return how far a trial may train, and what it is charged."""
        if (found := self._charged.get(trial._trial_id)) is not None:
            return found
        charged = Allowed.of(trial), ledger.taken(trial)
        if trial.state not in (TrialState.RUNNING, TrialState.WAITING):
            self._charged[trial._trial_id] = charged
        return charged

    def _reduction(self, table: Table, k: int) -> float:
        """Return k such that one in k continues from a rung: `eta`, or less if it is less informative than usual."""
        return 1 + (self.eta - 1) * min(1.0, max(0.0, table.agreement()[k].believed / PRIOR_TAU))

    def _read(self, study: Study, trials: Sequence[FrozenTrial]) -> Table:
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        self.curves = self.curves or CurveReader(sign, sign, self.max_resource)
        return self.curves.read(trials)

    def _ahead(self, table: Table, k: int, group: Mask, least: int = 0) -> list[int]:
        """Return the indices of the trials of a group that may continue from a rung, the best first."""
        ended = table.complete & (table.last > 0)  # trials without reports have no comparable score
        reached = ((table.last >= table.rungs[k]) | ended) & group
        quota = max(least, int(reached.sum() / self._reduction(table, k)))
        usable = reached & ~table.diverged & ~np.isnan(table.scores[:, k])
        scores = np.where(usable, table.scores[:, k], -math.inf)
        order = np.argsort(-scores, kind="stable")[:quota]
        return [int(i) for i in order if scores[i] > -math.inf]


def groups(trials: Sequence[FrozenTrial]) -> list[Mask]:
    """Return two masks ``(n,)``: the space-filling trials, and those proposed from results."""
    filling = np.array([trial.user_attrs.get(PROPOSED) == SPACE for trial in trials], dtype=bool)
    return [filling, ~filling]


class _State:
    """A study at the moment of a decision."""

    def __init__(
        self, pruner: AutoPruner, trials: Sequence[FrozenTrial], every: Sequence[FrozenTrial], ledger: Ledger
    ) -> None:
        assert pruner.curves is not None
        self.pruner, self.trials, self.every, self.ledger = pruner, trials, every, ledger
        self.table = pruner.curves.read(trials)
        charged = {trial.number: pruner.charged(trial, ledger) for trial in every if trial.state != TrialState.WAITING}
        self.allowed = [charged[trial.number][0] for trial in trials]
        self.spent = math.fsum(taken for _, taken in charged.values())
        self.first = pruner.first_rung(self.table)
        self.again = self._to_measure_again()
        self.whole = max(0.0, ledger.budget - self.spent)  # what is left
        self.left = max(0.0, self.whole - len(self.again))  # besides what is reserved
        running = np.array([trial.state == TrialState.RUNNING for trial in trials], dtype=bool)
        whole_way = np.array([self._to_its_end(*one) for one in zip(trials, self.allowed, strict=True)], dtype=bool)
        self.paused: Mask = running & np.array([allowed.paused for allowed in self.allowed], dtype=bool)
        self.to_the_end: Mask = running & ~self.paused & whole_way
        self.part_way: Mask = running & ~self.paused & ~whole_way
        self.expected = self.table.expected()[0]

    @property
    def lacking(self) -> int:
        """Return how many more trials must be trained to the end, besides those on their way there."""
        done = int((self.table.complete & ~self.table.diverged).sum() + self.to_the_end.sum())
        least = LEAST_COMPLETE
        if not math.isinf(self.ledger.budget):
            least = min(least, int(self.ledger.budget + 1e-9))
        elif self.ledger.n_trials is not None:
            least = max(least, math.ceil(LAST_SHARE * self.ledger.n_trials))
        return max(0, least - done)

    def _to_its_end(self, trial: FrozenTrial, allowed: Allowed) -> bool:
        steps = Size.of(trial, self.ledger.horizon).steps
        return allowed.until is None or (steps is not None and allowed.until >= steps)

    @property
    def finishing(self) -> bool:
        """Return whether the rest should go to the leaders."""
        if not self.paused.any():
            return False
        if self.ledger.hurry:
            return True
        if math.isinf(self.left):
            return False
        leader = self._cost_to_end(self._leaders(self.paused | self.part_way)[0])
        budget = self.ledger.budget
        last = max(LAST_SHARE * budget, min(LEADERS, budget / 2))
        return self.left <= max(math.fsum(self._needed()), last, leader) + 1e-9

    def _needed(self) -> list[float]:
        """Return the cost of each trial that is still to be completed: the leaders, and others if those are few.

        A trial that is being trained part of the way may be a leader as well.
        """
        leaders = self._leaders(self.paused | self.part_way)[: self.lacking]
        return [self._cost_to_end(i) for i in leaders] + [1.0] * (self.lacking - len(leaders))

    def _leaves_enough(self, cost: float, saves: float = 0.0) -> bool:
        """Return whether enough is left after this for what is needed; true if no trial has started."""
        if math.isinf(self.left) or not self.lacking or not (self.paused | self.part_way).any():
            return True
        return self.left - cost >= math.fsum(self._needed()) - saves - 1e-9

    def _leaders(self, among: NDArray[np.bool_] | None = None) -> list[int]:
        """Return the indices of the paused (or other) trials, those with the best predicted final scores first."""
        among = self.paused if among is None else among
        return [int(i) for i in np.argsort(-self.expected, kind="stable") if among[i]]

    def _cost_to_end(self, i: int) -> float:
        size, until = Size.of(self.trials[i], self.ledger.horizon), self.allowed[i].until
        promised = until or 0 if self.part_way[i] else 0
        return size.trainings - size.cost(max(int(self.table.last[i]), promised))

    def finish(self) -> Decision | None:
        """Continue the leader that can still be trained to the end, or else as far as the budget allows.

        If more must be completed, it leaves enough for the cheapest of the others.
        """
        enough = math.isinf(self.left) and not self.lacking
        if enough or not self.paused.any():
            return None
        leaders, others = self._leaders(), max(0, self.lacking - 1)
        costs = {i: self._cost_to_end(i) for i in self._leaders(self.paused | self.part_way)}
        kept = {i: math.fsum(sorted(c for j, c in costs.items() if j != i)[:others]) if others else 0 for i in leaders}
        fits = [i for i in leaders if costs[i] + kept[i] <= self.left + 1e-9]
        fits = fits or [i for i in leaders if costs[i] <= self.left + 1e-9]
        if not fits and self.part_way.any():  # the rest may be just enough for one of these
            return None
        return self._go_on((fits or leaders)[0], None)

    def promote(self) -> Decision | None:
        """Continue a trial that is among the best at its rung, the highest rung first."""
        if (best := self._best_at_a_rung()) is not None:
            beyond = self._next_rung(self._rung(best))
            return self._go_on(best, beyond) if self._leaves_enough(*self._detour(best, beyond)) else None
        for i in self._leaders():  # a trial paused before a later rung became the first catches up, if it leads
            if self._rung(i) < self.first and self.expected[i] >= np.max(self.expected):
                return self._go_on(i, self.table.rungs[self.first])
        return None

    def _best_at_a_rung(self) -> int | None:
        """Return the index of the best paused trial that may continue from its rung, the highest such rung first."""
        groups_with_room = list(zip(groups(self.trials), self._room(), strict=True))
        least = 0 if self.pruner.pauses else 1
        for k in range(len(self.table.rungs) - 1, self.first - 1, -1):
            for group in [group for group, room in groups_with_room if room[k]]:
                for i in self.pruner._ahead(self.table, k, group, least):
                    if self.paused[i] and self._rung(i) == k:
                        return i
        return None

    def _next_rung(self, k: int) -> int | None:
        """Return the step of the next rung; None for a trial's end, if known."""
        steps = self.table.rungs
        if k + 1 < len(steps):
            return steps[k + 1]
        return 2 * steps[k] if self.pruner.max_resource is None else None

    def _room(self) -> list[Mask]:
        """Return for each of `groups` at which rungs another of its trials may continue ``(K,)``.

        They may where fewer have continued than the rung's quota allows, or where what continued beyond the quotas is
        still a small share of what was spent.
        """
        table, rungs = self.table, np.array(self.table.rungs)
        reductions = [self.pruner._reduction(table, k) for k in range(len(rungs))]
        cost = np.diff(rungs, append=rungs[-1]) / rungs[-1]  # cost from each rung to the next
        far, reached, beyond = self._progress()
        unpruned = np.array([allowed.unpruned for allowed in self.allowed], dtype=bool)  # they have their own share
        counted = ~unpruned & ~(self.pruner.baseline & (table.numbers == 0))
        rooms = []
        for group in groups(self.trials):
            quota = np.maximum(1, reached[group].sum(0) // reductions)
            gone_on = beyond[counted & group].sum(0)
            excess = float((np.maximum(0, gone_on - quota) * cost).sum())
            spent = float(np.minimum(far, rungs[-1])[group].sum()) / rungs[-1]
            rooms.append(np.asarray((gone_on < quota) | (excess + cost <= BEYOND_SHARE * spent)))
        return rooms

    def _progress(self) -> tuple[NDArray[np.int_], Mask, Mask]:
        """Return how far each trial has come or will come ``(n,)``, and its reached and its passed rungs ``(n, K)``.

        A complete trial has reached and passed all of them.
        """
        table, rungs = self.table, np.array(self.table.rungs)
        allowed = np.array([rungs[-1] if own.until is None else own.until for own in self.allowed], dtype=int)
        ended = table.complete & (table.last > 0)
        far = np.where(self.paused, table.last, np.maximum(table.last, allowed))
        reached = (table.last[:, None] >= rungs) | ended[:, None]
        beyond = (far[:, None] > rungs) | (ended & ~table.diverged)[:, None]
        return far, reached, beyond

    def _detour(self, i: int, until: int | None) -> tuple[float, float]:
        """Return the cost of training up to a step, and how much less the others then need."""
        size, needed = Size.of(self.trials[i], self.ledger.horizon), self._needed()
        end = until is None or (size.steps is not None and until >= size.steps)
        cost = self._cost_to_end(i) if end else size.cost(until or 0) - size.cost(int(self.table.last[i]))
        if i in self._leaders(self.paused | self.part_way)[: self.lacking]:
            return cost, cost
        return cost, needed[-1] if end and needed else 0.0

    def _to_measure_again(self) -> list[int]:
        """Return the numbers of the trials for whose second training some budget is reserved, the best first."""
        worthwhile = not math.isinf(self.ledger.budget) and LAST_SHARE * self.ledger.budget >= MEASURED_AGAIN
        begun = [int(t.user_attrs[REPEATS]) for t in self.trials if t.user_attrs.get(REPEATS) is not None]
        if not worthwhile or len(begun) >= MEASURED_AGAIN or not self.ledger.may_begin(self.every):
            return []
        scores = self._best_complete()
        best = [self.trials[i].number for i in scores]
        if begun:  # it has been decided which are measured again
            return [number for number in best if number not in begun][:1]
        if len(best) < MEASURED_AGAIN or self._told_apart(scores):
            return []
        return best

    def _best_complete(self) -> dict[int, float]:
        """Return the scores of the best complete trials that are not repetitions, by index, best first."""
        assert self.pruner.curves is not None
        sign = self.pruner.curves.final_sign
        first = np.array([trial.user_attrs.get(REPEATS) is None for trial in self.trials], dtype=bool)
        places = map(int, np.flatnonzero(self.table.complete & ~self.table.diverged & first))
        own = {i: self.trials[i] for i in places}
        scores = judged({i: (trial.values[0], trial.intermediate_values) for i, trial in own.items()}, sign)
        return {i: scores[i] for i in sorted(scores, key=lambda i: (-sign * scores[i], i))[:MEASURED_AGAIN]}

    def _told_apart(self, scores: dict[int, float]) -> bool:
        """Return whether the best trial leads by more than chance, and no running trial may come closer."""
        first, second = list(scores.values())[:2]
        shake = max(_shake(self.trials[i]) for i in scores)
        return abs(first - second) > TOLD_APART * shake and not self._at_work()

    def _at_work(self) -> bool:
        """Return whether a trial that is not a repetition is being trained."""
        return any(
            trial.state == TrialState.RUNNING and not allowed.paused and REPEATS not in trial.user_attrs
            for trial, allowed in zip(self.trials, self.allowed, strict=True)
        )

    def measure_again(self) -> Decision | None:
        """Train one of the best once more, if everything else is done."""
        if self._at_work() or not self.again or self.ledger.hurry:
            return None
        until = self.ledger.within(Size(self.ledger.horizon), 0, None, self.whole)
        return None if until == 0 else Decision(None, Allowed(until), repeats=self.again[0])

    def _rung(self, i: int) -> int:
        """Return the index of the last rung that a trial has reached; -1 before the first."""
        return int(np.searchsorted(self.table.rungs, self.table.last[i], side="right")) - 1

    def _go_on(self, i: int, until: int | None) -> Decision | None:
        trial, size = self.trials[i], Size.of(self.trials[i], self.ledger.horizon)
        if until is not None and size.steps is not None and until >= size.steps:
            until = None
        affordable = self.ledger.within(size, int(self.table.last[i]), until, self.left)
        if affordable == 0:
            return None
        return Decision(trial.number, Allowed(affordable, unpruned=self.allowed[i].unpruned))

    def begin(self) -> Decision | None:
        """Start a trial, if one may start."""
        if not self.ledger.may_begin(self.every):
            return None
        if self.ledger.sizes_differ and self.left < 1 - 1e-9:  # its cost is not known yet
            return None
        first = len(self.trials) < (self.pruner.baseline if self.pruner.pauses else LEAST_COMPLETE)
        unpruned = not first and self._another_unpruned()
        until = None if first or unpruned else self._first_stop()
        surplus = self._surplus()
        if not self._leaves_enough(*self._outlay(until, replaces=bool(surplus))):
            return None
        affordable = self.ledger.within(Size(self.ledger.horizon), 0, until, self.left)
        if affordable == 0:
            return None
        released = tuple(self.trials[i].number for i in surplus)
        return Decision(None, Allowed(affordable, unpruned=unpruned), release=released)

    def _first_stop(self) -> int | None:
        """Return the step at which a new trial is first compared with others; None if that is its end."""
        step = self.table.rungs[self.first]
        return None if self.ledger.horizon is not None and step >= self.ledger.horizon else step

    def _surplus(self) -> list[int]:
        """Return the indices of the paused trials that are dropped for a new one, since no more can be kept."""
        return self._leaders()[self.pruner.paused - 1 :] if self.paused.sum() >= self.pruner.paused else []

    def _outlay(self, until: int | None, *, replaces: bool) -> tuple[float, float]:
        """Return the cost of a new trial up to a step, and how much less is then needed for others.

        It may be one of the trials to be completed, if too few have started; but not if it `replaces` one.
        """
        cost, needed = Size(self.ledger.horizon).cost(until or math.inf), self._needed()
        if not needed:
            return cost, 0.0
        if until is None:
            return cost, needed[-1]
        too_few = int((self.paused | self.part_way).sum()) < self.lacking
        return cost, cost if too_few and not replaces else 0.0

    def _another_unpruned(self) -> bool:
        """Return whether it is time for another trial that is trained to the end whatever its scores."""
        so_far = math.fsum(
            Size.of(trial, self.ledger.horizon).trainings
            for trial, allowed in zip(self.trials, self.allowed, strict=True)
            if allowed.unpruned
        )
        return so_far + 1 <= UNPRUNED_SHARE * self.spent and self.ledger.horizon is not None


def _shake(trial: FrozenTrial) -> float:
    """Return the fluctuation of a trial's reports in the second half of its training; infinite for too few."""
    last = [value for step, value in trial.intermediate_values.items() if 2 * step > (trial.last_step or 0)]
    return float(np.std(last)) if len(last) >= 4 else math.inf
