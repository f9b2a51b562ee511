from punie.model import blas

blas.activate()

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from punie.embedded.muon import Muon, orthogonal  # noqa: E402


@pytest.mark.parametrize("shape", [(8, 32), (32, 8), (16, 16)])
def test_singular_values_come_near_to_one(shape):
    """Whatever its scale, a matrix is turned into one whose singular values are about 1."""
    matrix = 100 * mx.random.normal(shape, key=mx.random.key(0))
    values = np.linalg.svd(np.array(orthogonal(matrix)), compute_uv=False)
    assert values.max() < 1.3
    assert np.median(values) > 0.6


def test_a_stack_is_treated_matrix_by_matrix():
    """Each expert of a stack gets the update it would get alone."""
    stack = mx.random.normal((3, 8, 4), key=mx.random.key(1))
    alone = mx.stack([orthogonal(matrix) for matrix in stack])
    assert mx.allclose(orthogonal(stack), alone, atol=1e-5).item()


def test_it_descends():
    """On a quadratic bowl fifty steps bring the loss down to a twentieth."""
    target = mx.random.normal((8, 8), key=mx.random.key(2))
    parameters = {"w": mx.zeros((8, 8))}
    optimizer = Muon(lambda step: mx.maximum(0.3 - 0.006 * step, 0.01), weight_decay=0.0)

    def loss(tree):
        return ((tree["w"] - target) ** 2).sum()

    before = loss(parameters).item()
    for _ in range(50):
        parameters = optimizer.apply_gradients(mx.grad(loss)(parameters), parameters)
    assert loss(parameters).item() < before / 20
