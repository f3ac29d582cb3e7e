import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tagseg.cues import multi_scale_cam, normalize_cam
from tagseg.cues.cam import cam_probabilities, summed_cam, tagged_cam
from tagseg.precision import Precision, computing_in


def features(image_B3HW: Tensor) -> Tensor:
    return F.avg_pool2d(image_B3HW, 8) @ torch.eye(image_B3HW.shape[-1] // 8)


WEIGHT_CF = torch.tensor([[1.0, -0.5, 0.2], [-1.0, 0.3, 0.8]])


def test_the_mean_over_scales_equals_the_slow_sum() -> None:
    image = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    scales = (0.5, 1.0, 1.5, 2.0)
    slow = torch.zeros(2, 2, 8, 6)
    for scale in scales:
        size = (int(scale * 64), int(scale * 48))
        feature = features(F.interpolate(image, size, mode="bilinear", align_corners=False))
        cam = torch.einsum("cf,bfhw->bchw", WEIGHT_CF, feature).clamp(min=0)
        slow += F.interpolate(cam, (8, 6), mode="bilinear", align_corners=False) / len(scales)
    fast = multi_scale_cam(features, WEIGHT_CF, image, scales=scales)
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)


def test_features_that_are_there_are_not_computed_again() -> None:
    image = torch.rand(1, 3, 32, 32)
    calls = []

    def counted(view: Tensor) -> Tensor:
        calls.append(view.shape)
        return features(view)

    given = multi_scale_cam(counted, WEIGHT_CF, image, scales=(1.0, 2.0), feature_BFhw=features(image))
    assert [shape[-1] for shape in calls] == [64]
    torch.testing.assert_close(given, multi_scale_cam(features, WEIGHT_CF, image, scales=(1.0, 2.0)))


def test_no_gradient_flows_through_a_cam() -> None:
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert not multi_scale_cam(features, WEIGHT_CF, image, feature_BFhw=features(image)).requires_grad


def test_maps_are_divided_by_their_maximum_alone() -> None:
    cam = torch.tensor([[[[1.0, 3.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    normal = normalize_cam(cam)
    torch.testing.assert_close(normal[0, 0], cam[0, 0] / (3 + 1e-5))
    assert normal[0, 1].abs().sum() == 0


def test_absent_classes_have_no_cam_and_no_probability() -> None:
    cam = torch.rand(1, 3, 4, 4)
    tagged = tagged_cam(cam, torch.tensor([[1.0, 0.0, 1.0]]), (16, 16))
    assert tagged.shape == (1, 3, 16, 16)
    assert tagged[0, 1].abs().sum() == 0
    probability = cam_probabilities(tagged)
    torch.testing.assert_close(probability.sum(1), torch.ones(1, 16, 16))
    assert probability[0, 2].abs().sum() == 0


def test_background_is_what_no_class_claims() -> None:
    cam = torch.tensor([[[[0.5]], [[0.25]]]])
    probability = cam_probabilities(cam).flatten()
    score = torch.tensor([0.5**4, 0.5, 0.25])
    torch.testing.assert_close(probability, score / score.sum())


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_a_view_is_read_in_trainings_precision_or_in_bfloat16(
    precision: Precision | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the setting an autocast around the CAM, that of training, has to reach its views."""
    monkeypatch.setattr("tagseg.precision.computes_bfloat16", lambda device: True)
    image, seen = torch.rand(1, 3, 32, 32), []

    def recorded(view: Tensor) -> Tensor:
        seen.append((view @ torch.ones(view.shape[-1], 1)).dtype)
        return features(view.float()).float()

    for around in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=around):
            multi_scale_cam(recorded, WEIGHT_CF, image, scales=(1.0,), precision=precision)
            summed_cam(recorded, image, (1.0,), flip=False, precision=precision)
    low = torch.bfloat16
    assert seen == ([low] * 4 if precision else [torch.float32, torch.float32, low, low])


def test_a_processor_that_emulates_bfloat16_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated, a pass takes several times as long as in float32."""
    seen = []

    def recorded(view: Tensor) -> Tensor:
        seen.append((view @ torch.ones(view.shape[-1], 1)).dtype)
        return features(view)

    for native in (False, True):
        monkeypatch.setattr("tagseg.precision.computes_bfloat16", lambda device, native=native: native)
        multi_scale_cam(recorded, WEIGHT_CF, torch.rand(1, 3, 32, 32), scales=(1.0,), precision="bf16")
    assert seen == [torch.float32, torch.bfloat16]


def test_float32_is_float32_beside_a_training_in_bfloat16() -> None:
    values = torch.rand(40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert (values @ values).dtype == torch.bfloat16
        with computing_in("fp32", values.device):
            assert torch.equal(values @ values, values.clone() @ values)
            assert (values @ values).dtype == torch.float32
        with computing_in(None, values.device):
            assert (values @ values).dtype == torch.bfloat16
