"""What every format must do, and what each one's own readers and oracles say."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tagseg.errors import UserError
from tagseg.mask_values import IGNORE
from tagseg.outputs import OUTPUTS, READERS, read_summaries
from tagseg.outputs.brush import decode_brush, encode_brush
from tagseg.outputs.label_studio import LabelStudioBrush, read_label_studio

NAMES = ("plain", "with space, and comma", "sub folder/猫 ñandú", "dots.in.name", "100% #1 & <b>")
ONE_FILE = {"coco": "annotations.json", "label-studio": "label-studio.json", "cvat": "cvat.zip"}
PER_PHOTO = sorted(set(OUTPUTS) - set(ONE_FILE))


def class_names(k):
    special = ["chat, noir", "猫", 'say "hi" & <b>', "it's"]
    return ("background", *(special + [f"class {i}" for i in range(5, k)])[: k - 1])


def photos(k, ignore=True):
    """Masks of k classes with lines, holes, diagonals and single pixels; sizes differ."""
    rng = np.random.default_rng(k)
    result = {}
    for number, name in enumerate(NAMES):
        height, width = (int(side) for side in rng.integers(1, 40, 2))
        mask = np.kron(rng.integers(0, k, (5, 5)), np.ones((8, 8)))[:height, :width].astype(np.uint8)
        mask[rng.random(mask.shape) < 0.05] = k - 1
        if ignore and number % 2:
            mask[rng.random(mask.shape) < 0.1] = IGNORE
        result[name] = mask
    result["nothing"] = np.zeros((4, 6), np.uint8)
    return result


def picture(mask):
    return np.random.default_rng(1).integers(0, 256, (*mask.shape, 3)).astype(np.uint8)


def probabilities(mask, k):
    """0.8 for the mask's class (0 for ignored pixels), the rest shared."""
    values = np.full((k, *mask.shape), 0.2 / max(k - 1, 1), np.float32)
    np.put_along_axis(values, np.where(mask == IGNORE, 0, mask)[None].astype(np.int64), 0.8, axis=0)
    return values


def write(format, out, masks, classes):
    with OUTPUTS[format](out, classes) as writer:
        for name, mask in masks.items():
            writer.add(name, picture(mask), mask, probabilities(mask, len(classes)))


def same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, mask in expected.items():
        assert found[name].dtype == np.uint8
        assert np.array_equal(found[name], mask), name


@pytest.mark.parametrize("k", [1, 2, 5, 255])
@pytest.mark.parametrize("format", READERS)
def test_what_is_read_is_what_was_written(tmp_path, format, k):
    classes = class_names(k)
    # YOLO cannot hold ignored pixels.
    masks = photos(k, ignore=format != "yolo")
    write(format, tmp_path / "out", masks, classes)
    stored = READERS[format](tmp_path / "out")
    same(dict(stored.masks), masks)
    assert stored.classes in ((), classes)
    assert (stored.classes == ()) == (format == "png")


@pytest.mark.parametrize("format", OUTPUTS)
def test_the_same_masks_give_the_same_bytes(tmp_path, format):
    for out in ("a", "b"):
        write(format, tmp_path / out, photos(3), class_names(3))
    files = {
        path.relative_to(tmp_path / "a"): path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()
    }
    assert files
    for path, content in files.items():
        assert (tmp_path / "b" / path).read_bytes() == content
        assert path.suffix != ".tmp"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "C:\\x", "C:x", "..\\x", "\\\\host\\x", "", "a\0b"])
@pytest.mark.parametrize("format", OUTPUTS)
def test_a_name_that_leads_outside_is_refused(tmp_path, format, name):
    mask = np.zeros((2, 2), np.uint8)
    with OUTPUTS[format](tmp_path / "out", ("background", "cat")) as writer:
        writer.add("before", picture(mask), mask)
        with pytest.raises(UserError, match="leads outside"):
            writer.add(name, picture(mask), mask)
        writer.add("after", picture(mask), mask)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    if format in READERS:
        assert {found for found, _ in READERS[format](tmp_path / "out").masks} == {"before", "after"}


def interrupt(format, out):
    mask = np.ones((3, 3), np.uint8)
    with OUTPUTS[format](out, ("background", "cat")) as writer:
        writer.add("done", picture(mask), mask)
        raise KeyboardInterrupt


@pytest.mark.parametrize("format", OUTPUTS)
def test_an_interruption_leaves_no_half_file(tmp_path, format):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        interrupt(format, out)
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert not any(name.endswith(".tmp") for name in left)
    assert ONE_FILE.get(format) not in left
    assert all((out / path).is_file() for path in OUTPUTS[format].paths("done"))
    assert bool(OUTPUTS[format].paths("done")) == (format in PER_PHOTO)
    OUTPUTS[format](out, ("background", "cat")).close()


@pytest.mark.parametrize("format", ONE_FILE)
def test_an_interruption_keeps_the_older_result(tmp_path, format):
    masks = photos(3)
    write(format, tmp_path / "out", masks, class_names(3))
    with pytest.raises(KeyboardInterrupt):
        interrupt(format, tmp_path / "out")
    before = (tmp_path / "out" / ONE_FILE[format]).read_bytes()
    write(format, tmp_path / "again", masks, class_names(3))
    assert (tmp_path / "again" / ONE_FILE[format]).read_bytes() == before


@pytest.mark.parametrize("format", OUTPUTS)
def test_wrong_input_is_refused(tmp_path, format):
    for classes in ((), ("background", "a", "a"), ("background", "(ignore)"), ("background", "a\nb"), ("x",) * 256):
        with pytest.raises(UserError, match="class"):
            OUTPUTS[format](tmp_path / "out", classes)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"folder .*file"):
        OUTPUTS[format](tmp_path / "file", ("background", "a"))
    with OUTPUTS[format](tmp_path / "out", ("background", "a")) as writer, pytest.raises(UserError, match="value 2"):
        writer.add("x", np.zeros((1, 1, 3), np.uint8), np.full((1, 1), 2, np.uint8))


@pytest.mark.parametrize("format", ["png", "overlay", "json", "folders", "yolo"])
def test_what_cannot_be_written_is_one_sentence(tmp_path, format):
    for folder in (tmp_path, tmp_path / "images"):
        folder.mkdir(exist_ok=True)
        (folder / "sub").write_text("a file where a folder should be", encoding="utf-8")
    with (
        OUTPUTS[format](tmp_path, ("background",)) as writer,
        pytest.raises(UserError, match=r"sub.* cannot be written"),
    ):
        writer.add("sub/a", np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8))


@pytest.mark.parametrize("format", OUTPUTS)
def test_no_photo_at_all(tmp_path, format):
    write(format, tmp_path, {}, ("background", "cat"))
    if format in READERS and format != "folders":
        (tmp_path / "images").mkdir(exist_ok=True)
        assert list(READERS[format](tmp_path).masks) == []


# COCO


def test_coco_is_read_alike_by_pycocotools(tmp_path, capsys):
    classes, masks = class_names(5), photos(5)
    write("coco", tmp_path, masks, classes)
    coco = COCO(tmp_path / "annotations.json")
    assert [c["name"] for c in coco.loadCats(range(1, 5))] == list(classes[1:])
    found = {}
    for image in coco.dataset["images"]:
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            region = coco.annToMask(annotation).astype(bool)
            mask[region] = annotation["category_id"]
            rows, columns = np.nonzero(region)
            assert annotation["area"] == region.sum()
            assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation.get("score", 0.8) == pytest.approx(0.8, abs=1e-4)
        found[image["file_name"].removesuffix(".jpg")] = mask
    same(found, masks)


def test_coco_keeps_the_photo_s_own_file_name(tmp_path):
    mask = np.ones((2, 3), np.uint8)
    with OUTPUTS["coco"](tmp_path, ("background", "cat")) as writer:
        writer.add("a/b", picture(mask), mask, file_name="a/b.TIFF")
    content = json.loads((tmp_path / "annotations.json").read_text(encoding="utf-8"))
    assert content["images"] == [{"id": 1, "file_name": "a/b.TIFF", "height": 2, "width": 3}]
    assert next(READERS["coco"](tmp_path).masks)[0] == "a/b"


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ({"id": 1, "file_name": "b.jpg", "height": 2, "width": 3}, "two images of one id"),
        ({"id": 2, "file_name": "b.jpg", "height": 2, "width": 3}, None),
    ],
)
def test_annotations_of_coco_belong_to_one_image(tmp_path, image, sentence):
    write("coco", tmp_path, {"x": np.ones((2, 3), np.uint8)}, ("background", "cat"))
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["images"].append(image)
    path.write_text(json.dumps(content), encoding="utf-8")
    if sentence is None:
        assert [name for name, _ in READERS["coco"](tmp_path).masks] == ["x", "b"]
        content["annotations"][0]["image_id"], sentence = 7, "annotations of the image 7, which no image's id is"
        path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        READERS["coco"](tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"height": 10**6, "width": 10**6}, "the cap is"),
        ({"height": 7}, r"its size is \[2, 3\], that of its image \[7, 3\]"),
        ({"file_name": "../x.jpg"}, "leads outside"),
        ({"height": "x"}, "cannot be read as COCO"),
    ],
)
def test_a_broken_coco_file_is_named(tmp_path, change, sentence):
    write("coco", tmp_path, {"x": np.ones((2, 3), np.uint8)}, ("background", "cat"))
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["images"][0] |= change
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        list(READERS["coco"](tmp_path).masks)


def foreign_coco(path, categories, annotated):
    """A file of one photo (1, 3) whose pixels, from the left, have these categories."""
    parts = [
        {"image_id": 1, "category_id": k, "segmentation": {"counts": [i, 1, 2 - i]}} for i, k in enumerate(annotated)
    ]
    images = [{"id": 1, "file_name": "a.jpg", "height": 1, "width": 3}]
    named = [{"id": k, "name": name} for k, name in categories]
    path.write_text(json.dumps({"categories": named, "images": images, "annotations": parts}), encoding="utf-8")
    return READERS["coco"](path)


@pytest.mark.parametrize(
    ("categories", "annotated", "classes", "mask"),
    [
        ([(4, "dog"), (1, "cat")], [1, 4], ("cat", "dog"), [1, 2, 0]),
        ([(0, "cat"), (90, "dog")], [90, 0], ("cat", "dog"), [2, 1, 0]),
        ([(255, "cat"), (1, "dog"), (7, "(ignore)")], [255, 7, 1], ("dog", "cat"), [2, 255, 1]),
        ([(0, "background"), (1, "cat")], [1, 0], ("cat",), [1, 0, 0]),
    ],
)
def test_coco_s_categories_are_numbered_in_the_order_of_their_ids(tmp_path, categories, annotated, classes, mask):
    stored = foreign_coco(tmp_path / "c.json", categories, annotated)
    assert stored.classes == ("background", *classes)
    same(dict(stored.masks), {"a": np.array([mask], np.uint8)})


def test_coco_s_strange_categories_are_named(tmp_path):
    with pytest.raises(UserError, match=r"c\.json: a\.jpg has the category 9, which no category's id is"):
        list(foreign_coco(tmp_path / "c.json", [(1, "cat")], [9]).masks)
    with pytest.raises(UserError, match="two categories of one id"):
        foreign_coco(tmp_path / "c.json", [(1, "cat"), (1, "dog")], [1])
    with pytest.raises(UserError, match="300 categories"):
        foreign_coco(tmp_path / "c.json", [(k, f"c{k}") for k in range(300)], [1])


# Label Studio


def test_brush_rle_is_label_studio_s():
    # Written by label_studio_sdk.converter.brush.mask2rle (version 2.1.2) for this mask.
    mask = np.zeros((5, 9), bool)
    mask[1:4, 2:8] = True
    mask[2, 4] = False
    mask[4, 0] = True
    expected = bytes.fromhex("000000b4391bfe2b00c2fff6c027ff8c02dffdb00c2fff18047ff87c00")
    assert encode_brush(mask) == expected
    assert np.array_equal(decode_brush(expected, 5, 9), mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 300), (7, 3)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_brush_rle_round_trip(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    assert np.array_equal(decode_brush(encode_brush(mask), *shape), mask)
    # The packer of Label Studio ends some masks with a further byte of zeros.
    assert np.array_equal(decode_brush(encode_brush(mask) + b"\0", *shape), mask)


def test_broken_brush_rle_is_refused():
    good = encode_brush(np.eye(6, dtype=bool))
    for data, shape in ((good, (6, 7)), (good[:12], (6, 6)), (b"", (6, 6))):
        with pytest.raises(ValueError, match="it "):
            decode_brush(data, *shape)


def test_label_studio_s_corrections_go_before_predictions(tmp_path):
    write("label-studio", tmp_path, {"a b": np.zeros((4, 5), np.uint8)}, ("background", "cat", "dog"))
    path = tmp_path / "label-studio.json"
    (task,) = json.loads(path.read_text(encoding="utf-8"))
    assert task["data"]["image"] == "/data/local-files/?d=a%20b.jpg"
    corrected = np.eye(4, 5, dtype=bool)
    value = {"format": "rle", "rle": list(encode_brush(corrected)), "brushlabels": ["dog"]}
    stroke = {"type": "brushlabels", "original_width": 5, "original_height": 4, "value": value}
    task["annotations"] = [{"result": [stroke]}]
    del task["data"]["name"]  # as in a task made by hand
    path.write_text(json.dumps([task]), encoding="utf-8")
    same(dict(READERS["label-studio"](tmp_path).masks), {"a b": corrected * np.uint8(2)})


def stroke(mask, label="cat"):
    height, width = mask.shape
    value = {
        "format": "rle",
        "rle": list(encode_brush(mask)),
        "brushlabels": [label] if isinstance(label, str) else label,
    }
    return {"type": "brushlabels", "original_width": width, "original_height": height, "value": value}


def exported(tmp_path, *tasks):
    """Tasks as Label Studio's own export writes them, beside the interface."""
    write("label-studio", tmp_path, {}, ("background", "cat", "dog"))
    (tmp_path / "label-studio.json").write_text(json.dumps(tasks), encoding="utf-8")
    return dict(READERS["label-studio"](tmp_path).masks)


def test_skipped_tasks_of_label_studio_have_no_mask(tmp_path):
    mask = np.eye(4, 5, dtype=bool)
    skipped = {"was_cancelled": True, "result": [], "updated_at": "2026-11-03T00:00:00Z"}
    old = {"was_cancelled": False, "result": [stroke(~mask)], "updated_at": "2026-11-01T00:00:00Z"}
    new = {"was_cancelled": False, "result": [stroke(mask)], "updated_at": "2026-11-02T00:00:00Z"}
    found = exported(
        tmp_path,
        {"data": {"image": "/d/skipped.jpg", "name": "skipped"}, "annotations": [skipped], "predictions": [4]},
        {"data": {"image": "/d/untouched.jpg"}, "annotations": [], "predictions": [5, 6]},
        {"data": {"image": "/data/local-files/?d=photos/a%20b.jpg"}, "annotations": [new, old, skipped]},
    )
    same(found, {"photos/a b": mask.astype(np.uint8)})


def test_label_studio_s_soft_strokes_do_not_grow(tmp_path):
    # Four bytes a pixel, its opacity last; literal pieces as the editor writes them: 0, 2, 127, 128, 236, 255.
    opacities = [0, 2, 127, 128, 236, 255]
    bits = f"{24:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for opacity in opacities:
        bits += "0" + "00" + f"{3:03b}" + f"{opacity:08b}" * 4
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    assert decode_brush(data, 2, 3).ravel().tolist() == [False, False, False, True, True, True]


def test_a_photo_without_a_stroke_has_its_own_size(tmp_path):
    task = {"data": {"image": "/d/p.png"}, "annotations": [{"was_cancelled": False, "result": []}]}
    with pytest.raises(UserError, match="no stroke and no size"):
        exported(tmp_path, task)
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (7, 3)).save(photos / "p.png")
    same(dict(read_label_studio(tmp_path, photos).masks), {"p": np.zeros((3, 7), np.uint8)})


@pytest.mark.parametrize(("label", "said"), [([], "no label"), (["cat", "dog"], "'cat', 'dog'"), ("cow", "'cow'")])
def test_a_region_of_label_studio_needs_one_known_label(tmp_path, label, said):
    task = {"data": {"image": "/d/p.png"}, "annotations": [{"result": [stroke(np.eye(3, dtype=bool), label)]}]}
    with pytest.raises(UserError, match=said):
        exported(tmp_path, task)


def test_only_what_may_be_painted_is_a_class_of_label_studio(tmp_path):
    mask = np.eye(4, 5, dtype=bool)
    labels = '<Label value="dog"/><Label value="cat"/>'
    interface = (
        f'<View><Image name="image" value="$image"/><KeyPointLabels name="ask" toName="image" smart="true">{labels}'
        f'</KeyPointLabels><BrushLabels name="tag" toName="image">{labels}</BrushLabels></View>'
    )
    click = {"type": "keypointlabels", "from_name": "ask", "value": {"x": 1, "y": 1, "keypointlabels": ["cat"]}}
    task = {"data": {"image": "/d/p.png"}, "annotations": [{"result": [click, stroke(mask)]}]}
    write("label-studio", tmp_path, {}, ("background",))
    (tmp_path / "label-studio.xml").write_text(interface, encoding="utf-8")
    (tmp_path / "label-studio.json").write_text(json.dumps([task]), encoding="utf-8")
    stored = READERS["label-studio"](tmp_path)
    assert stored.classes == ("background", "dog", "cat")
    same(dict(stored.masks), {"p": mask * np.uint8(2)})


@pytest.mark.parametrize("kind", ["polygonlabels", "rectanglelabels", "ellipse", "bitmasklabels", "keypointlabels"])
def test_a_region_that_is_no_mask_is_named(tmp_path, kind):
    region = {"type": kind, "from_name": "shape", "value": {kind: ["cat"], "x": 1, "y": 1, "width": 9, "height": 9}}
    comment = {"type": "textarea", "from_name": "note", "value": {"text": ["small"]}}
    data = {"image": "/d/p.png", "name": "p", "width": 5, "height": 4}
    assert not exported(tmp_path, {"data": data, "annotations": [{"result": [comment]}]})["p"].any()
    with pytest.raises(UserError, match=rf"p has a region of the kind '{kind}'.* draw it with the brush"):
        exported(tmp_path, {"data": data, "annotations": [{"result": [region, comment]}]})


def test_tags_are_choices_in_label_studio(tmp_path):
    with LabelStudioBrush(tmp_path, ("background", "cat", "dog"), tags={"p": ["dog"]}, version="v7") as writer:
        writer.add("p", np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), np.uint8), link="photos/ü 1.jpg")
    (task,) = json.loads((tmp_path / "label-studio.json").read_text(encoding="utf-8"))
    assert task["data"]["image"] == "/data/local-files/?d=photos/%C3%BC%201.jpg"
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "v7"
    assert [result["value"].get("choices") for result in prediction["result"]] == [None, ["dog"]]
    interface = (tmp_path / "label-studio.xml").read_text(encoding="utf-8")
    assert '<Choices name="tags" toName="image" choice="multiple">' in interface
    assert READERS["label-studio"](tmp_path).classes == ("background", "cat", "dog")


def test_an_interface_with_entities_is_refused(tmp_path):
    write("label-studio", tmp_path, {}, ("background", "cat"))
    (tmp_path / "label-studio.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>', encoding="utf-8")
    with pytest.raises(UserError, match="declares entities"):
        READERS["label-studio"](tmp_path)


# CVAT


def test_cvat_holds_colored_masks_a_map_and_a_list(tmp_path):
    mask = np.array([[0, 1, 2, IGNORE]], np.uint8)
    write("cvat", tmp_path, {"sub/a b": mask}, ("background", "cat", "dog"))
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        assert sorted(archive.namelist()) == [
            "ImageSets/Segmentation/default.txt",
            "SegmentationClass/sub/a b.png",
            "SegmentationObject/sub/a b.png",
            "labelmap.txt",
        ]
        assert archive.read("ImageSets/Segmentation/default.txt") == b"sub/a b\n"
        lines = archive.read("labelmap.txt").decode().splitlines()
        with archive.open("SegmentationClass/sub/a b.png") as stream, Image.open(stream) as image:
            assert np.array(image).tolist() == [[[0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192]]]
        # Instances, numbered in VOC's colors, 0 = none: with them CVAT makes no object of background.
        with archive.open("SegmentationObject/sub/a b.png") as stream, Image.open(stream) as image:
            assert np.array(image).tolist() == [[[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]]
    assert lines[0].startswith("#")
    assert lines[1:] == ["background:0,0,0::", "cat:128,0,0::", "dog:0,128,0::", "(ignore):224,224,192::"]


def test_cvat_refuses_names_its_lists_cannot_hold(tmp_path):
    for name in ("a:b", "#a"):
        with pytest.raises(UserError, match="labelmap"):
            OUTPUTS["cvat"](tmp_path, ("background", name))
    with OUTPUTS["cvat"](tmp_path, ("background",)) as writer, pytest.raises(UserError, match="rename"):
        writer.add("#1", np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8))


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({}, "has no labelmap.txt"),
        ({"labelmap.txt": "background"}, "is not `name:r,g,b::`"),
        ({"labelmap.txt": "background:0,0,0::", "../evil.png": b""}, "leads outside"),
        ({"labelmap.txt": "background:0,0,0::", "/evil.png": b""}, "leads outside"),
        ({"labelmap.txt": "background:0,0,0::", "SegmentationClass/x.png": b"no"}, "x.png cannot be read as PNG"),
        ({"labelmap.txt": "".join(f"l{i}:{i},0,{i // 256}::\n" for i in range(256))}, "256 labels"),
        ({"labelmap.txt": "cat:1,1,1::\ndog:2,2,2::\n"}, "has no background"),
        ({"labelmap.txt": "background:0,0,0::\ncat:1,1,1::\ndog:1,1,1::\n"}, "gives 'cat' and 'dog' one color"),
        ({"labelmap.txt": "background:0,0,0::\ncat:1,1,1::\ncat:2,2,2::\n"}, "has the label 'cat' twice"),
        ({"labelmap.txt": "background:0,0,0::\nf\xfcr:1,1,1::\n".encode("latin-1")}, "not utf-8 text"),
    ],
)
def test_a_bad_zip_is_refused_by_name(tmp_path, members, sentence):
    path = zipped(tmp_path / "some.zip", members)
    with pytest.raises(UserError, match=f"some.zip|{sentence}") as error:
        list(READERS["cvat"](path).masks)
    assert sentence in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["some.zip"]


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tagseg.outputs.cvat.MEMBER_CAP", 10_000)
    bomb = zipped(tmp_path / "a.zip", {"labelmap.txt": "a:0,0,0::", "SegmentationClass/x.png": bytes(100_000)})
    with pytest.raises(UserError, match="unpacks to more than 10,000 bytes"):
        list(READERS["cvat"](bomb).masks)
    monkeypatch.setattr("tagseg.outputs.cvat.PIXEL_CAP", 100)
    write("cvat", tmp_path, {"x": np.zeros((20, 20), np.uint8)}, ("background",))
    with pytest.raises(UserError, match="20 x 20 pixels; the cap is 100"):
        list(READERS["cvat"](tmp_path).masks)


def test_a_color_without_a_label_is_named(tmp_path):
    write("cvat", tmp_path, {"x": np.full((2, 2), 2, np.uint8)}, ("background", "cat", "dog"))
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        mask = archive.read("SegmentationClass/x.png")
    path = zipped(tmp_path / "b.zip", {"labelmap.txt": "a:0,0,0::\nb:128,0,0::\n", "SegmentationClass/x.png": mask})
    with pytest.raises(UserError, match="the color 0,128,0"):
        list(READERS["cvat"](path).masks)


@pytest.mark.parametrize("zero", ["background", "__background__", "Hintergrund"])
def test_cvat_s_background_is_0_wherever_it_stands(tmp_path, zero):
    mask = np.array([[0, 1, 2, 1]], np.uint8)
    write("cvat", tmp_path, {"x": mask}, ("background", "apple", "pear"))
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        content = archive.read("SegmentationClass/x.png")
    labels = f"apple:128,0,0::\n{zero}:0,0,0::\npear:0,128,0::\n"
    stored = READERS["cvat"](zipped(tmp_path / "b.zip", {"labelmap.txt": labels, "SegmentationClass/x.png": content}))
    assert stored.classes == ("background", "apple", "pear")
    same(dict(stored.masks), {"x": mask})


# YOLO


def test_yolo_lines(tmp_path):
    mask = np.zeros((10, 20), np.uint8)
    mask[2:4, 5:10] = 2
    mask[0, 0] = IGNORE
    write("yolo", tmp_path, {"a": mask}, ("background", "cat", "猫"))
    assert (tmp_path / "labels" / "a.txt").read_text(encoding="utf-8") == "1 0.25 0.2 0.5 0.2 0.5 0.4 0.25 0.4\n"
    assert "1: 猫" in (tmp_path / "data.yaml").read_text(encoding="utf-8")
    with Image.open(tmp_path / "images" / "a.jpg") as image:
        assert image.size == (20, 10)


@pytest.mark.parametrize("line", ["0 0.5", "0 0.1 0.2 0.3", "7 0 0 1 0 1 1", "x 0 0 1 0 1 1", "0 nan 0 1 0 1 1", "0"])
def test_a_bad_yolo_line_is_named(tmp_path, line):
    write("yolo", tmp_path, {"a": np.zeros((4, 4), np.uint8)}, ("background", "cat"))
    (tmp_path / "labels" / "a.txt").write_text(f"0 0 0 1 0 1 1\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.txt, line 2"):
        list(READERS["yolo"](tmp_path).masks)


def test_a_box_of_yolo_is_no_mask(tmp_path):
    write("yolo", tmp_path, {"a": np.zeros((4, 4), np.uint8)}, ("background", "cat"))
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.6 0.6\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.txt, line 1, has 2 corners, as a box has; boxes are no masks"):
        list(READERS["yolo"](tmp_path).masks)


@pytest.mark.parametrize("names", ["{254: x}", "{10000000000: x}", "{-1: x}", "3", "[[", "{a: b}"])
def test_a_bad_yolo_yaml_is_named(tmp_path, names):
    (tmp_path / "data.yaml").write_text(f"names: {names}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"data\.yaml"):
        READERS["yolo"](tmp_path)


# Broken files


@pytest.mark.parametrize("format", READERS)
def test_broken_files_end_in_one_sentence(tmp_path, format):
    write(format, tmp_path, photos(3, ignore=format != "yolo"), class_names(3))
    rng = np.random.default_rng(0)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size)
    refused = 0
    for _ in range(40):
        path = files[rng.integers(len(files))]
        content = path.read_bytes()
        broken = np.frombuffer(content, dtype=np.uint8).copy()
        broken[rng.integers(len(broken), size=4)] = rng.integers(0, 256, 4)
        path.write_bytes(broken[: rng.integers(len(broken) // 2, len(broken) + 1)].tobytes())
        try:
            list(READERS[format](tmp_path).masks)
        except UserError:
            refused += 1
        path.write_bytes(content)
    assert refused > 5


# Summaries, overlays


def test_summaries_count_and_weigh(tmp_path):
    mask = np.zeros((4, 5), np.uint8)
    mask[1:3, 2:4] = 1
    mask[0, 0] = IGNORE
    write("json", tmp_path, {"sub/猫.x": mask}, ("background", "cat"))
    (summary,) = read_summaries(tmp_path).values()
    assert list(read_summaries(tmp_path)) == ["sub/猫.x"]
    assert (summary["width"], summary["height"], summary["confidence"]) == (5, 4, 0.8)
    background, cat, ignored = summary["classes"]
    assert background["pixels"] == 15
    assert cat == {"class": "cat", "index": 1, "pixels": 4, "share": 0.2, "box": [2, 1, 2, 2], "confidence": 0.8}
    assert (ignored["class"], ignored["confidence"]) == ("(ignore)", None)


def test_summaries_without_probabilities(tmp_path):
    with OUTPUTS["json"](tmp_path, ("background", "cat")) as writer:
        writer.add("a", np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), np.uint8))
    summary = read_summaries(tmp_path)["a"]
    assert summary["confidence"] is summary["classes"][0]["confidence"] is None


@pytest.mark.parametrize(("format", "suffix"), [("overlay", ".jpg"), ("overlay-png", ".png")])
def test_overlays_show_the_photo(tmp_path, format, suffix):
    mask = np.zeros((16, 16), np.uint8)
    photo = np.full((16, 16, 3), 90, np.uint8)
    with OUTPUTS[format](tmp_path, ("background", "cat")) as writer:
        writer.add("sub/a", photo, mask)
    with Image.open(tmp_path / "sub" / f"a{suffix}") as image:
        assert np.abs(np.array(image).astype(int) - photo).max() <= 2


def test_coco_with_polygons_is_read_as_pycocotools_draws_it(tmp_path):
    ring = [60 + 40 * f(t) for t in np.linspace(0, 2 * np.pi, 60, endpoint=False) for f in (np.cos, np.sin)]
    star = [10, 10, 90, 40, 15, 70, 50, 5, 60, 110]
    annotations = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "segmentation": [ring],
            "area": 1,
            "bbox": [0, 0, 1, 1],
            "iscrowd": 0,
        },
        {
            "id": 2,
            "image_id": 2,
            "category_id": 9,
            "segmentation": [star, [100.5, 90.2, 118, 91, 110, 119.5]],
            "area": 1,
        },
    ]
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 120, "width": 130} for i in (1, 2)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": annotations,
    }
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    found, oracle = dict(READERS["coco"](path).masks), COCO(str(path))
    for value, one in enumerate(annotations, start=1):
        expected = oracle.annToMask(one) > 0
        inside = found[str(one["image_id"])] == value
        assert (inside & expected).sum() / (inside | expected).sum() > 0.93, "but for pixels on the outline"
    for broken in ([], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], "outline"):
        annotations[0]["segmentation"] = broken
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(UserError, match="cannot be read as RLE or polygons"):
            dict(READERS["coco"](path).masks)
