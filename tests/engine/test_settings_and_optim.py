import pytest
import torch
from pydantic import ValidationError
from torch.optim.lr_scheduler import PolynomialLR

from tagseg.engine.optim import build_average, build_optimizer, build_schedule, lr_factor
from tagseg.engine.processes import default_workers, loading_workers
from tagseg.engine.settings import TrainSettings
from tests.engine.toy_training import ToyMethod


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 5},
        {"steps": 0},
        {"batch_size": 0},
        {"micro_batch": 0},
        {"scale": (1.3, 0.7)},
        {"scale": (0.0, 1.0)},
        {"color_jitter": (0.1, 0.1, 0.1, 0.9)},
        {"color_jitter": (-0.1, 0.1, 0.1, 0.1)},
        {"optimizer": "adam"},
        {"lr": 0.0},
        {"betas": (0.9, 1.0)},
        {"steps": 10, "warmup_steps": 10},
        {"precision": "fp16"},
        {"keep_checkpoints": 0},
        {"ema_decay": 1.0},
    ],
)
def test_bad_settings_are_refused_by_name(wrong):
    with pytest.raises(ValidationError) as error:
        TrainSettings(**wrong)
    assert any(name in str(error.value) for name in wrong)


def test_groups_have_their_own_rate_and_decay():
    method = ToyMethod()
    optimizer = build_optimizer(method, TrainSettings(lr=0.1, weight_decay=0.01, momentum=0.5))
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert {name: (group["lr"], group["weight_decay"], group["momentum"]) for name, group in groups.items()} == {
        "backbone": (0.1, 0.01, 0.5),
        "heads": (1.0, 0.01, 0.5),
        "biases": (2.0, 0.0, 0.5),
    }
    adamw = build_optimizer(method, TrainSettings(optimizer="adamw", betas=(0.8, 0.99)))
    assert isinstance(adamw, torch.optim.AdamW)
    assert {group["betas"] for group in adamw.param_groups} == {(0.8, 0.99)}


def test_a_parameter_without_a_group_is_noticed():
    method = ToyMethod()
    method.forgotten = torch.nn.Linear(2, 2)
    with pytest.raises(AssertionError, match=r"forgotten\.weight"):
        build_optimizer(method, TrainSettings())


def test_decay_is_torchs_polynomial_and_goes_on_from_any_step():
    settings = TrainSettings(steps=12, lr=0.3, poly_power=0.9)
    ours = build_optimizer(ToyMethod(), settings)
    theirs = build_optimizer(ToyMethod(), settings)
    schedule, polynomial = build_schedule(ours, settings), PolynomialLR(theirs, total_iters=12, power=0.9)
    for step in range(12):
        rates = [group["lr"] for group in ours.param_groups]
        expected = 0.3 * (1 - step / 12) ** 0.9
        assert rates == pytest.approx([expected, 10 * expected, 20 * expected], rel=1e-12)
        assert rates == pytest.approx([group["lr"] for group in theirs.param_groups], rel=1e-9)
        resumed = build_optimizer(ToyMethod(), settings)
        build_schedule(resumed, settings, start=step)
        assert [group["lr"] for group in resumed.param_groups] == rates
        for optimizer, stepped in ((ours, schedule), (theirs, polynomial)):
            optimizer.step()
            stepped.step()


def test_warm_up_is_linear_and_the_decay_counts_from_step_0():
    # TSCD: 1500 of 20000 steps from ratio 1e-6 to 1, then power 1
    settings = TrainSettings(steps=20000, warmup_steps=1500, warmup_ratio=1e-6, poly_power=1.0)
    assert lr_factor(0, settings) == 1e-6
    assert lr_factor(750, settings) == pytest.approx(0.5, abs=1e-6)
    assert lr_factor(1500, settings) == 1 - 1500 / 20000
    assert lr_factor(19999, settings) == pytest.approx(1 / 20000)


def test_the_mean_of_the_weights_forgets_its_start_soon_where_it_has_a_ramp():
    method = ToyMethod()
    mean = build_average(method, TrainSettings(ema_decay=0.9, ema_ramp=4))
    assert mean is not None
    first = next(mean.module.parameters())
    expected = 0.0
    for step in range(60):
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.fill_(float(step))
        mean.update_parameters(method)
        decay = min(0.9, (1 + step) / (4 + step)) if step else 0.0  # the first step's weights are the first mean
        expected = decay * expected + (1 - decay) * step
        assert torch.allclose(first, torch.tensor(expected)), step


def test_processes_that_load_photos_are_at_most_two_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagseg.engine.processes.allowed_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it
    for asked, given in ((0, 0), (4, 4), (60, 6), (256, 6)):
        assert loading_workers(TrainSettings(workers=asked), torch.device("cpu")) == given
    assert loading_workers(TrainSettings(), torch.device("cuda")) == default_workers(torch.device("cuda")) == 2
