import torch

from tagseg.cues.mixing import MixingSettings, mixed

# three photos of 40 x 40: class 1 everywhere, class 2 in a square, nothing
LABEL = torch.zeros(3, 40, 40, dtype=torch.uint8)
LABEL[0] = 1
LABEL[1, 10:22, 10:22] = 2
TAGS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
SEEDS = torch.tensor([1, 2, 3])
PHOTO = torch.arange(3.0)[:, None, None, None].expand(3, 3, 40, 40)


def test_boxes_come_from_the_next_photo_with_their_labels() -> None:
    mix = mixed(LABEL, TAGS, SEEDS, MixingSettings(boxes=1))
    photo, label = mix.laid(PHOTO), mix.laid(LABEL)
    for i in range(3):
        over = mix.over_BHW[i]
        assert 0.08 < over.float().mean() < 0.42
        rows, columns = over.any(1).nonzero().ravel(), over.any(0).nonzero().ravel()
        assert over[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "a box"
        assert (photo[i, 0] == torch.where(over, (i + 1) % 3, i)).all()
        assert (label[i] == torch.where(over, LABEL[(i + 1) % 3], LABEL[i])).all()


def test_tags_follow_what_is_left_of_objects() -> None:
    for seed in range(30):
        mix = mixed(LABEL, TAGS, SEEDS + 10 * seed, MixingSettings(boxes=1))
        assert mix.tag_BC[0, 0] == 1  # the box never covers 7 of 10 pixels
        assert mix.tag_BC[2, 1] == 0
        assert mix.known_BC[2, 1], "neither photo has class 2"
        inside = (mix.over_BHW[0] & (LABEL[1] == 2)).sum() / 144
        assert mix.tag_BC[0, 1] == (inside >= 0.3)
        assert mix.known_BC[0, 1] == (inside >= 0.3)


def test_objects_go_where_their_tag_is_missing() -> None:
    mix = mixed(LABEL, TAGS, SEEDS, MixingSettings(boxes=0, objects=1))
    assert mix.other_B.tolist() == [2, 0, 1]
    assert not mix.over_BHW[0].any(), "photo 2 has no object"
    assert not mix.over_BHW[1].any(), "an object that fills the photo is no object"
    assert (mix.over_BHW[2] == (LABEL[1] == 2)).all()
    assert mix.tag_BC.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert mix.known_BC.all()


def test_one_photo_has_no_other() -> None:
    mix = mixed(LABEL[:1], TAGS[:1], SEEDS[:1], MixingSettings(boxes=1, objects=1))
    assert not mix.over_BHW.any()
    assert torch.equal(mix.tag_BC, TAGS[:1])


def test_of_two_photos_each_gets_the_others_objects() -> None:
    label = torch.zeros(2, 20, 20, dtype=torch.uint8)
    label[0, :8, :8], label[1, 10:18, 10:18] = 1, 2
    tags = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    both = mixed(label, tags, torch.tensor([1, 2]), MixingSettings(boxes=0, objects=1))
    assert both.other_B.tolist() == [1, 0]
    assert both.over_BHW[0, 12, 12]
    assert both.over_BHW[1, 2, 2]
