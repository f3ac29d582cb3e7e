from __future__ import annotations

import errno
import json
import os
import pkgutil
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagseg.data.layouts import COCO_CLASSES, VOC_CLASSES
from tagseg.data.palette import PALETTE
from tagseg.data.voc import open_voc
from tagseg.datasets import DATASETS
from tagseg.datasets.dataset import Options
from tagseg.errors import UserError
from tagseg.interrupt import Interrupted
from tagseg.recipe import load_recipe
from tagseg.workflows.prepare import check, prepare
from tests.datasets import tiny

Archives = Callable[..., Path]
ALL = ("voc12", "coco14", "coco-stuff10k", "caltech256")


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def quiet(name: str, root: Path, archives: Path, **options: object) -> None:
    prepare(name, root, archives=archives, say=lambda _: None, **options)  # type: ignore[arg-type]


def mask(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.getpalette() == PALETTE.ravel().tolist()
        return np.array(image)


def test_voc12_merges_the_masks_and_computes_train_aug(archives: Archives, tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    quiet("voc12", root, archives("voc12"), options=Options(test=True))

    listed = (root / "ImageSets/Segmentation/train_aug.txt").read_text()
    assert listed == "2007_000001\n2007_000002\n2008_000010\n2008_000011\n"
    aug = root / "SegmentationClassAug"
    assert sorted(p.stem for p in aug.iterdir()) == sorted((*tiny.TRAIN_AUG, *tiny.VOC_VAL))
    for name in (*tiny.VOC_TRAIN, *tiny.VOC_VAL):  # VOC's own mask wins, its ignored border stays
        with Image.open(aug / f"{name}.png") as image:
            assert np.array_equal(np.array(image), tiny.voc_mask(name))
    for name in ("2008_000010", "2008_000011"):
        assert np.array_equal(mask(aug / f"{name}.png"), tiny.sbd_truth(name))
    assert (root / "tags.csv").read_text().splitlines()[1] == "2007_000001.jpg,cat;person"
    assert (root / "classes.txt").read_text().split() == list(VOC_CLASSES)
    assert [p.name for p in (root / "JPEGImages_test").iterdir()] == ["2008_900001.jpg"]
    assert not list(root.glob(".prep*"))

    data = open_voc(root, "train_aug", tags="xml")
    assert [photo.name for photo in data.photos] == list(tiny.TRAIN_AUG)
    assert data.tags_from == "Annotations (XML)"
    assert data.photos[0].tags == (8, 15)
    assert len(open_voc(root, "test", tags=tiny_table(tmp_path))) == 1


def tiny_table(tmp_path: Path) -> Path:
    path = tmp_path / "none.csv"
    path.write_text("file,tags\n2008_900001.jpg,\n")
    return path


def test_coco14_paints_small_over_large_and_crowds_too(archives: Archives, tmp_path: Path) -> None:
    root = tmp_path / "coco"
    quiet("coco14", root, archives("coco14"))
    expected = np.zeros((tiny.HEIGHT, tiny.WIDTH), dtype=np.uint8)
    expected[1:10, 1:14] = 17  # dog, category 18
    columns = expected.T.copy().ravel()  # the crowd's runs go down the columns
    columns[:24] = 1  # a person smaller than the dog
    expected = columns.reshape(tiny.WIDTH, tiny.HEIGHT).T.copy()
    expected[3:7, 3:7] = 80  # toothbrush, category 90
    found = mask(root / "SegmentationClass/train2014/COCO_train2014_000000000009.png")
    assert np.array_equal(found, expected)
    packed = mask(root / "SegmentationClass/val2014/COCO_val2014_000000000025.png")
    assert np.array_equal(packed, 3 * np.eye(tiny.HEIGHT, tiny.WIDTH, dtype=np.uint8))
    lines = (root / "ImageSets/Segmentation/train.txt").read_text().split()
    assert lines == ["COCO_train2014_000000000009", "COCO_train2014_000000000025"]  # 30 has no annotation

    data = open_voc(root, "val")
    assert data.classes == COCO_CLASSES
    assert [photo.tags for photo in data.photos] == [(1, 17, 80), (3,)]
    assert data.photo(0).shape == (tiny.HEIGHT, tiny.WIDTH, 3)  # a gray JPEG
    assert np.array_equal(data.mask(1), packed)


@pytest.mark.parametrize(("unlabeled", "value"), [("background", 0), ("ignore", 255)])
def test_coco_stuff_keeps_vocs_classes(archives: Archives, tmp_path: Path, unlabeled: str, value: int) -> None:
    root = tmp_path / "stuff"
    quiet("coco-stuff10k", root, archives("coco-stuff10k"), options=Options(unlabeled=unlabeled))  # type: ignore[arg-type]
    expected = np.zeros((tiny.HEIGHT, tiny.WIDTH), dtype=np.uint8)
    expected[:, :4], expected[:, 4:8] = value, 1  # unlabeled; airplane, category 5; bench and stuff are background
    assert np.array_equal(mask(root / "SegmentationClass/COCO_train2014_000000000077.png"), expected)
    assert [photo.tags for photo in open_voc(root, "test").photos] == [(1,)]
    assert len(open_voc(root, "train")) == 2
    other = "ignore" if value == 0 else "background"
    with pytest.raises(UserError, match=f"prepared with --unlabeled {unlabeled}"):
        quiet("coco-stuff10k", root, tmp_path / "archives", options=Options(unlabeled=other))  # type: ignore[arg-type]


def test_the_first_release_of_coco_stuff_is_refused(archives: Archives, tmp_path: Path) -> None:
    folder = archives("coco-stuff10k", tiny.stuff_files(highest=172))
    with pytest.raises(UserError, match=r"release 1\.0"):
        quiet("coco-stuff10k", tmp_path / "stuff", folder)
    assert not (tmp_path / "stuff" / "SegmentationClass").exists()


def test_caltech256_takes_the_maps_folders_alone(archives: Archives, tmp_path: Path) -> None:
    root = tmp_path / "caltech"
    quiet("caltech256", root, archives("caltech256"))
    rows = (root / "tags.csv").read_text().splitlines()
    assert "photos/aeroplane/251_0001.jpg,aeroplane" in rows
    assert len(rows) == 1 + len(tiny.CLASS_MAP)
    assert "chosen by tagseg" in (root / "class-map.csv").read_text()
    assert not list(root.rglob("*RENAME2")) + list(root.rglob("*spider*"))


@pytest.mark.parametrize("name", ALL)
def test_a_second_time_nothing_is_done(archives: Archives, tmp_path: Path, name: str) -> None:
    root, folder = tmp_path / "root", archives(name)
    quiet(name, root, folder)
    before, times = tree(root), {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    shutil.rmtree(folder)
    folder.mkdir()
    quiet(name, root, folder)  # needs no archive
    assert tree(root) == before
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*") if p != root} == times
    assert not [finding.wrong for finding in check(name, root) if finding.wrong]
    assert json.loads((root / "prepared.json").read_text())["name"] == name


@pytest.mark.parametrize("name", ALL)
def test_stopped_anywhere_it_goes_on_to_the_same_end(
    archives: Archives, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = archives(name)
    quiet(name, tmp_path / "whole", folder)
    root = tmp_path / "root"
    real = Path.rename
    for _ in range(20):  # each time one more renaming into place succeeds
        renamed = 0

        def fail_the_second_time(path: Path, target: Path) -> Path:
            nonlocal renamed
            renamed += 1
            if renamed == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, target)

        monkeypatch.setattr(Path, "rename", fail_the_second_time)
        with suppress(UserError):
            quiet(name, root, folder)
            break
        assert not (root / "prepared.json").exists()
    monkeypatch.setattr(Path, "rename", real)
    quiet(name, root, folder)
    assert {k: v for k, v in tree(root).items() if k != "prepared.json"} == {
        k: v for k, v in tree(tmp_path / "whole").items() if k != "prepared.json"
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from tagseg.datasets import DATASETS
from tagseg.data import palette
import tagseg.datasets.voc12 as voc12
from tests.datasets import tiny
from tagseg.workflows.prepare import prepare
DATASETS["voc12"] = tiny.voc12(Path(sys.argv[1]))
if sys.argv[3] == "kill":
    real = voc12.write_mask
    def kill(path, mask):
        if list(path.parent.glob("2008_00001*.png")):
            os.kill(os.getpid(), signal.SIGKILL)
        real(path, mask)
    voc12.write_mask = kill
prepare("voc12", Path(sys.argv[2]), archives=Path(sys.argv[1]), say=lambda _: None)
"""


def test_killed_while_masks_are_converted(archives: Archives, tmp_path: Path) -> None:
    def run(root: Path, how: str) -> int:
        command = [sys.executable, "-c", KILLED, str(tmp_path / "archives"), str(root), how]
        return subprocess.run(
            command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False
        ).returncode

    archives("voc12")
    assert run(tmp_path / "root", "kill") == -signal.SIGKILL
    assert not (tmp_path / "root" / "SegmentationClassAug").exists()  # half of the masks have no place
    assert run(tmp_path / "root", "go on") == 0
    quiet("voc12", tmp_path / "whole", archives("voc12"))
    ended, whole = tree(tmp_path / "root"), tree(tmp_path / "whole")
    records = [json.loads(files.pop("prepared.json"))["archives"] for files in (ended, whole)]
    assert ended == whole
    assert set(records[0]) == set(records[1])


def break_archive(folder: Path, file: str, how: str) -> None:
    path = folder / file
    if how == "page":
        path.write_bytes(b"<!DOCTYPE html><html>Google Drive - Virus scan warning</html>")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-700])
    elif how == "other":
        content = bytearray(path.read_bytes())
        content[700] ^= 1
        path.write_bytes(content)
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("how", "said"),
    [("page", "is a page, not"), ("truncated", "is truncated"), ("other", "another file"), ("empty", "is empty")],
)
def test_a_wrong_archive_is_refused_by_name(archives: Archives, tmp_path: Path, how: str, said: str) -> None:
    folder, root = archives("voc12"), tmp_path / "root"
    whole = tree(folder)
    break_archive(folder, "VOCtrainval_11-May-2012.tar", how)
    with pytest.raises(UserError, match=said) as caught:
        quiet("voc12", root, folder)
    assert "VOCtrainval_11-May-2012.tar" in str(caught.value)
    assert {path.name for path in root.iterdir()} <= {".preparing"}
    for name, content in whole.items():
        (folder / name).write_bytes(content)
    quiet("voc12", root, folder)


@pytest.mark.parametrize("kind", ["images", "annotations", "imageLists"])
def test_a_damaged_member_of_a_zip_is_said(archives: Archives, tmp_path: Path, kind: str) -> None:
    folder, root = archives("coco-stuff10k"), tmp_path / "root"
    path = folder / "cocostuff-10k-v1.1.zip"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as zipped:
        member = next(info for info in zipped.infolist() if info.filename.startswith(kind))
    content = bytearray(whole)
    content[member.header_offset + 30 + len(member.filename)] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=rf"1\.1\.zip is truncated or no archive \(Bad CRC-32 for file '{member.filename}"
    ):
        quiet("coco-stuff10k", root, folder)
    path.write_bytes(whole)
    quiet("coco-stuff10k", root, folder)  # and nothing damaged was kept
    quiet("coco-stuff10k", tmp_path / "other", folder)
    assert (tree(root).keys(), tree(root / "JPEGImages")) == (
        tree(tmp_path / "other").keys(),
        tree(tmp_path / "other" / "JPEGImages"),
    )


@pytest.mark.parametrize(
    ("name", "module", "work"),
    [
        ("coco14", "coco14", "paint"),
        ("voc12", "voc12", "copyfile"),
        ("voc12", "voc12", "tags_of_xml"),
        ("coco-stuff10k", "coco_stuff10k", "read_mask"),
    ],
)
def test_a_long_loop_stops_on_request(
    archives: Archives, tmp_path: Path, name: str, module: str, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls = archives(name), 0
    where = f"tagseg.datasets.{module}.{work}"
    real = pkgutil.resolve_name(where.replace(f".{work}", f":{work}"))

    def stopped(*given: object) -> object:
        nonlocal calls
        calls += 1
        os.kill(os.getpid(), signal.SIGINT)
        return real(*given)

    monkeypatch.setattr(where, stopped)
    with pytest.raises(Interrupted):
        quiet(name, tmp_path / "root", folder)
    assert calls == 1
    monkeypatch.setattr(where, real)
    quiet(name, tmp_path / "root", folder)


@pytest.mark.parametrize(
    ("member", "link", "said"),
    [
        ("../evil.jpg", None, "leads outside"),
        ("/etc/evil.jpg", None, "leads outside"),
        (None, "VOCdevkit/VOC2012/JPEGImages/evil.jpg", "is a link"),
    ],
)
def test_members_that_lead_outside_are_refused(
    archives: Archives, tmp_path: Path, member: str | None, link: str | None, said: str
) -> None:
    folder, root = archives("voc12"), tmp_path / "root"
    files = tiny.voc_files() | ({member: b"x"} if member else {})
    path = tiny.write_tar(folder / "VOCtrainval_11-May-2012.tar", files, link=link)
    dataset = DATASETS["voc12"]
    DATASETS["voc12"] = replace(dataset, trainval=tiny.archive_of(path))  # type: ignore[call-arg]
    with pytest.raises(UserError, match=said):
        quiet("voc12", root, folder)
    assert not (tmp_path / "evil.jpg").exists()
    assert not (root / "JPEGImages").exists()


def test_a_link_in_a_zip_is_refused(archives: Archives, tmp_path: Path) -> None:
    folder = archives("coco-stuff10k")
    path = tiny.write_zip(folder / "cocostuff-10k-v1.1.zip", tiny.stuff_files(), link="images/evil.jpg")
    DATASETS["coco-stuff10k"] = replace(DATASETS["coco-stuff10k"], archive=tiny.archive_of(path, known=False))  # type: ignore[call-arg]
    with pytest.raises(UserError, match="is a link"):
        quiet("coco-stuff10k", tmp_path / "root", folder)
    assert not (tmp_path / "root" / "JPEGImages").exists()


def test_a_mask_of_a_value_that_no_class_has_is_refused(archives: Archives, tmp_path: Path) -> None:
    folder = archives("voc12")
    files = tiny.sbd_files()
    bad = tiny.sbd_truth("2008_000010")
    bad[0, 0] = 21
    files["benchmark_RELEASE/dataset/cls/2008_000010.mat"] = tiny.sbd_mat(bad)
    path = tiny.write_tar(folder / "benchmark.tgz", files, mode="w:gz")
    DATASETS["voc12"] = replace(DATASETS["voc12"], benchmark=tiny.archive_of(path))  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"2008_000010\.mat holds the value 21"):
        quiet("voc12", tmp_path / "root", folder)
    assert not (tmp_path / "root" / "SegmentationClassAug").exists()


def test_a_val_photo_in_train_aug_is_named(archives: Archives, tmp_path: Path) -> None:
    root, folder = tmp_path / "root", archives("voc12")
    quiet("voc12", root, folder)
    path = root / "ImageSets/Segmentation/train_aug.txt"
    path.write_text(path.read_text() + "2007_000003\n")
    with pytest.raises(UserError, match="train_aug"):
        quiet("voc12", root, folder)
    wrong = [finding.wrong for finding in check("voc12", root) if finding.wrong]
    assert any("2007_000003 is in train_aug.txt and in val.txt" in text for text in wrong)


def test_a_lost_file_is_found_by_check(archives: Archives, tmp_path: Path) -> None:
    root, folder = tmp_path / "root", archives("coco14")
    quiet("coco14", root, folder)
    (root / "SegmentationClass/val2014/COCO_val2014_000000000025.png").unlink()
    wrong = [finding.wrong for finding in check("coco14", root) if finding.wrong]
    assert wrong == [f"{root / 'SegmentationClass/val2014'} lacks 1 masks, the first COCO_val2014_000000000025.png"]


def test_folders_that_are_there_need_no_archive(archives: Archives, tmp_path: Path) -> None:
    """VOC's devkit with somebody's SegmentationClassAug: only the list, tags and classes are made."""
    root, folder = tmp_path / "root", archives("voc12")
    quiet("voc12", root, folder)
    whole = tree(root)
    for name in ("ImageSets/Segmentation/train_aug.txt", "tags.csv", "prepared.json"):
        (root / name).unlink()
    shutil.rmtree(folder)
    folder.mkdir()
    quiet("voc12", root, folder)
    assert {k: v for k, v in tree(root).items() if k != "prepared.json"} == {
        k: v for k, v in whole.items() if k != "prepared.json"
    }


def test_the_plan_says_disk_time_and_what_is_to_load(archives: Archives, tmp_path: Path) -> None:
    folder = archives("voc12")
    (folder / "benchmark.tgz").unlink()
    lines: list[str] = []
    prepare("voc12", tmp_path / "root", archives=folder, dry_run=True, say=lines.append)
    text = "\n".join(lines)
    assert f"Archive benchmark.tgz: 0.0 MB to download into {folder}" in text
    assert "Disk:" in text
    assert "minutes at 10 MB/s" in text
    assert not (tmp_path / "root").exists()


def test_a_disk_without_room_is_said_before_anything_is_loaded(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = archives("voc12")
    large = replace(DATASETS["voc12"].trainval, unpacked=10**15)  # type: ignore[attr-defined]
    DATASETS["voc12"] = replace(DATASETS["voc12"], trainval=large)  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"needs 1000000\.0 GB, but its disk has"):
        quiet("voc12", tmp_path / "root", folder)


def test_names_and_folders_that_do_not_fit(archives: Archives, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose one of voc12, coco14, coco-stuff10k, caltech256"):
        quiet("voc", tmp_path / "root", tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        quiet("voc12", tmp_path / "root", tmp_path / "nowhere")
    folder = archives("caltech256")
    quiet("caltech256", tmp_path / "root", folder)
    with pytest.raises(UserError, match="holds the data set caltech256"):
        quiet("voc12", tmp_path / "root", folder)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_the_command_that_comes_next_names_a_recipe(name: str) -> None:
    words = shlex.split(DATASETS[name].use.format(root="root"))
    if words[:2] == ["tagseg", "train"]:
        assert load_recipe(words[2], [word for word in words[3:] if "=" in word])
