"""By what a run trains: as asked, or by what is faster; and that choosing changes nothing else."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch
import yaml
from runs import weights
from torch import fx, nn

from zoo.errors import UsageError
from zoo.training.fusing import choose
from zoo.training.session import resume, train

SIZE = (1, 8, 8)


class Net(nn.Module):
    """A network that sleeps, in PyTorch or in its graph."""

    def __init__(self, asleep: bool = False, traced: bool = False) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.drop, self.fc = nn.Dropout(), nn.Linear(4, 10)
        self.sleep = Sleep()
        self.asleep, self.traced = asleep, traced

    def forward(self, x):
        if isinstance(x, fx.Proxy):
            x = self.sleep(x) if self.traced else x
        elif self.asleep:
            x = self.sleep(x)
        return self.fc(self.drop(torch.relu(self.bn(self.conv(x)))).mean((2, 3)))


class Sleep(nn.Module):
    def forward(self, x):
        time.sleep(0.05)
        return x


class Disturbed(Net):
    """A network of which two steps out of three are slow in its graph, and each one elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.disturbance = Disturbance()

    def forward(self, x):
        x = self.disturbance(x) if isinstance(x, fx.Proxy) else self.sleep(x)
        return super().forward(x)


class Disturbance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        time.sleep(0.1 if self.calls % 3 else 0.02)
        return x


class Other(Net):
    """A network that is another one in its graph, and does not say so."""

    def forward(self, x):
        return super().forward(x if isinstance(x, torch.Tensor) else x * 2)


class Detached(Net):
    """A network that has other gradients in its graph."""

    def forward(self, x):
        y = torch.relu(self.bn(self.conv(x))).mean((2, 3))
        return self.fc(y if isinstance(x, torch.Tensor) else y.detach())


def test_the_faster_one_is_chosen(config):
    auto = config(ops="auto")
    net = Net(asleep=True)
    ops, module, told = choose(auto, net, SIZE, "cpu")
    assert (ops, module.fused_chains) == ("fused", ["conv + batch_norm + relu"])
    assert module.conv is net.conv
    assert told.startswith("trains by fused ops: a step took ")
    net = Net(traced=True)
    ops, module, told = choose(auto, net, SIZE, "cpu")
    assert (ops, module) == ("torch", net)
    assert told.startswith("trains by PyTorch's ops: fused, a step took ")


def test_what_disturbs_most_steps_does_not_decide(config):
    ops, _, told = choose(config(ops="auto"), Disturbed(), SIZE, "cpu")
    assert ops == "fused", told


def test_a_slow_step_is_measured_on_fewer_images(config):
    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.02 * len(x))
            return x

    net = Net()
    net.drop = Slow()
    start = time.monotonic()
    choose(config(ops="auto", batch_size=1000), net, SIZE, "cpu")
    assert time.monotonic() - start < 15  # 20 s a step


def test_choosing_changes_nothing_else(config):
    net = Net()
    net.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    for ops in ("auto", "fused"):
        choose(config(ops=ops), net, SIZE, "cpu")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module.training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (str(np.random.get_state()), random.getstate()) == states[1:]


def test_elsewhere_than_on_the_cpu_in_float32_it_is_pytorchs(config):
    net = Net(asleep=True)
    assert choose(config(ops="auto"), net, SIZE, "cuda") == ("torch", net, None)
    assert choose(config(ops="auto", amp=True), net, SIZE, "cpu") == ("torch", net, None)
    assert choose(config(ops="torch"), net, SIZE, "cpu") == ("torch", net, None)
    ops, _, told = choose(config(ops="fused", amp=True), net, SIZE, "cpu")
    assert (ops, told) == (
        "fused", "--ops fused is for the CPU in float32: here the same ops are PyTorch's",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Other(), "Other computes something else when it is traced"),
        (Detached(), "Detached computes something else when it is traced"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "Sequential has no convolution with"),
    ],
    ids=["other", "gradients", "nothing"],
)
def test_what_cannot_be_fused(config, net, reason):
    ops, module, told = choose(config(ops="auto"), net, SIZE, "cpu")
    assert (ops, module) == ("torch", net)
    assert told.startswith(f"trains by PyTorch's ops: {reason}")
    with pytest.raises(UsageError, match=f"{reason}.*: leave out --ops fused"):
        choose(config(ops="fused"), net, SIZE, "cpu")


def test_the_choice_is_told_and_kept(config, tmp_path, capfd):
    loss = {"oddity/interrupting": {"after": 4}}
    assert train(config(ops="auto", loss=loss), tmp_path / "a").signal
    assert capfd.readouterr().err.count("trains by ") == 1
    path = tmp_path / "a" / "args.yaml"
    chosen = yaml.safe_load(path.read_text())["ops"]
    assert chosen in ("fused", "torch")
    outcome = resume(tmp_path / "a", {"ops": "auto"})
    while outcome.signal:
        outcome = resume(tmp_path / "a", {})
    assert "a step took" not in capfd.readouterr().err
    other = {"fused": "torch", "torch": "fused"}[chosen]
    with pytest.raises(UsageError, match=f"ops was '{chosen}', not '{other}'"):
        resume(tmp_path / "a", {"ops": other})


def test_runs_of_before_go_on_by_pytorchs(config, tmp_path, capfd):
    train(config(epochs=1, ops="torch"), tmp_path / "a")
    path = tmp_path / "a" / "args.yaml"
    path.write_text(path.read_text().replace("ops: torch\n", ""))
    assert not resume(tmp_path / "a", {"ops": "torch"}).trained
    with pytest.raises(UsageError, match="ops was 'torch', not 'fused'"):
        resume(tmp_path / "a", {"ops": "fused"})


@pytest.mark.parametrize("model", ["cifar/small_cnn", "oddity/restless"])
def test_fused_runs_go_on_bit_for_bit(config, tmp_path, model):
    settings = {"ops": "fused", "model": model, "model_ema": True, "mixup": 0.2, "clip_grad": 1.0}
    loss = "oddity/soft_interrupting"
    train(config(**settings, loss={loss: {"after": 1000}}), tmp_path / "whole")
    outcome = train(config(**settings, loss={loss: {"after": 4}}), tmp_path / "broken")
    assert outcome.signal
    while outcome.signal:
        outcome = resume(tmp_path / "broken", {})
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    assert yaml.safe_load((tmp_path / "whole" / "args.yaml").read_text())["ops"] == "fused"


def test_fused_and_plain_runs_are_the_same_but_for_rounding(config, tmp_path):
    for ops in ("fused", "torch"):
        train(config(ops=ops, model="oddity/restless", opt="sgd", epochs=1), tmp_path / ops)
    ours, theirs = (weights(tmp_path / ops) for ops in ("fused", "torch"))
    assert ours.keys() == theirs.keys()
    for name in ours:
        values = (torch.frombuffer(bytearray(each[name]), dtype=torch.float32)
                  for each in (ours, theirs) if "num_batches" not in name)  # fmt: skip
        for one, other in zip(*[iter(values)] * 2, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_half_precision(config, tmp_path):
    train(config(ops="fused", amp=True, model="oddity/restless", epochs=1), tmp_path / "a")
    assert weights(tmp_path / "a")


def test_a_classifier_alone_has_nothing_to_fuse(config, tmp_path, capfd):
    train(config(ops="auto", freeze="backbone", epochs=1), tmp_path / "a")
    assert "trains by" not in capfd.readouterr().err
    with pytest.raises(UsageError, match="leave out --ops fused"):
        train(config(ops="fused", freeze="backbone"), tmp_path / "b")
