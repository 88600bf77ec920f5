"""Each pass alone: where it fires, what it computes, and where it must not fire."""

from __future__ import annotations

import math

import pytest
import torch
from graphs import aten, check, graph_of, ops, run_passes, zoo
from torch import nn
from torch.nn import functional as F

from zoo.compiler.passes.activations import unify_activations
from zoo.compiler.passes.affine import (
    compose_affine,
    fold_into_next,
    fold_into_previous,
    unify_affine,
    unify_batch_norm,
)
from zoo.compiler.passes.branches import merge_branches
from zoo.compiler.passes.constants import fold_constants
from zoo.compiler.passes.fuse import (
    fuse_activation,
)
from zoo.compiler.passes.noops import compose_permutations, drop_noops
from zoo.compiler.passes.unify import absorb_padding, unify_conv2d, unify_linear, unify_pools

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
CONV = (unify_conv2d,)
BN = (unify_conv2d, unify_linear, unify_batch_norm)
AFFINE = (*BN, unify_affine)
SCALED_WEIGHT = {aten.mul.Tensor}  # multiplied when it is packed


def conv(*args, **kwargs) -> nn.Conv2d:
    return nn.Conv2d(4, 4, *(args or (3,)), **kwargs)


# --- no-ops and constants ---------------------------------------------------------------------


def test_noops_are_dropped():
    def function(_, x):
        y = F.dropout(x, training=False).clone().to(x.dtype).detach()
        return ((y + 0) * 1).view(x.shape).permute(0, 1, 2, 3)[:, :]

    assert not check(function, (X,), (drop_noops,), 9).total()


def test_what_changes_dtype_shape_or_order_stays():
    def function(_, x):
        return x.double().transpose(2, 3).contiguous().view(2, -1)[:, 1:]

    left = check(function, (X,), (drop_noops,), 1)  # contiguous; the view copies instead
    assert left[aten.reshape.default] == left[aten.transpose.int] == 1


def test_dropout_that_is_on_stays():
    captured = graph_of(lambda _, x: F.dropout(x, training=True), X)
    assert run_passes(captured, drop_noops) == [0]


def test_permutations_are_composed():
    assert not check(
        lambda _, x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), (X,), (compose_permutations,), 1
    )
    left = check(
        lambda _, x: x.permute(1, 2, 3, 0).transpose(0, 3), (X,), (compose_permutations,), 1
    )
    assert left[aten.permute.default] == 1


def test_constants_are_folded():
    def function(self, x):
        weight = self.conv.weight
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight) + torch.arange(4.0, dtype=x.dtype).view(1, 4, 1, 1)

    left = check(function, (X,), (fold_constants,), 2, conv=conv(3))
    assert set(left) == {aten.conv2d.default, aten.add.Tensor}


def test_large_products_stay():
    modules = {"conv": nn.Conv2d(2100, 8400, 1), "by": nn.Linear(1, 8400)}

    def function(self, x):
        return F.conv2d(x, self.conv.weight * self.by.weight.view(8400, 1, 1, 1))

    captured = graph_of(function, torch.randn(1, 2100, 1, 1), **modules)
    assert run_passes(captured, fold_constants) == [1]  # the view
    assert ops(captured)[aten.mul.Tensor] == 1


def test_random_numbers_are_not_constants():
    captured = graph_of(lambda _, x: x + torch.rand(4, 1, 1), X)
    assert run_passes(captured, fold_constants) == [0]


# --- one op for each thing ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        conv(3, stride=2, padding=1, groups=2),
        conv(3, padding="same", dilation=2),
        conv((1, 3), padding="valid", bias=False),
    ],
)
def test_convolutions_become_zoos(layer):
    assert set(check(lambda self, x: self.conv(x), (X,), CONV, 1, conv=layer)) == {
        zoo.conv2d.default
    }


@pytest.mark.parametrize(
    "layer", [conv(2, padding="same"), nn.ConvTranspose2d(4, 4, 3), nn.Conv3d(2, 4, 3, padding=1)]
)
def test_other_convolutions_stay(layer):
    x = X if not isinstance(layer, nn.Conv3d) else X.view(1, 2, 4, 6, 6)
    check(lambda self, x: self.conv(x), (x,), CONV, 0, conv=layer)


def test_symmetric_zero_padding_is_the_convolutions():
    passes = (unify_conv2d, absorb_padding)
    check(lambda self, x: self.conv(F.pad(x, (2, 2, 1, 1))), (X,), passes, 1, conv=conv(3))
    for pad in ({"pad": (0, 1, 0, 1)}, {"pad": (1,) * 4, "value": 1.0}):
        check(lambda self, x, pad=pad: self.conv(F.pad(x, **pad)), (X,), passes, 0, conv=conv(3))
    reflected = {"pad": (1,) * 4, "mode": "reflect"}
    check(lambda self, x: self.conv(F.pad(x, **reflected)), (X,), passes, 0, conv=conv(3))


def test_pools_and_means_become_zoos():
    def function(_, x):
        y = F.max_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 2, count_include_pad=False)
        z = F.max_pool2d(x, 2, return_indices=True)[0]
        return y + z + F.adaptive_avg_pool2d(x, 1) + x.mean((-1, 2), keepdim=True), x.mean([2, 3])

    left = graph_of(function, X)
    assert run_passes(left, unify_pools) == [6]
    for actual, expected in zip(left(X), function(None, X), strict=True):
        torch.testing.assert_close(actual, expected)
    assert ops(left)[zoo.adaptive_avg_pool2d.default] == 3


def test_other_pools_stay():
    check(lambda _, x: x.mean([1, 2]), (X,), (unify_pools,), 0)
    used = graph_of(lambda _, x: F.max_pool2d(x, 2, return_indices=True), X)
    assert run_passes(used, unify_pools) == [0]


def test_linear_layers_become_zoos():
    def function(self, x):
        return self.fc(x) + x @ self.fc.weight

    left = check(function, (X[..., :4],), (unify_linear,), 2, fc=nn.Linear(4, 4))
    assert left[zoo.linear.default] == 2


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda x: x.clamp(0, 6), aten.relu6.default),
        (lambda x: F.hardtanh(x, 0, 6), aten.relu6.default),
        (lambda x: x.clamp(min=0), aten.relu.default),
        (lambda x: F.threshold(x, 0, 0), aten.relu.default),
        (lambda x: x * x.sigmoid(), aten.silu.default),
        (lambda x: F.hardsigmoid(x) * x, aten.hardswish.default),
        (lambda x: F.relu6(x + 3) / 6, aten.hardsigmoid.default),
        (lambda x: x * F.relu6(x + 3) / 6, aten.hardswish.default),
        (lambda x: x * (F.relu6(x + 3) * (1 / 6)), aten.hardswish.default),
        (lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), aten.gelu.default),
    ],
)
def test_activations_spelled_out(function, op):
    captured = graph_of(lambda _, x: function(x * 4), X)
    while run_passes(captured, unify_activations) != [0]:
        pass
    torch.testing.assert_close(captured(X), function(X * 4))
    assert ops(captured) == {op: 1, aten.mul.Tensor: 1}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(0, 5),
        lambda x: x * x.flip(3).sigmoid(),
        lambda x: F.relu6(x + 2) / 6,
        lambda x: x * F.relu6(x.flip(3) + 3) / 5,
    ],
)
def test_near_misses_of_activations(function):
    check(lambda _, x: function(x), (X,), (unify_activations,), 0)


# --- scales and shifts --------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_behind_a_convolution_or_linear_layer(affine):
    passes = (*BN, fold_into_previous)
    modules = {"conv": conv(3, groups=2, bias=affine), "bn": nn.BatchNorm2d(4, affine=affine)}
    left = check(lambda self, x: self.bn(self.conv(x)), (X,), passes, 1, **modules)
    assert set(left) == SCALED_WEIGHT | {zoo.conv2d.default}
    modules = {"fc": nn.Linear(6, 5), "bn": nn.BatchNorm1d(5)}
    left = check(lambda self, x: self.bn(self.fc(x)), (X[0, 0],), passes, 1, **modules)
    assert set(left) == SCALED_WEIGHT | {zoo.linear.default}


def test_what_is_behind_a_batch_norm_scales_the_weight_once_more():
    passes = (*BN, fold_into_previous, *AFFINE, fold_into_previous)
    modules = {"conv": conv(3), "bn": nn.BatchNorm2d(4)}
    left = check(lambda self, x: self.bn(self.conv(x)) * -3, (X,), passes, 1, **modules)
    assert left == {zoo.conv2d.default: 1, aten.mul.Tensor: 1}


def test_batch_norm_is_not_folded_into_what_others_read():
    def function(self, x):
        y = self.conv(x)
        return self.bn(y), y

    captured = graph_of(function, X, conv=conv(3), bn=nn.BatchNorm2d(4))
    assert run_passes(captured, *BN, fold_into_previous)[-1] == 0
    assert ops(captured)[zoo.scale_shift.default] == 1


def test_batch_norm_behind_a_linear_layer_may_scale_another_axis():
    modules = {"fc": nn.Linear(6, 4), "bn": nn.BatchNorm1d(4)}
    check(
        lambda self, x: self.bn(self.fc(x)), (X[:, :, 0],), (*BN, fold_into_previous), 0, **modules
    )


def test_statistics_of_the_batch_stay():
    captured = graph_of(
        lambda self, x: self.bn(x), X, bn=nn.BatchNorm2d(4, track_running_stats=False)
    )
    assert run_passes(captured, unify_batch_norm) == [0]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_batch_norm_in_front_of_a_convolution(groups):
    modules = {"bn": nn.BatchNorm2d(4), "conv": conv(3, groups=groups)}
    left = check(lambda self, x: self.conv(self.bn(x)), (X,), (*BN, fold_into_next), 1, **modules)
    assert set(left) == {zoo.conv2d.default}


def test_a_shift_does_not_pass_through_padding_but_a_scale_does():
    modules = {"bn": nn.BatchNorm2d(4), "conv": conv(3, padding=1)}
    check(lambda self, x: self.conv(self.bn(x)), (X,), (*BN, fold_into_next), 0, **modules)
    passes = (*AFFINE, fold_into_next)
    check(lambda self, x: self.conv(x * 1.7), (X,), passes, 1, conv=conv(3, padding=1))


def test_nothing_is_folded_through_an_activation():
    passes = (*BN, fuse_activation, fold_into_previous)
    modules = {"conv": conv(3), "bn": nn.BatchNorm2d(4)}
    check(lambda self, x: self.bn(self.conv(x).relu()), (X,), passes, 0, **modules)
    passes = (*BN, fuse_activation, fold_into_next)
    check(lambda self, x: self.conv(self.bn(x).relu()), (X,), passes, 0, **modules)


def test_layer_scale_is_folded():
    def function(self, x):
        return (self.conv(x) - 3) / 7 * self.gamma.weight.view(1, 4, 1, 1)

    passes = (fold_constants, *AFFINE, compose_affine, fold_into_previous)
    left = check(function, (X,), passes, 1, conv=conv(3), gamma=nn.Linear(4, 1))
    assert set(left) == SCALED_WEIGHT | {zoo.conv2d.default}


def test_a_scale_of_each_pixel_is_not_folded():
    passes = (*AFFINE, fold_into_previous)
    check(
        lambda self, x: self.conv(x) * self.by.weight,
        (X,),
        passes,
        0,
        conv=conv(3),
        by=nn.Linear(4, 4),
    )


def test_a_constant_that_broadcasts_the_map_is_no_scale():
    check(
        lambda self, x: x[:, :1] * self.by.weight.view(1, 4, 1, 1),
        (X,),
        AFFINE,
        0,
        by=nn.Linear(4, 1),
    )


# --- branches -----------------------------------------------------------------------------------


def repvgg(self, x):
    return self.bn1(self.conv3(x)) + self.bn2(self.conv1(x)) + self.bn3(x)


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 1), (4, 1), (1, 2)])
def test_branches_are_one_convolution(groups, stride):
    modules = {f"bn{i}": nn.BatchNorm2d(4) for i in (1, 2, 3)}
    modules["conv3"] = conv(3, stride, 1, groups=groups)
    modules["conv1"] = conv(1, stride, groups=groups)
    passes = (*BN, fold_into_previous, merge_branches)
    if stride == 1:
        left = check(repvgg, (X,), passes, 2, **modules)
        assert left == {zoo.conv2d.default: 1}
    else:
        check(lambda self, x: self.conv1(x) + self.conv3(x), (X,), passes, 1, **modules)


def test_the_input_itself_is_a_branch():
    passes = (*CONV, merge_branches)
    check(lambda self, x: x + self.conv(x), (X,), passes, 1, conv=conv(5, padding=2, groups=2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (conv(3, padding=1), conv(1, groups=4)),
        (conv(3, 2, 1), conv(2, 2)),
        (conv(3, padding=1), conv(3, padding=2, dilation=2)),
    ],
)
def test_branches_that_do_not_fit(one, other):
    passes = (*CONV, merge_branches)
    check(lambda self, x: self.a(x) + self.b(x), (X,), passes, 0, a=one, b=other)


def test_branches_on_other_inputs_or_with_other_readers():
    passes = (*CONV, merge_branches)
    modules = {"a": conv(3, padding=1), "b": conv(1)}
    check(lambda self, x: self.a(x) + self.b(x.flip(3)), (X,), passes, 0, **modules)

    def twice(self, x):
        y = self.b(x)
        return (self.a(x) + y) * y

    check(twice, (X,), passes, 0, **modules)
