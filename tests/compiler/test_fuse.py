"""What joins the op in front of it: residuals, activations, pools, gates; and what must not."""

from __future__ import annotations

import pytest
import torch
from graphs import aten, check, graph_of, run_passes, zoo
from torch import nn
from torch.nn import functional as F

from zoo.compiler.passes.affine import (
    unify_affine,
    unify_batch_norm,
)
from zoo.compiler.passes.fuse import (
    fuse_activation,
    fuse_gates,
    fuse_pool,
    fuse_residual,
    fuse_shift,
)
from zoo.compiler.passes.unify import unify_conv2d, unify_linear, unify_pools

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
CONV = (unify_conv2d,)
BN = (unify_conv2d, unify_linear, unify_batch_norm)
AFFINE = (*BN, unify_affine)


def conv(*args, **kwargs) -> nn.Conv2d:
    return nn.Conv2d(4, 4, *(args or (3,)), **kwargs)


def test_a_residual_joins_the_later_convolution():
    def function(self, x):
        y = self.a(x)
        return F.relu(y + self.b(x.flip(3)))

    passes = (*CONV, fuse_residual, fuse_activation)
    left = check(function, (X,), passes, 1, a=conv(3, padding=1), b=conv(1))
    assert left == {zoo.conv2d.default: 2, aten.flip.default: 1}


def test_the_convolution_moves_behind_its_residual():
    def function(self, x):
        y = self.conv(x)
        return y + x.flip(3).exp()

    left = check(function, (X,), (*CONV, fuse_residual), 1, conv=conv(1))
    assert aten.add.Tensor not in left


@pytest.mark.parametrize(
    "function",
    [
        lambda self, x: self.conv(x) + x.mean((2, 3), keepdim=True),
        lambda self, x: self.conv(x).add(x, alpha=2),
        lambda self, x: (lambda y: (y + x) * y)(self.conv(x)),
        lambda self, x: (lambda y: y + y)(self.conv(x)),
    ],
)
def test_no_residual(function):
    check(function, (X,), (*CONV, fuse_residual), 0, conv=conv(1))


def test_no_residual_behind_an_activation():
    passes = (*CONV, fuse_activation, fuse_residual)
    check(lambda self, x: self.conv(x).relu() + x, (X,), passes, 0, conv=conv(1))


def test_linear_with_residual_and_activation():
    passes = (unify_linear, fuse_residual, fuse_activation)
    left = check(lambda self, x: F.gelu(self.fc(x) + x), (X,), passes, 1, fc=nn.Linear(6, 6))
    assert left == {zoo.linear.default: 1}


@pytest.mark.parametrize(
    "function", [lambda x: F.gelu(x, approximate="tanh"), lambda x: F.leaky_relu(x, 0.2), F.elu]
)
def test_activations_that_the_kernels_lack_stay(function):
    passes = (*CONV, fuse_activation)
    check(lambda self, x: function(self.conv(x)), (X,), passes, 0, conv=conv(1))


def test_no_activation_where_the_map_has_other_readers():
    passes = (*CONV, fuse_activation)
    check(lambda self, x: (lambda y: y.relu() + y)(self.conv(x)), (X,), passes, 0, conv=conv(1))


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, (2, 1)),
    ],
)
def test_pools_join_the_convolution(pool):
    passes = (*CONV, unify_pools, fuse_activation, fuse_pool)
    left = check(lambda self, x: pool(self.conv(x).relu()), (X,), passes, 1, conv=conv(3))
    assert left == {zoo.conv2d_pool.default: 1}


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
        lambda x: F.max_pool2d(x, 2, 1, dilation=2),
        lambda x: F.avg_pool2d(x, 2, padding=1, count_include_pad=False),
        lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        lambda x: F.max_pool2d(x, 5, 1, 2),
    ],
)
def test_other_pools_do_not(pool):
    passes = (*CONV, unify_pools, fuse_pool)
    check(lambda self, x: pool(self.conv(x)), (X,), passes, 0, conv=conv(1))


def test_squeeze_excite_with_residual_and_activation():
    def function(self, x):
        gate = self.fc(x.mean((2, 3), keepdim=True)).sigmoid()
        return F.relu(x * gate + x.flip(3))

    passes = (*CONV, fuse_gates, fuse_shift, fuse_activation)
    left = check(function, (X,), passes, 2, fc=conv(1))
    assert left[zoo.scale_shift.default] == 1
    assert aten.add.Tensor not in left


def test_a_product_of_two_maps_is_no_gate():
    check(lambda _, x: x * x.exp(), (X,), (fuse_gates,), 0)
    check(lambda _, x: x[:, :1] * x[:, :, :1], (X,), (fuse_gates,), 0)


def test_other_dtypes_pass_through():
    captured = graph_of(
        lambda self, x: F.relu(self.bn(self.conv(x)) * 2 + x),
        X.double(),
        conv=conv(1).double(),
        bn=nn.BatchNorm2d(4).double(),
    )
    assert run_passes(captured, *AFFINE, fuse_residual, fuse_gates, fuse_activation) == [0] * 7
