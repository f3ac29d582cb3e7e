"""Prediction of folders, lists, patterns and zip files, good ones and bad ones."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tagseg.data.class_lists import listed_classes, own_list
from tagseg.data.palette import write_mask
from tagseg.data.photo import read_mask
from tagseg.data.tagged import open_tagged
from tagseg.errors import UserError
from tagseg.interrupt import Interrupted
from tagseg.outputs import OUTPUTS, Writer, read_summaries
from tagseg.outputs.coco import read_coco
from tagseg.outputs.confidence import read_rows
from tagseg.prediction.settings import PredictSettings
from tagseg.segmenter import Segmenter
from tagseg.workflows.evaluate import evaluate
from tagseg.workflows.predict import Predicted, predict
from tests.colors import Colors

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def segmenter() -> Segmenter:
    return Segmenter(Colors(), PredictSettings(crf=None))


def write(path: Path, color: tuple[int, int, int] = GREEN, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def data(color: tuple[int, int, int] = GREEN) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), color).save(buffer, format="PNG")
    return buffer.getvalue()


def masks(out: Path) -> dict[str, int]:
    """The first pixel of every mask below a folder."""
    return {path.relative_to(out).as_posix(): int(read_mask(path)[0, 0]) for path in sorted(out.rglob("*.png"))}


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str, work: Callable[[], object]) -> None:
    """Do what is stopped when the result of a photo would be written."""
    add = Writer.add

    def stopped(self: Writer, photo: str, *rest: object, **words: object) -> None:
        if photo == name:
            raise Interrupted
        add(self, photo, *rest, **words)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "add", stopped)
        with pytest.raises(Interrupted):
            work()


@pytest.fixture
def outside(tmp_path: Path) -> list[Path]:
    """Everything beside the folder of results."""

    def files() -> list[Path]:
        return sorted(path for path in tmp_path.rglob("*") if tmp_path / "out" not in (path, *path.parents))

    return files


def test_a_folder_a_list_a_pattern_a_zip_file_and_single_photos(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write(folder / "a b, ü.png", GREEN)
    write(folder / "sub" / "b.jpg", BLUE, (60, 40))
    names = ("a b, ü.png", "", "sub/b.jpg", str(folder / "sub" / "b.jpg"))
    (folder / "notes.txt").write_text("\n".join(names), encoding="utf-8")
    packed = tmp_path / "photos.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(folder / "a b, ü.png", "a b, ü.png")
        archive.write(folder / "sub" / "b.jpg", "sub/b.jpg")
        archive.writestr("__MACOSX/._b.jpg", b"")
        archive.writestr("readme.md", "no photo")
    expected = {"a b, ü.png": 1, "sub/b.png": 2}
    for number, source in enumerate((folder, folder / "notes.txt", f"{folder}/**/*.*", packed)):
        out = tmp_path / f"out{number}"
        result = predict(segmenter(), source, out)
        assert masks(out) == expected
        assert result.done == 2
        assert len(result.problems) == (1 if number == 1 else 0)  # the list names one photo twice
    result = predict(segmenter(), [folder / "a b, ü.png", folder / "sub" / "b.jpg"], tmp_path / "single")
    assert masks(tmp_path / "single") == {"a b, ü.png": 1, "b.png": 2}


def test_frames_of_a_video_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 1, 2, 100, 20):
        write(tmp_path / "video" / f"frame{number}.png")
    predict(segmenter(), tmp_path / "video", tmp_path / "out", format="coco")
    names = [name for name, _ in read_coco(tmp_path / "out").masks]
    assert names == ["frame1", "frame2", "frame10", "frame20", "frame100"]


def test_photos_with_a_result_are_passed_over(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / "photos" / f"{name}.png")
    out = tmp_path / "out"
    predict(segmenter(), tmp_path / "photos", out)
    (out / "b.png").unlink()
    kept = (out / "a.png").stat().st_mtime_ns
    result = predict(segmenter(), tmp_path / "photos", out)
    assert (result.done, result.already) == (1, 2)
    assert (out / "a.png").stat().st_mtime_ns == kept
    assert predict(segmenter(), tmp_path / "photos", out, overwrite=True).done == 3


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.png")
    predict(segmenter(), tmp_path / "photos", tmp_path / "out")
    other = segmenter()
    other.method.backbone.scale.weight.data *= 2
    for model, words in ((other, {}), (segmenter(), {"crf": False}), (segmenter().set(flip=True), {})):
        with pytest.raises(UserError, match=r"another model, format or setting.*--overwrite"):
            predict(model, tmp_path / "photos", tmp_path / "out", **words)
    assert predict(other, tmp_path / "photos", tmp_path / "out", overwrite=True).done == 1
    assert predict(other, tmp_path / "photos", tmp_path / "out").already == 1


def test_an_overwriting_of_fewer_photos_leaves_no_results_of_others_behind(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "photos" / f"{name}.png")
    predict(segmenter(), tmp_path / "photos", tmp_path / "out")
    with pytest.raises(UserError, match=r"b\.png is a result of another .* give all of them, remove"):
        predict(segmenter(), tmp_path / "photos/a.png", tmp_path / "out", crf=False, overwrite=True)
    done = predict(segmenter(), tmp_path / "photos", tmp_path / "out", crf=False, overwrite=True)
    assert done.done == 2
    again = predict(segmenter(), tmp_path / "photos/a.png", tmp_path / "out", crf=False, overwrite=True)
    assert again.done == 1, "those of the same settings may stay"


def test_the_classes_of_the_masks_lie_beside_them(tmp_path: Path) -> None:
    write(tmp_path / "photos/a.png")
    predict(segmenter(), tmp_path / "photos", tmp_path / "out")
    assert (tmp_path / "out/classes.txt").read_text(encoding="utf-8") == "background\ngreen\nblue\n"
    predict(segmenter(), tmp_path / "photos", tmp_path / "out")
    (tmp_path / "truth").mkdir()
    write_mask(tmp_path / "truth/a.png", np.full((4, 6), 2, np.uint8))
    (tmp_path / "truth/classes.txt").write_text("background\nblue\ngreen\n", encoding="utf-8")
    assert evaluate(tmp_path / "out", tmp_path / "truth").scores.miou == 1


@pytest.mark.parametrize(
    "names", [("1 cat", "2 dog"), ("2 cat", "1 dog"), ("001.Albatross", "002.Auk"), ("void", "crack"), ("x", "ignore")]
)
def test_a_list_of_classes_that_was_written_is_read_as_it_is(tmp_path: Path, names: tuple[str, str]) -> None:
    write(tmp_path / "photos/a.png")
    method = Colors()
    method.classes = names
    model = Segmenter(method, PredictSettings(crf=None))
    predict(model, tmp_path / "photos", tmp_path / "out")
    assert listed_classes(tmp_path / "out") == names
    predict(model, tmp_path / "photos", tmp_path / "folders", format="folders")
    assert own_list(tmp_path / "folders/masks") == names
    (tmp_path / "tags.csv").write_text(f"file,tags\na.png,{names[1]}\n", encoding="utf-8")
    masks = open_tagged(
        tmp_path / "photos", tmp_path / "tags.csv", classes=names[::-1], masks=tmp_path / "out", separator=";"
    )
    assert masks.mask(0).tolist() == np.full((4, 6), 2).tolist(), "green, the first of them"  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["green\nblue\n", "vert\nbleu\n"])
def test_a_persons_own_list_beside_masks_stays(tmp_path: Path, text: str) -> None:
    write(tmp_path / "photos/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/classes.txt").write_text(text, encoding="utf-8")
    assert predict(segmenter(), tmp_path / "photos", tmp_path / "out").done == 1
    assert predict(segmenter(), tmp_path / "photos", tmp_path / "out", crf=False, overwrite=True).done == 1
    assert (tmp_path / "out/classes.txt").read_text(encoding="utf-8") == text


def test_another_photo_of_the_same_name_is_not_passed_over(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(tmp_path / "first" / "a.png", GREEN)
    write(tmp_path / "second" / "a.png", BLUE)
    predict(segmenter(), tmp_path / "first", out)
    with pytest.raises(UserError, match="holds a result of another photo 'a': choose another --out"):
        predict(segmenter(), tmp_path / "second", out)
    shutil.copytree(tmp_path / "first", tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(tmp_path / "copy" / "a.png", (1, 1))
    assert predict(segmenter(), tmp_path / "copy", out).already == 1, "a copy is the same photo"
    predict(segmenter(), tmp_path / "second", out, overwrite=True)
    assert masks(out) == {"a.png": 2}


def test_a_changed_photo_in_a_zip_file_is_not_passed_over(tmp_path: Path) -> None:
    packed = tmp_path / "photos.zip"
    for color, already in ((GREEN, 0), (GREEN, 1), (BLUE, None)):
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("a.png", data(color))
        if already is None:
            with pytest.raises(UserError, match="another photo 'a'"):
                predict(segmenter(), packed, tmp_path / "out")
        else:
            assert predict(segmenter(), packed, tmp_path / "out").already == already


@pytest.mark.parametrize("format", [name for name, kind in OUTPUTS.items() if kind.paths("a")])
def test_the_table_of_confidences_keeps_the_rows_of_photos_that_are_passed_over(format: str, tmp_path: Path) -> None:
    for folder, name in (("photos", "a"), ("photos", "b\rc"), ("others", "d")):
        write(tmp_path / folder / f"{name}.png")
    out = tmp_path / "out"
    for folder in ("photos", "others", "photos", "others"):
        predict(segmenter(), tmp_path / folder, out, format=format)
    assert set(read_rows(out / "confidence.csv")) == {"a", "b\rc", "d"}
    predict(segmenter(), tmp_path / "others", out, format=format, overwrite=True)
    assert set(read_rows(out / "confidence.csv")) == {"d"}, "the others are of an older call"


def test_an_interrupted_renewal_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    for name in "abc":
        write(folder / f"{name}.png")
    predict(segmenter(), folder, out)
    stop_at(monkeypatch, "c", lambda: predict(segmenter(), folder, out, overwrite=True))
    assert predict(segmenter(), folder, out, overwrite=True).already == 2
    assert set(read_rows(out / "confidence.csv")) == {"a", "b", "c"}


def test_two_commands_never_write_to_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.png")
    out = tmp_path / "out"
    predict(segmenter(), tmp_path / "photos", out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    with FileLock(out / ".tagseg-in-use"):
        with pytest.raises(UserError, match=r"Another command writes to .*out at this moment"):
            predict(segmenter(), tmp_path / "photos", out, overwrite=True)
        with pytest.raises(UserError, match=r"Another command writes to .*out at this moment"):
            predict(segmenter(), tmp_path / "photos", out, format="json")
    (out / ".tagseg-in-use").unlink(missing_ok=True)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    for color in (GREEN, BLUE):
        write(tmp_path / "photos" / "a.png", color)
        with suppress(UserError):
            predict(segmenter(), tmp_path / "photos", out)
        assert not (out / ".tagseg-in-use").exists(), "let go, refused or not"


def test_a_table_of_confidences_that_a_person_has_changed_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.png")
    predict(segmenter(), tmp_path / "photos", tmp_path / "out")
    table = tmp_path / "out" / "confidence.csv"
    table.write_text("file,confidence,note\na,0.9,looked at\n", encoding="utf-8")
    write(tmp_path / "photos" / "b.png")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"confidence\.csv has been changed since tagseg wrote it"):
            predict(segmenter(), tmp_path / "photos", tmp_path / "out", overwrite=overwrite)
    assert table.read_text(encoding="utf-8") == "file,confidence,note\na,0.9,looked at\n"


def test_an_interrupted_prediction_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        write(tmp_path / "photos" / f"{number}.png")

    class Stopped(Colors):
        def segment(self, image_B3HW):  # type: ignore[no-untyped-def]
            if len(self.seen) == 3:
                signal.raise_signal(signal.SIGTERM)
            return super().segment(image_B3HW)

    monkeypatch.setattr("torch.get_num_threads", lambda: 1)  # signals reach the main thread only
    with pytest.raises(Interrupted):
        predict(Segmenter(Stopped(), PredictSettings(crf=None)), tmp_path / "photos", tmp_path / "out")
    found = len(masks(tmp_path / "out"))
    assert 0 < found < 12
    result = predict(segmenter(), tmp_path / "photos", tmp_path / "out")
    assert (result.already, result.done) == (found, 12 - found)


def test_tags_are_used_for_the_photos_they_are_given_for(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.jpg", BLUE, (60, 40))
    write(tmp_path / "photos" / "b.png", BLUE)
    table = tmp_path / "tags.csv"
    table.write_text("file,tags\na.jpg,green\nelsewhere.jpg,red\n", encoding="utf-8")
    result = predict(segmenter(), tmp_path / "photos", tmp_path / "out", tags=table)
    assert result.tagged == 1
    assert masks(tmp_path / "out")["b.png"] == 2
    assert masks(tmp_path / "out")["a.png"] in (0, 1)
    table.write_text("file,tags\nb.png,red\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"tags.csv, row 2: b.png has the tag 'red', which is not among the classes"):
        predict(segmenter(), tmp_path / "photos", tmp_path / "none", tags=table)
    table.write_text("file,tags\nc.png,green\n", encoding="utf-8")
    with pytest.raises(UserError, match="names none of the photos"):
        predict(segmenter(), tmp_path / "photos", tmp_path / "none", tags=table)
    assert not (tmp_path / "none").exists()


def test_large_photos_are_said_to_be_done_in_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "large.png", BLUE, (300, 280))
    model = Segmenter(Colors())
    model.tile = 128
    result = predict(model, tmp_path / "large.png", tmp_path / "out", format="json")
    assert result.notes == ["large.png is large and was done in tiles of 128 pixels, the dense CRF within each tile."]
    assert read_summaries(tmp_path / "out")["large"]["classes"][0]["confidence"] > 0.5
    monkeypatch.setattr("tagseg.prediction.segmenter.KEPT_BYTES", 1)
    result = predict(model, tmp_path / "large.png", tmp_path / "lost", format="json", crf=False)
    assert "no confidence is given" in result.notes[0]
    assert read_summaries(tmp_path / "lost")["large"]["classes"][0]["confidence"] is None


def complain(result: Predicted, *words: str) -> None:
    """One sentence for each word, each in one line."""
    assert len(result.problems) == len(words), result.problems
    for word, problem in zip(words, result.problems, strict=True):
        assert word in problem
        assert "\n" not in problem


def test_files_that_are_no_photos_are_named_and_the_others_done(tmp_path: Path, outside) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "photos"
    write(folder / "good.png")
    (folder / "text.jpg").write_text("no photo", encoding="utf-8")
    (folder / "empty.png").write_bytes(b"")
    (folder / "half.png").write_bytes(data()[:-30])
    (folder / "code.png").write_bytes(b"\x80\x04cos\nsystem\n")
    before = outside()
    result = predict(segmenter(), folder, tmp_path / "out")
    complain(result, "code.png", "empty.png", "half.png", "text.jpg")
    assert masks(tmp_path / "out") == {"good.png": 1}
    assert outside() == before


def test_a_photo_beyond_the_cap_is_refused_with_the_flag_that_raises_it(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write(folder / "good.png")
    Image.new("1", (20_000, 15_000)).save(folder / "huge.png")  # a file of 37 kB
    result = predict(segmenter(), folder, tmp_path / "out")
    complain(result, "huge.png has 20000 x 15000 pixels, more than the cap of 100,000,000; ")
    assert "--pixel-cap 300000000" in result.problems[0]
    assert masks(tmp_path / "out") == {"good.png": 1}


def test_the_cap_can_be_raised_and_lowered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.png", size=(200, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)  # Pillow refuses twice as many
    assert predict(segmenter(), tmp_path / "a.png", tmp_path / "out", pixel_cap=20_000).done == 1
    complain(predict(segmenter(), tmp_path / "a.png", tmp_path / "low", pixel_cap=19_999), "--pixel-cap 20000")
    assert Image.MAX_IMAGE_PIXELS == 5_000


def test_names_that_leave_a_lists_folder_are_refused(tmp_path: Path, outside) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / "secret.png")
    write(tmp_path / "photos" / "good.png")
    names = tmp_path / "photos" / "names.txt"
    names.write_text("../secret.png\ngood.png\n..\\secret.png\nsub/../../secret.png\nmissing.png\n", encoding="utf-8")
    before = outside()
    result = predict(segmenter(), names, tmp_path / "out")
    complain(result, "line 1: '../secret.png' leads outside", "line 3", "line 4", "missing.png does not exist")
    assert masks(tmp_path / "out") == {"good.png": 1}
    assert outside() == before


def test_bad_members_of_a_zip_file_are_refused(tmp_path: Path, outside) -> None:  # type: ignore[no-untyped-def]
    packed = tmp_path / "photos.zip"
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("/abs.png", "../up.png", "a/../../up.png", "C:/drive.png", "\\\\host\\share\\b.png"):
            archive.writestr(name, data())
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb.png", bytes(1 << 25))
        archive.writestr("text.png", "no photo")
        archive.writestr("good.png", data(BLUE))
        archive.writestr("deep/good.png", data())
    before = outside()
    result = predict(segmenter(), packed, tmp_path / "out")
    complain(
        result, "'/abs.png' leads", "'../up.png' leads", "up.png' leads", "'C:/drive.png' leads", "share", "link.png",
        "bomb.png unpacks to", "text.png",
    )  # fmt: skip
    assert f"{packed}: text.png" in result.problems[-1]
    assert masks(tmp_path / "out") == {"deep/good.png": 1, "good.png": 2}
    assert outside() == before


def test_a_zip_file_that_lies_about_sizes_or_is_none(tmp_path: Path) -> None:
    packed = tmp_path / "photos.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.png", data())
        archive.writestr("b.png", data())
        archive.infolist()[0].file_size = 1 << 40  # only in the directory at the end
    result = predict(segmenter(), packed, tmp_path / "out")
    complain(result, "a.png unpacks to 1,099,511,627,776 bytes")
    assert masks(tmp_path / "out") == {"b.png": 1}
    (tmp_path / "no.zip").write_text("no zip")
    with pytest.raises(UserError, match=r"no\.zip cannot be read as a zip file"):
        predict(segmenter(), tmp_path / "no.zip", tmp_path / "none")


def test_photos_that_differ_in_their_suffix_only_are_not_mixed_up(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.jpg", GREEN, (60, 40))
    write(tmp_path / "photos" / "a.png", BLUE)
    result = predict(segmenter(), tmp_path / "photos", tmp_path / "out")
    complain(result, "a.jpg has the same name; rename one")
    assert masks(tmp_path / "out") == {"a.png": 1}


def test_no_photo_is_overwritten_by_its_mask(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    photo = write(folder / "a.png", BLUE)
    before = photo.read_bytes()
    pattern = f"{folder}/*.png"
    for source, out in (
        (folder, folder),
        (photo, folder),
        (pattern, folder),
        (folder, folder / "masks"),
        (folder, tmp_path),
    ):
        with pytest.raises(UserError, match=r"which this command reads|is read by this command"):
            predict(segmenter(), source, out)
    (tmp_path / "list.txt").write_text("photos/a.png\n", encoding="utf-8")
    complain(predict(segmenter(), tmp_path / "list.txt", folder), "lies in the folder of the results")
    assert predict(segmenter(), photo, folder / "masks").done == 1
    assert photo.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "words", "sentence"),
    [
        ("nowhere", {}, "There is no photo, folder, list or zip file 'nowhere'"),
        ("empty", {}, "empty holds no photo"),
        ("empty/*.png", {}, "holds no photo"),
        ("a.png", {"format": "gif"}, "no format 'gif': there are png"),
    ],
)
def test_mistakes_leave_nothing_behind(
    source: str, words: dict[str, str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.png")
    with pytest.raises(UserError, match=sentence.replace("*", r"\*")):
        predict(segmenter(), source, tmp_path / "out", **words)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_photo_of_300_megapixels_takes_less_than_4_gigabytes(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from PIL import Image
        Image.MAX_IMAGE_PIXELS = None
        from tagseg.prediction.settings import PredictSettings
        from tagseg.segmenter import Segmenter
        from tagseg.workflows.predict import predict
        from tests.colors import Colors
        folder = Path(sys.argv[1])
        result = predict(Segmenter(Colors(), PredictSettings(crf=None)), folder / "huge.jpg", folder / "out",
                         pixel_cap=300_000_000)
        assert result.done == 1, result
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    """
    picture = Image.new("RGB", (20_000, 15_000), BLUE)
    picture.paste(GREEN, (0, 0, 9_000, 15_000))
    picture.save(tmp_path / "huge.jpg", quality=80)
    del picture
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path], cwd=root, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[-1]) < 4e9
    Image.MAX_IMAGE_PIXELS, limit = None, Image.MAX_IMAGE_PIXELS
    try:
        with Image.open(tmp_path / "out" / "huge.png") as mask:
            row = np.asarray(mask.crop((0, 7_000, 20_000, 7_001)))[0]
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    assert (row[:8_990] == 1).all()
    assert (row[9_010:] == 2).all()


def test_what_is_written_names_the_photo_and_its_classes(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "sub" / "ü 1.jpg", BLUE, (60, 40))
    predict(segmenter(), tmp_path / "photos", tmp_path / "out", format="coco")
    written = json.loads((tmp_path / "out" / "annotations.json").read_text(encoding="utf-8"))
    assert written["images"][0]["file_name"] == "sub/ü 1.jpg"
    assert [category["name"] for category in written["categories"]][:2] == ["green", "blue"]


def test_label_studio_s_tasks_name_photos_below_the_folder_above_theirs(tmp_path: Path) -> None:
    photos = tmp_path / "my photos"
    (photos / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        Image.new("RGB", (6, 4), RED).save(photos / name)

    def addresses(*sources: Path, **options: str) -> list[str]:
        predict(segmenter(), list(sources), tmp_path / "out", format="label-studio", overwrite=True, **options)
        tasks = json.loads((tmp_path / "out" / "label-studio.json").read_text(encoding="utf-8"))
        return [task["data"]["image"] for task in tasks]

    local = "/data/local-files/?d="
    assert addresses(photos) == [f"{local}my%20photos/a.png", f"{local}my%20photos/sub/b.png"]
    assert addresses(photos / "sub" / "b.png") == [f"{local}sub/b.png"]
    assert addresses(photos, photo_url="https://host/p/") == ["https://host/p/a.png", "https://host/p/sub/b.png"]
    with pytest.raises(UserError, match="--photo-url"):
        predict(segmenter(), photos, tmp_path / "png", photo_url="https://host/")
