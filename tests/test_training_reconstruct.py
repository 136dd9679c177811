"""The differentiable reconstruction against the runtime's, finite differences and the authors' numbers."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")

from metrabs_ros import reconstruct as runtime  # noqa: E402
from training import reconstruct  # noqa: E402

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "metrabs_decode.npz"


def people(count: int = 6, joints: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Noisy 2D [N,J,2] px and metric poses [N,J,3] m that roughly agree, K [N,3,3], inside [N,J]."""
    rng = np.random.default_rng(3)
    pose = rng.normal(0, 0.35, (count, joints, 3))
    place = np.stack([rng.normal(0, 0.1, count), rng.normal(0, 0.1, count), rng.uniform(2, 8, count)], -1)
    K = np.tile(np.array([[1.0, 0, 128], [0, 1, 128], [0, 0, 1]]), (count, 1, 1))
    K[:, 0, 0] = K[:, 1, 1] = 100 * place[:, 2]
    absolute = pose + place[:, None]
    projected = np.einsum("nrc,njc->njr", K, absolute)
    coords2d = projected[..., :2] / projected[..., 2:] + rng.normal(0, 1, (count, joints, 2))
    return coords2d, pose + rng.normal(0, 0.02, pose.shape), K, rng.random((count, joints)) < 0.8


@pytest.mark.parametrize("perspective", ["full", "weak"])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_runtime(perspective: str, weighted: bool) -> None:
    coords2d, pose, K, inside = people()
    confidence = np.random.default_rng(0).random(inside.shape) if weighted else None
    expected = runtime.absolute(coords2d, pose, K, inside, confidence, perspective, mix_3d=0.3)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        got = reconstruct.absolute(
            *(torch.tensor(array, dtype=dtype) for array in (coords2d, pose, K)),
            torch.tensor(inside),
            None if confidence is None else torch.tensor(confidence, dtype=dtype),
            perspective,
            mix_3d=0.3,
        )
        np.testing.assert_allclose(got.numpy(), expected, atol=tolerance)


@pytest.mark.parametrize("perspective", ["full", "weak", "released"])
def test_gradients_equal_finite_differences(perspective: str) -> None:
    coords2d, pose, K, inside = people(2, 7)
    arrays = [torch.tensor(array, requires_grad=True) for array in (coords2d, pose, K)]
    confidence = torch.rand(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    confidence.requires_grad_()

    def solved(*inputs: torch.Tensor) -> torch.Tensor:
        return reconstruct.absolute(*inputs[:3], torch.tensor(inside), inputs[3], perspective, mix_3d=0.5)

    assert torch.autograd.gradcheck(solved, (*arrays, confidence), eps=1e-6, atol=1e-5)


def test_border_rule_equals_the_runtime() -> None:
    points = np.random.default_rng(0).uniform(-20, 280, (40, 2))
    got = reconstruct.in_fov(torch.from_numpy(points), 256, 32).numpy()
    np.testing.assert_array_equal(got, runtime.in_fov(points, 256, 32))
    assert 0 < got.sum() < 40


@pytest.mark.skipif(not REFERENCE.is_file(), reason="needs the reference numbers beside the checkout")
def test_released_solution_equals_the_authors() -> None:
    reference = {name: torch.from_numpy(array) for name, array in np.load(REFERENCE).items()}
    coords2d, pose, K = (reference[name].double() for name in ("syn_c2", "syn_c3", "syn_K"))
    inside = reference["syn_infov"]
    points = reconstruct.normalized(coords2d, K)
    weights = inside.double() + 1e-4
    offset = reconstruct.released_full_perspective(points, pose, weights, batch_rms=True)
    for name, mix in (("syn_full_mix", 0.5), ("syn_full_nomix", 0.0)):
        translated = pose + offset[:, None]
        back = torch.cat([points, torch.ones_like(points[..., :1])], -1) * translated[..., 2:]
        got = torch.where(inside[..., None], mix * translated + (1 - mix) * back, translated)
        np.testing.assert_allclose(got.numpy(), reference[name].numpy(), atol=0.01)
    weak = reconstruct.absolute(coords2d, pose, K, inside, None, "weak", mix_3d=0.5)
    np.testing.assert_allclose(weak.numpy(), reference["syn_weak_mix"].numpy(), atol=0.05)
