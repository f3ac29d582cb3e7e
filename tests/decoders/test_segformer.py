import torch
import torch.nn.functional as F

from tagseg.decoders import SegFormerHead


def stages(batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, f, s, s, generator=generator) for f, s in ((6, 16), (8, 8), (10, 4), (12, 4))]


def head(**options: float) -> SegFormerHead:
    torch.manual_seed(1)
    return SegFormerHead((6, 8, 10, 12), (4, 8, 16, 16), 5, hidden=7, **options)  # type: ignore[arg-type]


def test_logits_lie_on_the_finest_grid_and_follow_the_formula():
    model = head().eval()
    inputs = stages()
    state = model.state_dict()
    hidden = []
    for i in (3, 2, 1, 0):
        projected = torch.einsum("bfhw,df->bdhw", inputs[i], state[f"projections.{i}.weight"][:, :, 0, 0])
        projected = projected + state[f"projections.{i}.bias"].view(1, -1, 1, 1)
        hidden.append(F.interpolate(projected, (16, 16), mode="bilinear"))
    fused = torch.einsum("bfhw,df->bdhw", torch.cat(hidden, 1), state["fuse.weight"][:, :, 0, 0])
    fused = (fused / (1 + model.norm.eps) ** 0.5).relu()
    expected = torch.einsum("bfhw,df->bdhw", fused, state["classifier.weight"][:, :, 0, 0])
    expected = expected + state["classifier.bias"].view(1, -1, 1, 1)
    logits = model(inputs)
    assert logits.shape == (2, 5, 16, 16)
    assert torch.allclose(logits, expected, atol=1e-5)


def test_stages_finer_than_asked_for_are_left_out():
    model = SegFormerHead((3, 6, 8), (2, 4, 16), 5, hidden=7)
    inputs = [torch.randn(2, f, s, s) for f, s in ((3, 32), (6, 16), (8, 4))]
    assert model.used == (1, 2)
    assert model(inputs).shape == (2, 5, 16, 16)
    assert SegFormerHead((3, 6), (1, 2), 5).used == (1,)


def test_dropout_follows_from_the_photos_seeds():
    model = head(dropout=0.5)
    model.norm.eval()
    inputs, seed_B = stages(), torch.tensor([11, 12])
    both = model(inputs, seed_B)
    assert torch.equal(both, model(inputs, seed_B))
    alone = model([stage[1:] for stage in inputs], seed_B[1:])
    assert torch.allclose(both[1:], alone, atol=1e-6)
    assert not torch.allclose(both, model(inputs, seed_B + 1))
    assert torch.equal(model(inputs), model.eval()(inputs, seed_B))
