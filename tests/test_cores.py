"""How many cores and threads are used follows from affinity, quota and wish; threads inside a photo only where they gain."""

import os
import subprocess
import sys

import pytest

from tagseg.cores import cores, crf_threads, quota
from tagseg.errors import UserError


@pytest.fixture(autouse=True)
def no_wish(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TAGSEG_THREADS", raising=False)


def allowed():
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_affinity_counts():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from tagseg.cores import cores; print(cores())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert run.stdout.split() == ["1"]


def test_a_wish_counts_up_to_the_cores(monkeypatch):
    monkeypatch.setattr("tagseg.cores.quota", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1,2")
    assert cores() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "999")
    assert cores() == allowed()
    monkeypatch.setenv("TAGSEG_THREADS", "1")
    assert cores() == 1


@pytest.mark.parametrize("wish", ["0", "-3", "many", "1.5"])
def test_a_wish_that_is_no_number_of_threads_is_refused(monkeypatch, wish):
    monkeypatch.setenv("TAGSEG_THREADS", wish)
    with pytest.raises(UserError, match="TAGSEG_THREADS"):
        cores()


def test_a_quota_counts(monkeypatch):
    for limit, expected in ((0.3, 1), (1.0, 1), (1.2, min(2, allowed())), (None, allowed()), (500.0, allowed())):
        monkeypatch.setattr("tagseg.cores.quota", lambda limit=limit: limit)
        assert cores() == expected


def test_the_quota_of_a_group_and_those_above_it(tmp_path):
    groups, root = tmp_path / "cgroup", tmp_path / "fs"
    inner = root / "jobs" / "mine"
    inner.mkdir(parents=True)
    groups.write_text("0::/jobs/mine\n")
    assert quota(groups, root) is None
    (inner / "cpu.max").write_text("max 100000\n")
    assert quota(groups, root) is None
    (root / "jobs" / "cpu.max").write_text("150000 100000\n")
    assert quota(groups, root) == 1.5
    (inner / "cpu.max").write_text("50000 100000\n")
    assert quota(groups, root) == 0.5


def test_the_quota_of_version_1(tmp_path):
    groups, folder = tmp_path / "cgroup", tmp_path / "fs" / "cpu,cpuacct" / "pod"
    folder.mkdir(parents=True)
    groups.write_text("5:memory:/pod\n4:cpu,cpuacct:/pod\n")
    (folder / "cpu.cfs_quota_us").write_text("200000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert quota(groups, tmp_path / "fs") == 2.0
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert quota(groups, tmp_path / "fs") is None


def test_no_groups_no_quota(tmp_path):
    assert quota(tmp_path / "nothing", tmp_path) is None


SHARES = (0.02, 0.06, 0.16, 0.6)  # vertices a pixel: a flat photo, a common one, a busy one, noise


@pytest.mark.parametrize("megapixels", [0.1, 0.2, 0.5, 1, 3, 12])
@pytest.mark.parametrize("labels", [2, 5, 21, 81])
@pytest.mark.parametrize("share", SHARES)
def test_threads_inside_a_photo_never_more_than_given_and_never_fewer_with_more_cores(megapixels, labels, share):
    pixels = int(megapixels * 1e6)
    chosen = [crf_threads(pixels, int(share * pixels), labels, cores) for cores in range(1, 65)]
    assert chosen[0] == 1
    assert all(1 <= count <= cores for cores, count in enumerate(chosen, start=1))
    assert chosen == sorted(chosen)


def test_small_photos_and_noise_have_one_thread_large_ones_many():
    assert crf_threads(100_000, 6_000, 2, 64) == 1
    assert crf_threads(180_000, 110_000, 21, 16) == 1  # noise: as many vertices to exchange as pixels to work at
    assert crf_threads(180_000, 10_000, 21, 2) == 2
    assert 4 <= crf_threads(180_000, 10_000, 21, 16) <= 16
    assert crf_threads(12_000_000, 200_000, 21, 64) >= 16
