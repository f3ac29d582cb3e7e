import pytest
import torch
import torch.nn.functional as F

from tagseg.cues.cam_labels import CamLabelSettings, CamMaskSettings, cam_labels, refined_cam
from tagseg.errors import UserError
from tagseg.recipe import load_recipe
from tagseg.refine import PixelAdaptive


def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 3, 16, 20, generator=generator)
    cam = (torch.rand(3, 4, 4, 5, generator=generator) * 2 - 0.8).clamp(0, 1)
    cam = F.interpolate(cam, (16, 20), mode="bilinear")
    tags = torch.tensor([[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    valid = torch.ones(3, 16, 20, dtype=torch.bool)
    valid[0, 12:] = False
    return image, cam, tags, valid


def slow_label(image, cam, tags, valid, kind, background) -> torch.Tensor:
    """One photo, one background score after the other."""
    found = []
    for score in background:
        present = tags.nonzero().flatten()
        stack = torch.cat([torch.full((1, 16, 20), score), cam[present]])[None]
        size = (8, 10)
        stack = F.interpolate(stack, size, mode="bilinear").softmax(1)
        if kind != "none":
            stack = PixelAdaptive(kind)(F.interpolate(image[None], size, mode="bilinear"), stack)
        channel = F.interpolate(stack, (16, 20), mode="bilinear")[0].argmax(0)
        found.append(torch.cat([torch.zeros(1, dtype=torch.long), present + 1])[channel])
    low, high = found
    label = torch.full((16, 20), 255)
    for y in range(16):
        for x in range(20):
            if not valid[y, x]:
                continue
            if high[y, x] > 0:
                label[y, x] = high[y, x]
            elif low[y, x] == 0:
                label[y, x] = 0
    return label.to(torch.uint8)


@pytest.mark.parametrize("kind", ["varm", "par", "none"])
def test_labels_equal_photo_by_photo(kind):
    image, cam, tags, valid = case()
    found = cam_labels(image, cam, tags, valid, CamLabelSettings(refine=kind, background_scores=(0.4, 0.6)))
    for n in range(3):
        assert torch.equal(found[n], slow_label(image[n], cam[n], tags[n], valid[n], kind, (0.4, 0.6)))
    assert {0, 255} < set(found[0].unique().tolist())
    assert (found[2] == 0).all(), "without a tag everything is background"


def test_a_batch_without_any_tag_is_background():
    image, cam, tags, valid = case()
    assert (cam_labels(image, cam, tags * 0, valid, CamLabelSettings())[1:] == 0).all()


@pytest.mark.parametrize("kind", ["varm", None])
def test_probabilities_leave_absent_classes_out_and_sum_to_one(kind):
    image, cam, tags, _ = case()
    probability = refined_cam(image, cam, tags, None if kind is None else PixelAdaptive(kind))
    assert probability.shape == (3, 5, 16, 20)
    assert torch.allclose(probability.sum(1), torch.ones(3, 16, 20), atol=1e-5)
    assert (probability[0, [1, 3]] == 0).all()
    assert (probability[2, 0] == 1).all()
    assert (probability >= 0).all()


def test_the_mask_is_refined_at_the_size_of_the_labels():
    image, cam, tags, valid = case()
    refine = PixelAdaptive("varm")
    label = cam_labels(image, cam, tags, valid, CamLabelSettings(background_scores=(0.45, 0.45)))
    mask = refined_cam(image, cam, tags, refine, 0.45, 0.5).argmax(1)
    assert torch.equal(mask[valid], label[valid].long())
    assert not torch.equal(mask, refined_cam(image, cam, tags, refine, 0.45, 1.0).argmax(1))


def test_without_refinement_the_mask_is_where_the_cam_beats_the_background_score():
    image, cam, tags, _ = case()
    mask = refined_cam(image, cam, tags, None, background=0.45).argmax(1)
    assert torch.equal(mask[1] == 1, cam[1, 0] > 0.45)


def test_several_background_scores_give_the_mean_of_their_masks():
    image, cam, tags, _ = case()
    mask = CamMaskSettings(background_scores=(0.3, 0.6)).probabilities(image, cam, tags)
    alone = [refined_cam(image, cam, tags, PixelAdaptive("par"), score) for score in (0.3, 0.6)]
    torch.testing.assert_close(mask, (alone[0] + alone[1]) / 2)
    assert torch.allclose(mask.sum(1), torch.ones(3, 16, 20), atol=1e-5)


@pytest.mark.parametrize("recipe", ["tscd-voc12-mit_b1", "bmp-scenes", "mentor-scenes"])
def test_background_scores_that_change_places_are_refused(recipe: str) -> None:
    with pytest.raises(UserError, match=r"background_scores.*smaller one first"):
        load_recipe(recipe, ["method.labels.background_scores=[0.55, 0.35]"])
    with pytest.raises(UserError, match="alpha_low"):
        load_recipe("rrm-scenes", ["method.labels.alpha_low=9", "method.labels.alpha_high=8"])
