import json
import math
import warnings
from functools import partial

import pytest
import torch
from torch.optim import lr_scheduler

from hypermap.core.errors import UserError
from hypermap.training.lr_schedules import (
    Constant,
    Cosine,
    CosLog4,
    Exponential,
    Linear,
    OneCycle,
    Plateau,
    Schedule,
    Step,
)

BASE, EPOCHS, STEPS = 0.3, 6, 7  # steps of an epoch
TOTAL = EPOCHS * STEPS
ALL = [Constant, Step, Exponential, Linear, Cosine, CosLog4, OneCycle, Plateau]

# Each schedule beside torch's own, stepped at every step.
PEERS = [
    (Constant(), partial(lr_scheduler.LambdaLR, lr_lambda=lambda step: 1.0)),
    (Step(2, 0.5), partial(lr_scheduler.StepLR, step_size=2 * STEPS, gamma=0.5)),
    (Exponential(0.8), partial(lr_scheduler.ExponentialLR, gamma=0.8 ** (1 / STEPS))),
    (Linear(0.1), partial(lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.1, total_iters=TOTAL)),
    (Cosine(), partial(lr_scheduler.CosineAnnealingLR, T_max=TOTAL)),
    (Cosine(0.1), partial(lr_scheduler.CosineAnnealingLR, T_max=TOTAL, eta_min=0.1 * BASE)),
    (OneCycle(), partial(lr_scheduler.OneCycleLR, max_lr=BASE, total_steps=TOTAL)),
    (
        OneCycle(0.45, 10.0, 100.0),
        partial(
            lr_scheduler.OneCycleLR,
            max_lr=BASE,
            total_steps=TOTAL,
            pct_start=0.45,
            div_factor=10,
            final_div_factor=100,
        ),
    ),
]


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE, momentum=0.9)


def torch_rates(peer, count=TOTAL) -> list[float]:
    descent = optimizer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a schedule stepped past its end
        scheduler = peer(descent)
        rates = []
        for _ in range(count):
            rates.append(descent.param_groups[0]["lr"])
            descent.step()
            scheduler.step() if len(rates) < count else None
    return rates


@pytest.mark.parametrize(("schedule", "peer"), PEERS, ids=lambda value: repr(value)[:40])
def test_rates_are_those_of_torch(schedule: Schedule, peer):
    assert schedule.learning_rates(BASE, EPOCHS, STEPS) == pytest.approx(torch_rates(peer), rel=1e-9)


def test_exponential_at_the_start_of_each_epoch_is_torchs_stepped_by_epoch():
    ours = Exponential(0.8).learning_rates(BASE, EPOCHS, STEPS)[::STEPS]
    assert ours == pytest.approx(torch_rates(partial(lr_scheduler.ExponentialLR, gamma=0.8), EPOCHS))


@pytest.mark.parametrize("kind", ALL)
def test_contract(kind):
    schedule = kind(warmup_epochs=0.5)
    rates = schedule.learning_rates(BASE, EPOCHS, STEPS)
    assert len(rates) == TOTAL
    assert all(isinstance(rate, float) and 0 < rate <= BASE * (1 + 1e-12) for rate in rates)
    state = schedule.start()
    assert state["multiplier"] == 1
    before = json.dumps(state, allow_nan=False)
    observed = schedule.observe(state, 1.0)
    assert json.dumps(state) == before
    assert json.loads(json.dumps(observed, allow_nan=False)) == observed


@pytest.mark.parametrize("kind", ALL)
def test_short_trainings_have_rates(kind):
    for epochs in (1, 2, 3, 10):
        assert len(kind().learning_rates(BASE, epochs, 1)) == epochs


@pytest.mark.parametrize("kind", ALL)
def test_warmup_climbs_evenly_and_hands_over_to_the_schedule(kind):
    rates = kind(warmup_epochs=2).learning_rates(BASE, EPOCHS, STEPS)
    plain = kind().learning_rates(BASE, EPOCHS - 2, STEPS)
    assert rates[2 * STEPS :] == plain
    climb = [plain[0] * (step + 1) / (2 * STEPS) for step in range(2 * STEPS)]
    assert rates[: 2 * STEPS] == pytest.approx(climb)


def test_coslog4_has_four_cycles_each_twice_as_long_as_the_one_before():
    rates = CosLog4().learning_rates(1.0, 1, 1499)  # fifteen units of 100 steps
    for number, (start, end) in enumerate([(0, 100), (100, 300), (300, 700), (700, 1500)]):
        peak = start + (end - start) * (math.sqrt(2) - 1)  # half a cycle later in the logarithm
        assert rates[round(peak) - 1] == pytest.approx(1.0, abs=1e-3), number
        assert end == 1500 or rates[end - 1] == pytest.approx(0.0, abs=1e-9)
    assert 0 < min(rates[:99]) < 0.01


def test_warmup_by_hand():
    assert Constant(warmup_epochs=1).learning_rates(1.0, 2, 4) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


def test_a_fraction_of_an_epoch_of_warmup_is_rounded_to_steps():
    assert Constant(warmup_epochs=0.4).learning_rates(1.0, 1, 4) == [0.5, 1, 1, 1]


@pytest.mark.parametrize("warmup_epochs", [2, 3.5])
def test_warmup_as_long_as_the_training_is_refused(warmup_epochs):
    with pytest.raises(UserError, match=rf"warmup_epochs is {warmup_epochs} and epochs is 2"):
        Cosine(warmup_epochs=warmup_epochs).learning_rates(BASE, 2, STEPS)


def test_warmup_that_rounds_up_to_the_whole_training_is_refused():
    with pytest.raises(UserError, match="warmup_epochs"):
        Constant(warmup_epochs=0.9).learning_rates(BASE, 1, 1)


@pytest.mark.parametrize("base", [-0.1, math.inf, math.nan])
def test_impossible_learning_rates_are_refused(base):
    with pytest.raises(UserError, match="learning rate"):
        Constant().learning_rates(base, 1, 1)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (Constant, {"warmup_epochs": -1}),
        (Step, {"every_epochs": 0}),
        (Step, {"gamma": 0.0}),
        (Exponential, {"gamma": 1.5}),
        (Linear, {"end": -0.1}),
        (Cosine, {"end": 2.0}),
        (OneCycle, {"peak_share": 1.0}),
        (OneCycle, {"start_divisor": 0.5}),
        (OneCycle, {"end_divisor": 0.0}),
        (Plateau, {"decay": 1.0}),
        (Plateau, {"patience": -1}),
        (Plateau, {"minimum": 2.0}),
        (Plateau, {"threshold": 1.0}),
    ],
)
def test_settings_out_of_range_are_refused(kind, setting):
    ((name, value),) = setting.items()
    with pytest.raises(UserError, match=f"{name} is {value}; allowed: "):
        kind(**setting)


LOSSES = [1.0, 0.9, 0.95, 0.91, 0.90, 0.9, 0.5, math.nan, 0.6, 0.7, 0.4999999, 0.3] + [0.4] * 20


@pytest.mark.parametrize(("patience", "minimum"), [(0, 0.0), (2, 0.0), (2, 0.1)])
def test_plateau_is_torchs(patience, minimum):
    descent = optimizer()
    peer = lr_scheduler.ReduceLROnPlateau(descent, factor=0.5, patience=patience, min_lr=minimum * BASE, eps=0.0)
    schedule = Plateau(0.5, patience, minimum, 1e-4)
    state = schedule.start()
    for loss in LOSSES:
        peer.step(loss)
        state = json.loads(json.dumps(schedule.observe(state, loss), allow_nan=False))  # as if resumed
        assert BASE * state["multiplier"] == pytest.approx(descent.param_groups[0]["lr"])


def test_plateau_that_never_sees_a_finite_loss_stays_json():
    schedule = Plateau(patience=1)
    state = schedule.start()
    for loss in (math.nan, math.inf, -math.inf):
        state = schedule.observe(state, loss)
    assert json.loads(json.dumps(state, allow_nan=False)) == {
        "multiplier": 0.5,
        "best": None,
        "bad_epochs": 1,
    }
