import hashlib
import json
import os
import pickle
import signal
import sys
import time

import pytest
import torch
from torch import nn

from tagseg.engine.checkpoint import Checkpoints, pack, unpack
from tagseg.engine.optim import build_optimizer
from tagseg.engine.settings import TrainSettings
from tagseg.errors import UserError
from tagseg.weights import load_weights, read_weights, save_weights
from tests.engine.toy_training import ToyMethod


def some_tensors(step: int, size: int = 10) -> dict[str, torch.Tensor]:
    return {"model.weight": torch.full((size,), float(step)), "model.count": torch.tensor(step)}


def saved(folder, steps, **options) -> Checkpoints:
    folder.mkdir(exist_ok=True)
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        checkpoints.save(step, some_tensors(step), {"step": step})
    return checkpoints


def steps_of(checkpoints: Checkpoints) -> list[int]:
    return [checkpoint.step for checkpoint in checkpoints.all()]


def test_what_is_saved_is_read_back(tmp_path):
    checkpoint, tensors, facts = saved(tmp_path, [3]).newest(pytest.fail)
    assert (checkpoint.step, checkpoint.scores, facts) == (3, None, {"step": 3})
    assert tensors["model.count"].dtype == torch.int64
    torch.testing.assert_close(tensors, some_tensors(3), rtol=0, atol=0)
    torch.testing.assert_close(read_weights(checkpoint.path)["weight"], torch.full((10,), 3.0))


def test_nothing_saved_yet(tmp_path):
    assert Checkpoints(tmp_path).newest(pytest.fail) is None
    assert Checkpoints(tmp_path / "missing").newest(pytest.fail) is None


def test_keeps_the_newest_and_the_best(tmp_path):
    checkpoints = saved(tmp_path, [], keep=2, best="miou")
    for step, miou in [(1, 0.2), (2, 0.9), (3, 0.3), (4, float("nan")), (5, 0.9), (6, 0.1), (7, 0.0)]:
        checkpoints.save(step, some_tensors(step), {})
        checkpoints.set_scores(step, {"miou": miou, "other": -miou})
    assert steps_of(checkpoints) == [2, 6, 7]
    assert checkpoints.best().step == 2
    assert checkpoints.best().scores == {"miou": 0.9, "other": -0.9}
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".safetensors") == [
        f"step-000000{step}.safetensors" for step in (2, 6, 7)
    ]


def test_without_a_score_only_the_newest_stay(tmp_path):
    checkpoints = saved(tmp_path, range(1, 6), keep=3)
    assert steps_of(checkpoints) == [3, 4, 5]
    assert checkpoints.best() is None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_checkpoint_is_passed_over_aloud(tmp_path, damage):
    checkpoints = saved(tmp_path, [1, 2])
    path = checkpoints.all()[-1].path
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-4])
    elif damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    said = []
    checkpoint, tensors, _ = checkpoints.newest(said.append)
    assert checkpoint.step == 1
    assert tensors["model.count"] == 1
    assert len(said) == 1
    assert str(path) in said[0]
    checkpoints.clean(newest=1)
    assert steps_of(checkpoints) == [1]


def test_all_damaged_is_no_reason_to_start_over_silently(tmp_path):
    checkpoints = saved(tmp_path, [1, 2])
    for checkpoint in checkpoints.all():
        checkpoint.path.write_bytes(b"")
    with pytest.raises(UserError, match=r"None of the 2 checkpoints in .* can be read: start over"):
        checkpoints.newest(lambda _: None)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


def test_a_malicious_pickle_is_never_executed(tmp_path):
    marker = tmp_path / "executed"
    payload = pickle.dumps(Malicious(marker))
    checkpoints = saved(tmp_path / "checkpoints", [1])
    path = checkpoints.folder / "step-0000002.safetensors"
    path.write_bytes(payload)
    digest = hashlib.sha256(payload).hexdigest()
    manifest = json.dumps({"step": 2, "sha256": digest, "scores": None})
    path.with_suffix(".json").write_text(manifest, encoding="utf-8")
    said = []
    assert checkpoints.newest(said.append)[0].step == 1
    assert "cannot be read as safetensors" in said[0]
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(payload)
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read as safetensors"):
        load_weights(weights, nn.Linear(2, 2))
    assert not marker.exists()
    pickle.loads(payload)  # the payload is a real one
    assert marker.exists()


def test_what_a_kill_left_behind_is_cleaned_up(tmp_path):
    checkpoints = saved(tmp_path, [1, 2])
    (tmp_path / "step-0000003.safetensors").write_bytes(b"whole, but without a manifest")
    (tmp_path / ".tagseg-saving-x").mkdir()
    (tmp_path / ".tagseg-saving-x" / "step-0000004.safetensors").write_bytes(b"half")
    (tmp_path / "mine.txt").write_text("not a checkpoint", encoding="utf-8")
    assert checkpoints.newest(pytest.fail)[0].step == 2
    checkpoints.clean(newest=2)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"step-000000{step}.{suffix}" for step in (1, 2) for suffix in ("json", "safetensors")} | {
        "mine.txt"
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_of_saving_leaves_a_complete_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    reached = 0
    for attempt in range(25):
        child = os.fork()
        if child == 0:
            step = reached
            while True:  # until killed
                step += 1
                checkpoints.save(step, some_tensors(step, size=300_000), {"step": step})
                checkpoints.set_scores(step, {"miou": float(step)})
        while not (tmp_path / f"step-{reached + 1:07d}.json").exists():
            time.sleep(0.001)
        time.sleep(0.0013 * attempt)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = checkpoints.newest(pytest.fail)  # not one that counts may be damaged
        assert found is not None
        checkpoint, tensors, facts = found
        assert checkpoint.step > reached
        assert facts["step"] == checkpoint.step
        torch.testing.assert_close(tensors, some_tensors(checkpoint.step, size=300_000), rtol=0, atol=0)
        reached = checkpoint.step
    checkpoints.clean(newest=reached)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_a_disk_that_takes_no_more_leaves_the_previous_checkpoint(tmp_path):
    import resource

    checkpoints = saved(tmp_path, [1])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the system refuses to write more, as a full disk would
    try:
        with pytest.raises(UserError, match=r"step-0000002\.safetensors cannot be written: .*; .* is intact") as error:
            checkpoints.save(2, some_tensors(2, size=100_000), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert checkpoints.newest(pytest.fail)[0].step == 1
    assert {path.name for path in tmp_path.iterdir()} == {"step-0000001.json", "step-0000001.safetensors"}


def test_weights_go_to_a_file_and_back(tmp_path):
    method, other = ToyMethod(init=1).to(memory_format=torch.channels_last), ToyMethod(init=2)
    save_weights(tmp_path / "model.safetensors", method)
    load_weights(tmp_path / "model.safetensors", other)
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    (tmp_path / "plain").touch()  # others may read the weights where they may read any file
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, nn.ModuleDict({"head": nn.Conv2d(4, 7, 1), "old": nn.Linear(1, 1)}))
    module = nn.ModuleDict({"head": nn.Conv2d(4, 3, 1), "new": nn.Linear(1, 1)})
    with pytest.raises(UserError) as error:
        load_weights(path, module)
    sentence = str(error.value)
    for part in (
        str(path),
        "lacks new.weight, new.bias",
        "has unknown old.bias, old.weight",
        "head.weight (7, 4, 1, 1) for (3, 4, 1, 1)",
    ):
        assert part in sentence
    with pytest.raises(UserError, match="does not exist"):
        load_weights(tmp_path / "nothing.safetensors", module)


@pytest.mark.parametrize("optimizer_name", ["sgd", "adamw"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_optimizer_state_comes_back_exactly(optimizer_name, momentum):
    settings = TrainSettings(optimizer=optimizer_name, momentum=momentum, lr=0.1)

    def step(method, optimizer):
        optimizer.zero_grad()
        sum((p**2).sum() for name, p in method.named_parameters() if "late" not in name).backward()
        optimizer.step()

    method = ToyMethod().to(memory_format=torch.channels_last)
    optimizer = build_optimizer(method, settings)
    for _ in range(3):
        step(method, optimizer)
    tensors = pack(method, optimizer)
    other = ToyMethod(init=5).to(memory_format=torch.channels_last)
    other_optimizer = build_optimizer(other, settings)
    unpack(tensors, other, other_optimizer)
    for _ in range(3):
        step(method, optimizer)
        step(other, other_optimizer)
    torch.testing.assert_close(pack(other, other_optimizer), pack(method, optimizer), rtol=0, atol=0)


def test_manifests_that_cannot_be_read_cost_no_checkpoint(tmp_path):
    checkpoints = saved(tmp_path, [1, 2])
    (tmp_path / "step-0000002.json").write_bytes(b"")
    said = []
    assert checkpoints.newest(said.append)[0].step == 1
    assert "step-0000002.json cannot be read" in said[0]
    checkpoints.clean(newest=1)
    assert (tmp_path / "step-0000002.safetensors").is_file(), "its weights may be whole"
    (tmp_path / "step-0000001.json").write_bytes(b"")
    with pytest.raises(UserError, match="None of the 2 checkpoints"):
        checkpoints.newest(said.append)
