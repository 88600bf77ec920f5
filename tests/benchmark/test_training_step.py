"""benchmarks/training_step.py: how a step's profile is read."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd.profiler import record_function

from zoo.nn import fuse_for_training

FILE = Path(__file__).parents[2] / "benchmarks" / "step" / "profiling.py"


@pytest.fixture(scope="module")
def profiling(load_script):
    return load_script(FILE)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("aten::conv2d", "conv2d"),
        ("autograd::engine::evaluate_function: ConvolutionBackward0", "conv2d"),
        ("autograd::engine::evaluate_function: MaxPool2DWithIndicesBackward0", "max_pool2d"),
        ("autograd::engine::evaluate_function: NllLossBackward0", "cross_entropy_loss"),
        (
            "autograd::engine::evaluate_function: torch::autograd::CppNode<zoo::ops::autograd::"
            "(anonymous namespace)::Conv2dMaxPool2Function>",
            "conv2d_pool",
        ),
        (
            "autograd::engine::evaluate_function: torch::autograd::AccumulateGrad",
            "accumulate gradients",
        ),
        ("Optimizer.step#Adam.step", "adam"),
        ("Optimizer.zero_grad#Adam.zero_grad", "adam zero_grad"),
    ],
)
def test_forward_and_backward_have_one_name(profiling, event, kind):
    assert profiling.kind_of(event) == kind


def test_medians_over_steps_count_what_a_step_lacks_as_nothing(profiling):
    bar = profiling.Bar
    steps = [
        [bar("relu", "forward", 0.0, 1.0), bar("relu", "forward", 1.0, 2.0)],
        [bar("relu", "forward", 0.0, 5.0), bar("conv2d", "backward", 5.0, 9.0)],
        [bar("relu", "forward", 0.0, 4.0)],
    ]
    assert profiling.by_kind(steps) == {"relu": {"forward": 4.0}, "conv2d": {"backward": 0.0}}


def test_a_profile_has_the_ops_of_forward_backward_and_optimizer(profiling):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    net = net.append(nn.Linear(36, 2)).to(memory_format=torch.channels_last)
    fused = fuse_for_training(net).train()
    optimizer = torch.optim.Adam(net.parameters())
    images = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)

    def step():
        forward, backward, update = profiling.PHASES
        with record_function(forward):
            loss = nn.functional.cross_entropy(fused(images), torch.tensor([0, 1]))
        with record_function(backward):
            loss.backward()
        with record_function(update):
            optimizer.step()

    found = profiling.profile([step, step])
    assert {"forward", "backward"} == set(found["ops"]["conv2d_pool"])
    assert set(found["ops"]["adam"]) == {"optimizer"}
    assert len(found["step_ms"]) == 2
    starts = [bar.start_ms for bar in found["timeline"]]
    assert starts == sorted(starts)
