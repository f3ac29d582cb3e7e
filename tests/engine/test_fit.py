import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tagseg import interrupt
from tagseg.engine.fit import fit
from tagseg.engine.settings import TrainSettings
from tagseg.engine.step import TrainingDiverged
from tagseg.errors import UserError
from tagseg.weights import load_weights
from tests.engine.toy_training import ToyBatches, ToyMethod


def settings_of(**changes) -> TrainSettings:
    base = {"steps": 12, "batch_size": 4, "lr": 0.05, "checkpoint_every": 5, "log_every": 2, "workers": 0}
    return TrainSettings(**{**base, **changes})


def lines(out: Path) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def checkpointed(out: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in (out / "checkpoints").glob("step-*.json"))


def assert_same_run(one: Path, other: Path) -> None:
    """Equal to the bit: weights, optimizer state and everything logged."""
    assert lines(one) == lines(other)
    last = max(checkpointed(one))
    for name in ("model.safetensors", f"checkpoints/step-{last:07d}.safetensors"):
        torch.testing.assert_close(load_file(one / name), load_file(other / name), rtol=0, atol=0)


class Signalling(ToyBatches):
    """Batches that send a signal while the batch of a step is loaded."""

    def __init__(self, at: int, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self.at, self.number = at, number

    def batch(self, step):
        if step == self.at:
            signal.raise_signal(self.number)
        return super().batch(step)


def test_a_run_leaves_weights_lines_events_and_checkpoints(tmp_path):
    method, out = ToyMethod(), tmp_path / "new" / "run"
    result = fit(
        method,
        ToyBatches(),
        settings_of(keep_checkpoints=1, evaluate_every=4),
        out,
        evaluate=lambda method, step: {"miou": [0.3, 0.7, np.float32(0.5)][step // 4 - 1], "odd": float("nan")},
        pictures=lambda method, step: {"photo": np.full((4, 6, 3), step, np.uint8)},
        best="miou",
    )
    assert (result.step, result.interrupted, result.best.step) == (12, False, 8)
    assert result.scores["miou"] == 0.5
    assert checkpointed(out) == [8, 12]

    rows = lines(out)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    assert [row["scores"] for row in rows if "scores" in row] == [{"miou": m, "odd": None} for m in (0.3, 0.7, 0.5)]
    assert {"loss", "head", "late", "lr", "wave"} < set(rows[0])
    assert rows[0]["loss"] == rows[0]["head"] + rows[0]["late"]
    assert [row["lr"] for row in rows] == pytest.approx([0.05 * (1 - t / 12) ** 0.9 for t in (1, 3, 5, 7, 9, 11)])

    loaded = ToyMethod(init=3)
    load_weights(out / "model.safetensors", loaded)
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    load_weights(result.best.path, loaded)
    assert not torch.equal(method.head.weight, loaded.head.weight)

    events = EventAccumulator(str(out / "events"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [2, 4, 6, 8, 10, 12]
    assert [event.value for event in events.Scalars("scores/miou")] == pytest.approx([0.3, 0.7, 0.5])
    assert [event.step for event in events.Images("photo")] == [4, 8, 12]


def test_training_lowers_the_loss(tmp_path):
    class Same(ToyBatches):
        def batch(self, step):
            return super().batch(0)

    fit(ToyMethod(), Same(), settings_of(steps=60, lr=0.1), tmp_path)
    losses = [row["head"] for row in lines(tmp_path)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.7},
        {"momentum": 0.0},
        {"optimizer": "adamw"},
        {"precision": "bf16", "warmup_steps": 5, "ema_decay": 0.99},
    ],
)
def test_stopped_twice_and_resumed_equals_uninterrupted_to_the_bit(tmp_path, changes):
    settings = settings_of(**changes)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    fit(ToyMethod(dropout=0.5), ToyBatches(), settings, tmp_path / "whole")
    for at, number in ((4, signal.SIGINT), (6, signal.SIGTERM)):
        # other start weights: nothing but the checkpoint may count
        result = fit(ToyMethod(dropout=0.5, init=at - 4), Signalling(at, number), settings, tmp_path / "parts")
        assert (result.step, result.interrupted) == (at + 1, True)
        assert max(checkpointed(tmp_path / "parts")) == at + 1
        assert not (tmp_path / "parts" / "model.safetensors").exists()
    result = fit(ToyMethod(dropout=0.5, init=9), ToyBatches(), settings, tmp_path / "parts")
    assert (result.step, result.interrupted) == (12, False)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_the_mean_of_the_weights_is_what_is_scored_and_saved(tmp_path):
    class Watched(ToyMethod):
        def losses(self, batch, step):
            seen.append({name: tensor.clone() for name, tensor in self.state_dict().items()})
            return super().losses(batch, step)

    def evaluate(method, step):
        scored[step] = {name: tensor.clone() for name, tensor in method.state_dict().items()}
        return {"miou": float(step)}

    seen, scored, method = [], {}, Watched()
    fit(method, ToyBatches(), settings_of(ema_decay=0.75, evaluate_every=6), tmp_path, evaluate=evaluate, best="miou")
    mean = seen[1]  # after the first step
    for weights in seen[2:7]:
        mean = {name: 0.75 * mean[name] + 0.25 * tensor for name, tensor in weights.items()}
    torch.testing.assert_close(scored[6], mean)
    assert not torch.equal(mean["head.weight"], seen[6]["head.weight"])
    for result in (method.state_dict(), load_file(tmp_path / "model.safetensors")):
        torch.testing.assert_close(result, scored[12], rtol=0, atol=0)
    again = ToyMethod(init=3)
    load_weights(tmp_path / "checkpoints" / "step-0000012.safetensors", again)
    torch.testing.assert_close(dict(again.state_dict()), scored[12], rtol=0, atol=0)


def test_dropout_differs_from_step_to_step(tmp_path):
    class Seen(ToyMethod):
        def losses(self, batch, step):
            draws.append(torch.rand(1).item())
            return super().losses(batch, step)

    draws: list[float] = []
    fit(Seen(), ToyBatches(), settings_of(steps=5), tmp_path / "a")
    fit(Seen(), ToyBatches(), settings_of(steps=5, seed=1), tmp_path / "b")
    assert len(set(draws)) == 10


def test_says_how_to_go_on(tmp_path, capsys):
    fit(ToyMethod(), Signalling(3), settings_of(), tmp_path)
    said = capsys.readouterr().err
    assert "Stopped; all up to step 4 of 12" in said
    assert "run the same command again to go on" in said
    fit(ToyMethod(), ToyBatches(), settings_of(), tmp_path)
    assert "Going on after step 4 of 12" in capsys.readouterr().err


@pytest.mark.parametrize("at", [4, 12])
def test_stopped_inside_an_evaluation_it_is_done_again(tmp_path, at):
    stop_at = at

    def evaluate(method, step):
        assert not method.training
        if step == stop_at:
            signal.raise_signal(signal.SIGTERM)
        interrupt.check()
        return {"miou": method.head.weight.sum().item()}

    settings = settings_of(evaluate_every=4)
    result = fit(ToyMethod(), ToyBatches(), settings, tmp_path / "parts", evaluate=evaluate, best="miou")
    assert (result.step, result.interrupted) == (at, True)
    assert at in checkpointed(tmp_path / "parts")
    assert lines(tmp_path / "parts")[-1]["step"] == at - 2
    stop_at = -1
    result = fit(ToyMethod(), ToyBatches(), settings, tmp_path / "parts", evaluate=evaluate, best="miou")
    whole = fit(ToyMethod(), ToyBatches(), settings, tmp_path / "whole", evaluate=evaluate, best="miou")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert (result.best.step, result.best.scores) == (whole.best.step, whole.best.scores)
    assert result.scores == whole.scores


def test_killed_between_checkpoints_no_line_stands_twice(tmp_path):
    class Killed(ToyBatches):
        def batch(self, step):
            if step == 9:
                raise MemoryError  # ends fit without any saving, as a kill would
            return super().batch(step)

    fit(ToyMethod(), ToyBatches(), settings_of(), tmp_path / "whole")
    with pytest.raises(MemoryError):
        fit(ToyMethod(), Killed(), settings_of(), tmp_path / "parts")
    metrics = tmp_path / "parts" / "metrics.jsonl"
    assert [row["step"] for row in lines(tmp_path / "parts")] == [2, 4, 6, 8]
    with metrics.open("a", encoding="utf-8") as file:
        file.write('{"step": 10, "lo')
    fit(ToyMethod(), ToyBatches(), settings_of(), tmp_path / "parts")  # from step 5
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path, capsys):
    for name in ("whole", "parts"):
        fit(ToyMethod(), ToyBatches(), settings_of(), tmp_path / name)
    newest = tmp_path / "parts" / "checkpoints" / "step-0000012.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    (tmp_path / "parts" / "model.safetensors").unlink()
    capsys.readouterr()
    assert fit(ToyMethod(), ToyBatches(), settings_of(), tmp_path / "parts").step == 12
    said = capsys.readouterr().err.replace("\n", "")
    assert "step-0000012.safetensors is damaged" in said
    assert "Going on after step 10" in said
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_only_writes_its_weights_again(tmp_path):
    fit(ToyMethod(), ToyBatches(), settings_of(), tmp_path)
    before = lines(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert fit(ToyMethod(init=4), ToyBatches(), settings_of(), tmp_path).step == 12
    assert lines(tmp_path) == before
    torch.testing.assert_close(load_file(tmp_path / "model.safetensors"), weights, rtol=0, atol=0)


def test_other_settings_do_not_go_on_with_a_run(tmp_path):
    fit(ToyMethod(), Signalling(3), settings_of(), tmp_path)
    with pytest.raises(UserError) as error:
        fit(ToyMethod(), ToyBatches(), settings_of(steps=20, seed=3), tmp_path)
    assert "steps 12, seed 0 and cannot go on with steps 20, seed 3" in str(error.value)
    assert "another --out" in str(error.value)
    assert checkpointed(tmp_path) == [4]
    # how it is carried out may change
    changed = settings_of(keep_checkpoints=5, log_every=1, checkpoint_every=1, workers=0, micro_batch=2)
    assert fit(ToyMethod(), ToyBatches(), changed, tmp_path).step == 12


@pytest.mark.parametrize(("optimizer", "size"), [("sgd", 1), ("sgd", 3), ("adamw", 2)])
def test_accumulated_parts_equal_the_whole_batch(tmp_path, optimizer, size):
    for name, micro_batch in (("whole", None), ("parts", size)):
        settings = settings_of(micro_batch=micro_batch, optimizer=optimizer, lr=0.01)
        fit(ToyMethod(), ToyBatches(), settings, tmp_path / name)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    for one, other in zip(lines(tmp_path / "whole"), lines(tmp_path / "parts"), strict=True):
        assert other == pytest.approx(one, rel=1e-5)


def test_bf16_computes_in_bf16_and_keeps_float32_weights(tmp_path):
    seen = []

    class Looking(ToyMethod):
        def losses(self, batch, step):
            seen.append(self.backbone(batch.image()).dtype)
            return super().losses(batch, step)

    method = Looking()
    fit(method, ToyBatches(), settings_of(steps=1, precision="bf16"), tmp_path)
    assert seen == [torch.bfloat16]
    assert {parameter.dtype for parameter in method.parameters()} == {torch.float32}


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_nan_stops_with_step_term_and_photos_and_saves_nothing_of_it(tmp_path, micro_batch):
    settings = settings_of(micro_batch=micro_batch)
    method = ToyMethod(nan_at=7)
    with pytest.raises(TrainingDiverged) as error:
        fit(method, ToyBatches(bad=2), settings, tmp_path)
    sentence = str(error.value)
    assert "step 8" in sentence
    assert "head is nan" in sentence
    assert "late" not in sentence
    assert "bad" in sentence
    assert ("photo7-0" in sentence) == (micro_batch is None)
    assert checkpointed(tmp_path) == [5]
    assert all(parameter.isfinite().all() for parameter in method.parameters())
    assert max(row["step"] for row in lines(tmp_path)) == 6


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    class Exploding(ToyMethod):
        def losses(self, batch, step):
            terms = super().losses(batch, step)
            if step == 9:  # a finite loss whose gradient is not
                distance = ((self.head.bias - self.head.bias.detach()) ** 2).sum()
                terms["head"] = terms["head"] + distance.sqrt()
            return terms

    with pytest.raises(TrainingDiverged, match=r"after step 10 the weights head\.bias are not finite"):
        fit(Exploding(), ToyBatches(), settings_of(), tmp_path)
    assert checkpointed(tmp_path) == [5]


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "run"):
        with pytest.raises(UserError, match=r"cannot be used as the run folder \(.*\): give --out"):
            fit(ToyMethod(), ToyBatches(), settings_of(), out)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even the superuser cannot write to")
def test_a_read_only_folder_is_refused():
    with pytest.raises(UserError, match=r"/proc/self cannot be used as the run folder"):
        fit(ToyMethod(), ToyBatches(), settings_of(), Path("/proc/self"))


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Filling(ToyBatches):
        def batch(self, step):
            if step == 7:
                resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
            return super().batch(step)

    def large() -> ToyMethod:
        method = ToyMethod()
        method.register_buffer("ballast", torch.zeros(50_000))
        return method

    try:
        with pytest.raises(UserError, match=r"step-0000010\.safetensors cannot be written"):
            fit(large(), Filling(), settings_of(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpointed(tmp_path) == [5]
    assert fit(large(), ToyBatches(), settings_of(), tmp_path).step == 12


def test_a_score_that_does_not_exist_cannot_choose(tmp_path):
    with pytest.raises(UserError, match=r"no score 'miou' .* only accuracy"):
        fit(ToyMethod(), ToyBatches(), settings_of(), tmp_path, evaluate=lambda *_: {"accuracy": 1.0}, best="miou")


def test_an_error_in_an_evaluation_is_not_swallowed(tmp_path):
    def evaluate(method, step):
        raise ZeroDivisionError

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError):
        fit(ToyMethod(), ToyBatches(), settings_of(), tmp_path, evaluate=evaluate)
    assert signal.getsignal(signal.SIGTERM) == before
    assert 12 in checkpointed(tmp_path)
