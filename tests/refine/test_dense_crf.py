"""The dense CRF against pydensecrf and against its own symmetries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagseg.errors import UserError
from tagseg.refine import Lattice, dense_crf, probabilities_from_labels
from tests.refine.test_lattice import photo_like

pydensecrf = pytest.importorskip("pydensecrf.densecrf")
BACKENDS = ("numba", "torch")
NORMALIZATIONS = {
    "symmetric": pydensecrf.NORMALIZE_SYMMETRIC,
    "after": pydensecrf.NORMALIZE_AFTER,
    "before": pydensecrf.NORMALIZE_BEFORE,
    "none": pydensecrf.NO_NORMALIZATION,
}


def random_maps(labels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blotchy probabilities (L, H, W), some of them 0."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((labels, (height + 7) // 8, (width + 7) // 8)) ** 3
    maps = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width] + 0.2 * rng.random((labels, height, width))
    maps[maps < 0.1] = 0
    maps[0] += 1e-3
    return (maps / maps.sum(0)).astype(np.float32)


def reference(
    image: np.ndarray,
    energy_LHW: np.ndarray,
    gaussian: tuple | None,
    bilateral: tuple | None,
    iterations: int = 10,
    kind: str = "symmetric",
) -> np.ndarray:
    labels, height, width = energy_LHW.shape
    crf = pydensecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(energy_LHW.reshape(labels, -1), np.float32))
    how = NORMALIZATIONS[kind]
    if gaussian:
        crf.addPairwiseGaussian(sxy=gaussian[0], compat=gaussian[1], normalization=how)
    if bilateral:
        crf.addPairwiseBilateral(
            sxy=bilateral[0],
            srgb=bilateral[1],
            rgbim=np.ascontiguousarray(image),
            compat=bilateral[2],
            normalization=how,
        )
    return np.array(crf.inference(iterations)).reshape(energy_LHW.shape)


def energies(maps: np.ndarray) -> np.ndarray:
    return -np.log(np.clip(maps, 1e-5, 1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("labels", [2, 3, 4, 5, 6, 8, 21])
@pytest.mark.parametrize("bilateral", [(80, 13, 10), (83, 5, 4), (50, 5, 4)])
def test_marginals_are_pydensecrf_s(backend: str, labels: int, bilateral: tuple) -> None:
    height, width = 57, 71  # odd: the reference pads its pixels
    image, maps = photo_like(height, width, seed=labels), random_maps(labels, height, width, labels)
    expected = reference(image, energies(maps), (3, 3), bilateral)
    ours = dense_crf(image, maps, gaussian=(3, 3), bilateral=bilateral, padding=True, backend=backend)
    assert np.abs(ours - expected).max() <= 1e-4
    assert (ours.argmax(0) == expected.argmax(0)).mean() >= 0.9999


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["symmetric", "after", "before", "none"])
def test_normalizations_are_pydensecrf_s(backend: str, kind: str) -> None:
    image, maps = photo_like(40, 44), random_maps(4, 40, 44)
    weights = (3, 10) if kind != "none" else (0.02, 0.005)  # plain sums grow with the pixels
    expected = reference(image, energies(maps), (3, weights[0]), (20, 13, weights[1]), 5, kind)
    ours = dense_crf(
        image,
        maps,
        gaussian=(3, weights[0]),
        bilateral=(20, 13, weights[1]),
        iterations=5,
        normalization=kind,
        backend=backend,
    )
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_compatibility_matrix_is_pydensecrf_s(backend: str) -> None:
    image, maps = photo_like(32, 36), random_maps(3, 32, 36)
    cost = np.array([[0, 1, 2], [1, 0, 0.5], [2, 0.5, 0]], np.float32)
    labels, height, width = maps.shape
    crf = pydensecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(energies(maps).reshape(labels, -1)))
    crf.addPairwiseGaussian(sxy=3, compat=3 * cost)
    crf.addPairwiseBilateral(sxy=20, srgb=13, rgbim=image, compat=5 * cost)
    expected = np.array(crf.inference(6)).reshape(maps.shape)
    ours = dense_crf(
        image, maps, gaussian=(3, 3), bilateral=(20, 13, 5), iterations=6, compatibility=cost, backend=backend
    )
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["asymmetric", "vector"])
def test_what_the_guide_says_of_pydensecrf_s_asymmetric_matrix_and_vector(backend: str, kind: str) -> None:
    image, maps = photo_like(32, 36), random_maps(3, 32, 36)
    matrix = np.array([[0, 2, 0.5], [0, 0, 1], [3, 0.1, 0]], np.float32)
    vector = np.array([0.3, 1.5, -0.4], np.float32)
    theirs, ours = (matrix, (matrix + matrix.T) / 2) if kind == "asymmetric" else (vector, np.diag(vector))
    labels, height, width = maps.shape
    crf = pydensecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(energies(maps).reshape(labels, -1)))
    crf.addPairwiseGaussian(sxy=3, compat=3 * theirs)
    crf.addPairwiseBilateral(sxy=20, srgb=13, rgbim=image, compat=5 * theirs)
    expected = np.array(crf.inference(6)).reshape(maps.shape)
    settings = {"gaussian": (3, 3), "bilateral": (20, 13, 5), "iterations": 6, "backend": backend}
    np.testing.assert_allclose(dense_crf(image, maps, compatibility=ours, **settings), expected, atol=1e-4)
    if kind == "asymmetric":  # taken as it is, it is another model
        assert np.abs(dense_crf(image, maps, compatibility=matrix, **settings) - expected).max() > 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_potts_matrix_is_potts(backend: str) -> None:
    image, maps = photo_like(20, 24), random_maps(3, 20, 24)
    potts = dense_crf(image, maps, backend=backend)
    given_cost = dense_crf(image, maps, compatibility=1 - np.eye(3, dtype=np.float32), backend=backend)
    np.testing.assert_allclose(given_cost, potts, atol=1e-4)


@pytest.mark.parametrize("kernels", [{"gaussian": None}, {"bilateral": None}, {"gaussian": None, "bilateral": None}])
@pytest.mark.parametrize("labels", [2, 3, 5])
def test_kernels_can_be_left_out(kernels: dict, labels: int) -> None:
    image, maps = photo_like(24, 32), random_maps(labels, 24, 32)
    both = {"gaussian": (3.0, 3.0), "bilateral": (80.0, 13.0, 10.0), **kernels}
    expected = reference(image, energies(maps), both["gaussian"], both["bilateral"])
    for backend in BACKENDS:
        np.testing.assert_allclose(dense_crf(image, maps, **both, backend=backend), expected, atol=1e-4)


@pytest.mark.parametrize("labels", [2, 3, 5])
@pytest.mark.parametrize("backend", BACKENDS)
def test_strong_kernels_and_sharp_logits_stay_finite(backend: str, labels: int) -> None:
    image = photo_like(20, 24)
    logits = 300 * (random_maps(labels, 20, 24) - 0.5)
    expected = reference(image, -logits, (3, 200), (80, 13, 300), 5)
    ours = dense_crf(
        image, logits, gaussian=(3, 200), bilateral=(80, 13, 300), iterations=5, unary="logits", backend=backend
    )
    np.testing.assert_allclose(ours, expected, atol=2e-3)
    np.testing.assert_allclose(
        dense_crf(image, -logits, iterations=3, unary="energies", backend=backend),
        dense_crf(image, logits, iterations=3, unary="logits", backend=backend),
        atol=1e-6,
    )


def test_no_iteration_is_the_softmax_of_the_unary() -> None:
    maps = random_maps(3, 9, 9)
    clipped = np.clip(maps, 1e-5, 1)
    for backend in BACKENDS:
        ours = dense_crf(photo_like(9, 9), maps, iterations=0, backend=backend)
        np.testing.assert_allclose(ours, clipped / clipped.sum(0), atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tags_carry_only_their_labels(backend: str) -> None:
    image, maps = photo_like(24, 20), random_maps(6, 24, 20)
    ours = dense_crf(image, maps, tags=[4, 2], backend=backend)
    few = dense_crf(image, maps[[0, 2, 4]], backend=backend)
    np.testing.assert_allclose(ours[[0, 2, 4]], few, atol=1e-6)
    assert not ours[[1, 3, 5]].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_list_equals_one_by_one(backend: str) -> None:
    shapes = [(2, 20, 31), (5, 17, 17), (3, 1, 9), (1, 8, 8)]
    images = [photo_like(height, width, seed) for seed, (_, height, width) in enumerate(shapes)]
    maps = [random_maps(*shape) for shape in shapes]
    images.append(images[0])
    maps.append(random_maps(4, 20, 31, seed=7))
    together = dense_crf(images, maps, backend=backend)
    for image, value, result in zip(images, maps, together, strict=True):
        np.testing.assert_allclose(dense_crf(image, value, backend=backend), result, atol=2e-6)


def test_a_result_stays_when_the_next_photo_takes_its_memory() -> None:
    sizes = ((40, 30, 3), (20, 50, 5), (41, 30, 2))
    images = [photo_like(height, width) for height, width, _ in sizes]
    maps = [random_maps(labels, height, width, labels) for height, width, labels in sizes]
    alone = [dense_crf(image, value, threads=1) for image, value in zip(images, maps, strict=True)]
    kept = [result.copy() for result in alone]
    for threads in (1, 2):
        together = dense_crf(images * 3, maps * 3, threads=threads)
        for result, expected in zip(together, kept * 3, strict=True):
            np.testing.assert_array_equal(result, expected)
    for result, expected in zip(alone, kept, strict=True):
        np.testing.assert_array_equal(result, expected)


def test_torch_in_torch_out() -> None:
    image, maps = photo_like(16, 20), random_maps(3, 16, 20)
    ours = dense_crf(torch.from_numpy(image), torch.from_numpy(maps).requires_grad_())
    assert isinstance(ours, torch.Tensor)
    assert not ours.requires_grad
    np.testing.assert_array_equal(ours.numpy(), dense_crf(image, maps))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("labels", [2, 4, 5, 21])
def test_threads_inside_a_photo_change_nothing(threads: int, labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagseg.refine.mean_field_cpu.crf_threads", lambda *given: given[-1])
    image, maps = photo_like(70, 90), random_maps(labels, 70, 90)
    np.testing.assert_allclose(
        dense_crf(image, maps, threads=threads), dense_crf(image, maps, backend="torch"), atol=1e-4
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lattice_at_hand_is_used(backend: str) -> None:
    image, maps = photo_like(16, 20), random_maps(3, 16, 20)
    lattice = Lattice.bilateral(image, 30, 9, backend=backend)
    ours = dense_crf(image, maps, bilateral=(30, 9, 10), lattice=lattice, backend=backend)
    np.testing.assert_array_equal(ours, dense_crf(image, maps, bilateral=(30, 9, 10), backend=backend))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channel_counts(channels: int) -> None:
    image, maps = photo_like(20, 22, channels=channels), random_maps(3, 20, 22)
    sigma = tuple(10.0 + i for i in range(channels))
    ours = dense_crf(image, maps, bilateral=(20, sigma, 10))
    np.testing.assert_allclose(dense_crf(image, maps, bilateral=(20, sigma, 10), backend="torch"), ours, atol=1e-4)
    if channels == 1:
        np.testing.assert_array_equal(dense_crf(image[..., 0], maps, bilateral=(20, 10, 10)), ours)


class TestProperties:
    """Symmetries of the mean field, on any photo."""

    photos = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(2, 6), st.integers(0, 50))

    @staticmethod
    def case(size: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        height, width, labels, seed = size
        image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
        return image, random_maps(labels, height, width, seed)

    @settings(max_examples=20, deadline=None)
    @given(photos, st.randoms(use_true_random=False))
    def test_labels_can_change_places(self, size, random) -> None:
        image, maps = self.case(size)
        order = list(range(len(maps)))
        random.shuffle(order)
        np.testing.assert_allclose(dense_crf(image, maps[order]), dense_crf(image, maps)[order], atol=1e-5)

    @settings(max_examples=20, deadline=None)
    @given(photos)
    def test_a_label_without_probability_hardly_counts(self, size) -> None:
        image, maps = self.case(size)
        more = dense_crf(image, np.concatenate([maps, np.full_like(maps[:1], -1e9)]) * 1.0, unary="logits")
        np.testing.assert_allclose(more[:-1], dense_crf(image, maps, unary="logits"), atol=1e-5)
        assert more[-1].max() <= 1e-6

    @settings(max_examples=20, deadline=None)
    @given(photos)
    def test_marginals_sum_to_one(self, size) -> None:
        marginals = dense_crf(*self.case(size))
        np.testing.assert_allclose(marginals.sum(0), 1, atol=1e-5)
        assert marginals.min() >= 0

    @settings(max_examples=20, deadline=None)
    @given(photos)
    def test_both_backends_agree(self, size) -> None:
        image, maps = self.case(size)
        np.testing.assert_allclose(dense_crf(image, maps, backend="torch"), dense_crf(image, maps), atol=1e-4)

    @settings(max_examples=10, deadline=None)
    @given(st.integers(4, 12), st.integers(4, 12), st.integers(0, 50))
    def test_a_flip_flips_the_result_nearly(self, height: int, width: int, seed: int) -> None:
        # the lattice itself isn't symmetric, so only nearly
        image, maps = photo_like(height, width, seed), random_maps(3, height, width, seed)
        flipped = dense_crf(image[:, ::-1], maps[:, :, ::-1], iterations=2)[:, :, ::-1]
        plain = dense_crf(image, maps, iterations=2)
        assert np.abs(flipped - plain).mean() < 0.05

    @settings(max_examples=10, deadline=None)
    @given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 50), st.floats(2, 50))
    def test_constant_image_is_a_plain_gaussian(self, height: int, width: int, seed: int, sxy: float) -> None:
        # color 0 adds nothing: what is left is the position, on another lattice
        maps = random_maps(3, height, width, seed)
        black = np.zeros((height, width, 3), np.uint8)
        bilateral = dense_crf(black, maps, gaussian=None, bilateral=(sxy, 13, 2), iterations=3)
        gaussian = dense_crf(black, maps, gaussian=(sxy, 2), bilateral=None, iterations=3)
        assert np.abs(bilateral - gaussian).mean() < 0.05


def test_confident_labels_are_pydensecrf_s() -> None:
    utils = pytest.importorskip("pydensecrf.utils")
    label = np.random.default_rng(0).integers(0, 3, (8, 9))
    energy = utils.unary_from_labels(label, 3, gt_prob=0.7, zero_unsure=False).reshape(3, 8, 9)
    ours = probabilities_from_labels(label, 3, confidence=0.7)
    np.testing.assert_allclose(-np.log(ours), energy, rtol=1e-5)
    label[0, 0] = 255
    np.testing.assert_allclose(probabilities_from_labels(label, 3)[:, 0, 0], 1 / 3, rtol=1e-6)


IMAGE, MAPS = np.zeros((6, 7, 3), np.uint8), np.full((2, 6, 7), 0.5, np.float32)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dense_crf(IMAGE, MAPS[:, :5]), "shape"),
        (lambda: dense_crf(IMAGE, MAPS[:0]), "shape"),
        (lambda: dense_crf(IMAGE, np.full_like(MAPS, np.nan)), "NaN"),
        (lambda: dense_crf(torch.from_numpy(IMAGE), torch.full((2, 6, 7), torch.nan)), "NaN"),
        (lambda: dense_crf(np.full(IMAGE.shape, np.inf), MAPS), "NaN"),
        (lambda: dense_crf([IMAGE], [MAPS, MAPS]), "one for each"),
        (lambda: dense_crf(IMAGE, MAPS, tags=[2]), "tags"),
        (lambda: dense_crf(IMAGE, MAPS, tags=[True]), "tags must be numbers"),
        (lambda: probabilities_from_labels(np.zeros((3, 3), int), 2, confidence=0.5), "between 1 / L and 1"),
        (lambda: dense_crf([IMAGE], [MAPS], tags=[[1], [1]]), "tags"),
        (lambda: dense_crf(IMAGE, MAPS, iterations=-1), "iterations"),
        (lambda: dense_crf(IMAGE, MAPS, unary="log"), "unary"),
        (lambda: dense_crf(IMAGE, MAPS, normalization="both"), "normalization"),
        (lambda: dense_crf(IMAGE, MAPS, compatibility=np.eye(3)), "compatibility"),
        (lambda: dense_crf(IMAGE, MAPS, gaussian=(-3, 3)), "sxy"),
        (lambda: dense_crf(IMAGE, MAPS, gaussian=(3, np.nan)), "weight"),
        (lambda: dense_crf(IMAGE, MAPS, bilateral=(80, 13)), "bilateral"),
        (lambda: dense_crf(IMAGE, MAPS, threads=0), "threads"),
        (lambda: dense_crf(IMAGE, MAPS, lattice=Lattice.bilateral(IMAGE[:5], 9, 9)), "lattice"),
        (lambda: probabilities_from_labels(np.full((3, 3), 2), 2), "labels"),
        (lambda: probabilities_from_labels(np.zeros((3, 3), int), 2, confidence=1.5), "confidence"),
    ],
)
def test_mistakes_are_named(call, words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()


def test_an_empty_list_gives_an_empty_list() -> None:
    assert dense_crf([], []) == []


def test_one_photo_twice_has_each_time_its_own_lattice() -> None:
    rng = np.random.default_rng(0)
    image, maps = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), rng.random((2, 30, 40), dtype=np.float32)
    lattices = [Lattice.bilateral(image, 20, 50), Lattice.bilateral(image, 83, 5)]
    both = dense_crf([image, image], [maps, maps], lattice=lattices)
    for found, lattice in zip(both, lattices, strict=True):
        np.testing.assert_array_equal(found, dense_crf(image, maps, lattice=lattice))
    assert np.abs(both[0] - both[1]).max() > 0.01
