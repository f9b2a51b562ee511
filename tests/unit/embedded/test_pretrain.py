"""The arithmetic of pretraining: the loss and the optimizer."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from punie.embedded import pretrain
from punie.embedded.pretrain import Muon, new_model, orthogonal
from punie.embedded.specs import SPECS


def largest(x: mx.array) -> float:
    return float(np.abs(np.array(x)).max())


def test_exp_is_the_exponential():
    """Over its range the polynomial differs from e^x by less than one part in a million."""
    x = mx.linspace(-79, 79, 100_001)
    assert largest(pretrain.exp(x) / mx.exp(x) - 1) < 1e-6
    assert largest(pretrain.exp(mx.array([-1e9]))) < 1e-30


@pytest.mark.parametrize("name", SPECS)
def test_loss_and_gradient_are_those_of_the_mlx_lm_model(name):
    """The plain arithmetic gives mlx-lm's loss and its gradient for every parameter."""
    spec = SPECS[name]
    model = new_model(spec, 0)
    tokens = mx.random.randint(0, spec.vocabulary, (3, 17))
    positions, targets = mx.array([0, 5, 16, 20, 33, 50]), mx.random.randint(0, spec.vocabulary, (6,))

    def expected(model):
        logits = model(tokens).reshape(-1, spec.vocabulary)[positions]
        return nn.losses.cross_entropy(logits, targets, reduction="mean")

    value, gradient = nn.value_and_grad(model, expected)(model)
    ours, our_gradient = mx.value_and_grad(pretrain.loss)(
        model.parameters(), spec, tokens, positions, targets
    )
    assert ours.item() == pytest.approx(value.item(), abs=1e-5)
    flat, our_flat = dict(tree_flatten(gradient)), dict(tree_flatten(our_gradient))
    assert flat.keys() == our_flat.keys()
    for key, expected_gradient in flat.items():
        scale = largest(expected_gradient) + 1e-8
        assert largest(expected_gradient - our_flat[key]) < 1e-3 * scale, key


def test_orthogonal_brings_singular_values_near_one():
    """Whatever its scale and shape, a matrix, alone or in a stack, gets singular values of about 1."""
    for shape in ((8, 32), (32, 8), (16, 16)):
        stack = 100 * mx.random.normal((3, *shape), key=mx.random.key(0))
        found = orthogonal(stack)
        values = np.linalg.svd(np.array(found), compute_uv=False)
        assert values.max() < 1.3
        assert np.median(values) > 0.6
        assert mx.allclose(found, mx.stack([orthogonal(matrix) for matrix in stack]), atol=1e-5).item()


def test_muon_descends():
    """Fifty steps on a quadratic function divide the loss by twenty or more."""
    target = mx.random.normal((8, 8), key=mx.random.key(2))
    parameters = {"w": mx.zeros((8, 8))}
    optimizer = Muon(lambda step: mx.maximum(0.3 - 0.006 * step, 0.01), weight_decay=0.0)

    def loss(tree):
        return ((tree["w"] - target) ** 2).sum()

    before = loss(parameters).item()
    for _ in range(50):
        parameters = optimizer.apply_gradients(mx.grad(loss)(parameters), parameters)
    assert loss(parameters).item() < before / 20
