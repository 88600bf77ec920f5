"""Evaluations of models whose answers are known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import zoo
from zoo.data.loader import Loader
from zoo.data.pipeline import eval_transform
from zoo.evaluation.bootstrap import intervals
from zoo.evaluation.classes import grouped, match_classes, readable
from zoo.evaluation.outcomes import Member, Outcomes, collect
from zoo.evaluation.report import Report, evaluate, evaluate_model, summarize
from zoo.evaluation.speed import measure_speed

sklearn = pytest.importorskip("sklearn.metrics")
pytest.importorskip("torchmetrics")


class Images(torch.utils.data.Dataset[Any]):
    """Images of 1x1 pixels, so that a linear model's answers are easily told."""

    def __init__(self, colours: Tensor, targets: Sequence[int], classes: Sequence[str]) -> None:
        self.images = colours.view(len(colours), -1, 1, 1)
        self.targets = torch.tensor(targets)
        self.classes = classes

    def __len__(self) -> int:
        return len(self.targets)


class Shows(nn.Module):
    """Takes the pixel's channels for logits, or for those of a permutation of the classes."""

    def __init__(self, scale: float = 1.0, order: Sequence[int] | None = None) -> None:
        super().__init__()
        self.scale, self.order = scale, order

    def forward(self, images: Tensor) -> Tensor:
        logits = self.scale * images.flatten(1)
        return logits if self.order is None else logits[:, list(self.order)]


def loader_of(dataset: Images, batch_size: int = 4) -> Loader:
    transform = eval_transform((3, 1, 1), mean=(0.0,) * 3, std=(1.0,) * 3, crop_pct=1.0)
    return Loader(dataset, batch_size, transform=transform)


@pytest.fixture
def dataset() -> Images:
    generator = torch.Generator().manual_seed(3)
    return Images(torch.rand(30, 3, generator=generator), [i % 3 for i in range(30)], "abc")


def test_figures(dataset: Images) -> None:
    report = evaluate_model(Shows(4.0), loader_of(dataset), dataset.classes)
    probabilities = (4 * dataset.images.flatten(1).double()).softmax(1)
    predicted = probabilities.argmax(1)
    figures = report.summary.figures
    truth = dataset.targets
    assert figures["top1"].value == pytest.approx(100 * sklearn.accuracy_score(truth, predicted))
    assert figures["top5"].value == 100
    assert figures["nll"].value == pytest.approx(sklearn.log_loss(truth, probabilities), rel=1e-5)
    assert figures["f1"].value == pytest.approx(
        100 * sklearn.f1_score(truth, predicted, average="macro")
    )
    assert figures["ece"].low is None
    for name in ("top1", "precision", "recall", "f1", "nll"):
        low, high = figures[name].low, figures[name].high
        assert low is not None
        assert high is not None
        assert low < figures[name].value < high
    assert report.outcomes.indices.tolist() == list(range(30))


def test_worst_mistakes_come_first(dataset: Images) -> None:
    report = evaluate_model(Shows(4.0), loader_of(dataset), dataset.classes)
    worst = report.worst(5)
    assert not report.outcomes.correct[worst].any()
    confidence = report.outcomes.probabilities[worst, 0]
    assert confidence.tolist() == sorted(confidence.tolist(), reverse=True)
    wrong = report.outcomes.probabilities[~report.outcomes.correct, 0]
    assert confidence[0] == wrong.max()
    mistake = report.mistake(int(worst[0]))
    assert mistake["class"] == dataset.classes[dataset.targets[mistake["index"]]]
    assert mistake["predicted"] != mistake["class"]
    assert mistake["probability"] > mistake["probability_of_class"]
    json.dumps(report.document())


def test_a_class_without_images(dataset: Images) -> None:
    dataset.targets[dataset.targets == 2] = 1
    report = evaluate_model(Shows(), loader_of(dataset), dataset.classes)
    rows = report.summary.rows()
    assert rows[2]["images"] == 0
    assert rows[2]["recall"] is rows[2]["f1"] is rows[2]["f1_low"] is None
    assert rows[2]["precision"] == 0  # some were taken for it
    assert report.summary.figures["f1"].value == pytest.approx((rows[0]["f1"] + rows[1]["f1"]) / 2)
    assert all(math.isfinite(figure.value) for figure in report.summary.figures.values())


def test_an_ensemble_averages_probabilities(dataset: Images) -> None:
    models = (Shows(9.0), Shows(2.0, order=(1, 0, 2)))
    members = [Member(str(i), model, loader_of(dataset)) for i, model in enumerate(models)]
    report = evaluate(members, dataset.classes)
    pixels = dataset.images.flatten(1).double()
    mean = ((9 * pixels).softmax(1) + (2 * pixels[:, [1, 0, 2]]).softmax(1)) / 2
    assert report.outcomes.predicted.tolist() == mean.argmax(1).tolist()
    expected = mean[range(30), dataset.targets]
    torch.testing.assert_close(report.outcomes.of_target.double(), expected, rtol=1e-5, atol=1e-6)
    alone = evaluate_model(models[1], loader_of(dataset), dataset.classes)
    assert torch.equal(report.by_member[1].best, alone.outcomes.best)


def test_groups_have_the_probability_of_their_classes(dataset: Images) -> None:
    groups = torch.tensor([0, 1, 0])
    members = [Member("", Shows(4.0), loader_of(dataset))]
    report = evaluate(members, dataset.classes, groups=groups, group_names=["ac", "b"])
    probabilities = (4 * dataset.images.flatten(1).double()).softmax(1)
    summed = torch.stack([probabilities[:, 0] + probabilities[:, 2], probabilities[:, 1]], 1)
    right = summed.argmax(1) == groups[dataset.targets]
    assert report.coarse is not None
    assert report.coarse.figures["top1"].value == pytest.approx(100 * float(right.double().mean()))
    assert report.coarse.figures["top1"].value > report.summary.figures["top1"].value
    assert report.document()["coarse"]["classes"][0]["class"] == "ac"


def test_columns_choose_the_outputs(dataset: Images) -> None:
    chosen = Images(dataset.images[:, :, 0, 0], (dataset.targets % 2).tolist(), ["c", "a"])
    member = Member("", Shows(), loader_of(chosen), torch.tensor([2, 0]))
    found = collect([member], 2).together
    probabilities = dataset.images.flatten(1)[:, [2, 0]].double().softmax(1)
    assert found.predicted.tolist() == probabilities.argmax(1).tolist()


def test_outputs_that_are_no_answer(dataset: Images) -> None:
    with pytest.raises(zoo.UsageError, match=r"outputs of \[3\], and there are 2 classes"):
        evaluate_model(Shows(), loader_of(dataset), "ab")
    dataset.images[13, 0] = math.nan
    with pytest.raises(zoo.ZooError, match="NaN for image 13: its weights are broken"):
        evaluate_model(Shows(), loader_of(dataset), dataset.classes)
    with pytest.raises(zoo.ZooError, match="no images to evaluate on"):
        evaluate_model(Shows(), [], dataset.classes)


def test_models_that_are_given_different_images(dataset: Images) -> None:
    class Reversed:
        def __iter__(self) -> Any:
            return reversed(list(loader_of(dataset)))

    members = [Member("", Shows(), loader_of(dataset)), Member("", Shows(), Reversed())]
    with pytest.raises(zoo.ZooError, match="given different images"):
        evaluate(members, dataset.classes)


def outcomes_of(targets: Sequence[int], predicted: Sequence[int]) -> Outcomes:
    images = len(targets)
    best = torch.tensor(predicted)[:, None]
    half = torch.full((images,), 0.5)
    return Outcomes(torch.arange(images), torch.tensor(targets), best, half[:, None], half, half)


def test_intervals_have_the_width_that_theory_gives() -> None:
    """Of 400 images 80 % right: the deviation of the share is sqrt(0.8 * 0.2 / 400) = 2 %."""
    targets = [i % 2 for i in range(400)]
    predicted = [t if i % 5 else 1 - t for i, t in enumerate(targets)]
    found = intervals(outcomes_of(targets, predicted), 2)
    low, high = found.figures["top1"]
    assert low == pytest.approx(0.8 - 1.96 * 0.02, abs=0.006)
    assert high == pytest.approx(0.8 + 1.96 * 0.02, abs=0.006)
    assert found.figures["nll"] == pytest.approx((0.5, 0.5))
    assert intervals(outcomes_of(targets, predicted), 2) == found
    wider = intervals(outcomes_of(targets[:100], predicted[:100]), 2).figures["top1"]
    assert wider[1] - wider[0] > 1.6 * (high - low)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_intervals_of_few_images(data: st.DataObject) -> None:
    labels = st.lists(st.integers(0, 3), min_size=1, max_size=6)
    targets = data.draw(labels)
    predicted = data.draw(st.lists(st.integers(0, 3), min_size=len(targets), max_size=len(targets)))
    summary = summarize(outcomes_of(targets, predicted), "abcd")
    for name in ("top1", "precision", "recall", "f1"):
        figure = summary.figures[name]
        assert figure.low is not None
        assert figure.high is not None
        assert 0 <= figure.low <= figure.high <= 100
    for row in summary.rows():
        assert (row["f1"] is None) == (row["images"] == 0)


@pytest.mark.parametrize(
    ("labels", "classes", "columns"),
    [
        (["a", "b"], ["a", "b"], None),
        (["a", "b"], ["b", "a"], [1, 0]),
        (["tench, Tinca tinca", "Great_White-Shark"], ["great white shark"], [1]),
        (["tench, Tinca tinca", "goldfish"], ["Tinca tinca"], [0]),
        (["crane", "crane", "x"], ["crane", "crane", "x"], None),
        (["x", "y"], ["0", "y"], None),
        (None, ["0", "1"], None),
    ],
)
def test_classes_that_fit(
    labels: list[str] | None, classes: list[str], columns: list[int] | None
) -> None:
    assert match_classes("m", 3 if len(labels or "") == 3 else 2, labels, "d", classes) == columns


def test_classes_of_wholly_different_names_are_told() -> None:
    with pytest.warns(UserWarning, match=r"no class of d \('0', '1'\) .* m knows \('x', 'y'\)"):
        assert match_classes("m", 2, ["x", "y"], "d", ["0", "1"]) is None


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["a", "b", "c"], ["a", "x"], "m has 3 classes and d 2, of which 'x' is not the model's"),
        (["a", "b", "c"], list("stuvw"), "'s', 't', 'u' and 2 more are not the model's"),
        (["a", "b", "c"], ["b", "a", "x"], "'x' is not the model's: name them as the model does"),
        (["crane", "crane", "x"], ["crane"], "m has several classes that are called 'crane'"),
        (["a, b", "c", "d"], ["a", "b"], "classes of d are the same to m: 'a'"),
        (None, ["0", "1"], "m has 3 classes and d 2"),
    ],
)
def test_classes_that_do_not_fit(
    labels: list[str] | None, classes: list[str], message: str
) -> None:
    with pytest.raises(zoo.UsageError, match=message):
        match_classes("m", 3, labels, "d", classes)


def test_wordnet_ids_are_read() -> None:
    pytest.importorskip("timm")
    assert readable(["n11939491", "n01440764"]) == ["daisy", "tench, Tinca tinca"]
    assert readable(["n11939491", "daisy"]) == ["n11939491", "daisy"]


def test_grouping_by_a_hierarchy() -> None:
    from zoo.data.datasets.hierarchy import Hierarchy

    words = {"c1": "pug", "c2": "tabby", "c3": "car", "d": "dog, domestic dog", "a": "animal"}
    above = {"c1": ["d"], "d": ["a"], "c2": ["a"]}
    tree = Hierarchy(["c1", "c2", "c3"], {**words, "e": "elf"}, above)
    classes = ["pug", "tabby", "car"]
    assert grouped(tree, ["domestic dog"], classes) == ([0, 1, 2], ["dog", "tabby", "car"])
    assert grouped(tree, ["animal"], classes) == ([0, 0, 1], ["animal", "car"])
    with pytest.raises(zoo.UsageError, match="belongs to"):
        grouped(tree, ["*"], classes)  # dog lies below animal
    with pytest.raises(zoo.UsageError, match="no class is below 'elf'"):
        grouped(tree, ["elf"], classes)
    with pytest.raises(zoo.UsageError, match=r"nothing called 'dogs' .* mean dog"):
        grouped(tree, ["dogs"], classes)


def test_speed_is_that_of_the_model() -> None:
    class Slow(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            import time

            time.sleep(0.002 * len(images))
            return images

    speed = measure_speed([Slow(), Slow()], [torch.zeros(8, 3, 2, 2)] * 2)
    # A sleep may take longer on a busy machine, never less.
    assert 4 <= speed.latency_ms <= speed.latency_p95_ms
    assert 50 < speed.throughput <= 250
    assert speed.batch_size == 8


def _report(classes: int, images: int) -> tuple[Report, Images]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(classes, (images,), generator=generator)
    noise = torch.randn(images, classes, generator=generator)
    logits = noise + 3 * torch.nn.functional.one_hot(targets, classes)
    probabilities = logits.softmax(1)
    values, best = probabilities.topk(min(5, classes))
    of_target = probabilities[range(images), targets]
    outcomes = Outcomes(torch.arange(images), targets, best, values, of_target, -of_target.log())
    names = [f"<b>class</b> {i}, $x_{i}$ & co" for i in range(classes)]
    dataset = Images(torch.rand(images, 3, generator=generator), targets.tolist(), names)
    return Report(summarize(outcomes, names), outcomes, (outcomes,), 1.0), dataset


@pytest.mark.parametrize("classes", [2, 10, 40, 300])
def test_page(classes: int, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    from html.parser import HTMLParser

    from zoo.evaluation.page import render

    report, dataset = _report(classes, 500)
    header = {
        "model": "m", "dataset": "d</script>", "split": "val", "images": 500, "classes": classes,
        "level": [], "unreadable": [], "optimized": False, "images_per_second": 1.0, "cpu": "c",
        "versions": {"zoo": "1"}, "date": "2000-01-01T00:00:00", "command": "zoo evaluate",
    }  # fmt: skip
    speed = {
        "latency_ms": 1.0, "latency_p95_ms": 2.0, "throughput": 3.0, "batch_size": 4,
        "device": "cpu", "threads": 1,
    }  # fmt: skip
    document = {"header": header, "results": [], "speed": speed}
    page = render(document, report, dataset)
    assert page.count("<script") == page.count("</script>") == (2 if classes > 25 else 1)
    assert "<b>class</b>" not in page

    class Check(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.ids: list[str] = []

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            for name, value in attributes:
                if name in ("src", "href", "xlink:href"):
                    assert value is not None
                    assert value.startswith(("data:", "#")), value
                if name == "id":
                    self.ids.append(str(value))

    check = Check()
    check.feed(page)
    assert len(set(check.ids)) == len(check.ids)
    assert "@import" not in page
    assert "url(http" not in page
    wrong = int((~report.outcomes.correct).sum())
    assert page.count('class="card"') == min(24, wrong)


def test_names_in_charts_are_text() -> None:
    pytest.importorskip("matplotlib")
    from html import unescape

    from zoo.evaluation.plots import classes_chart

    names = ["猫", "العربية", "a $x$ b_{", "$\\frac", "<b>&amp;", "one\udce9"]
    rows = [{"class": name, "f1": 50.0, "f1_low": 20.0, "f1_high": 80.0} for name in names]
    chart = classes_chart(rows)
    for name in (*names[:-1], "one?"):
        assert f">{name}</text>" in unescape(chart), name
    assert "<b>" not in chart


def test_heat_map_keeps_what_is_there() -> None:
    import base64
    import io

    from PIL import Image

    from zoo.evaluation.pictures import heat_map, similarity_order

    confusion = torch.eye(600, dtype=torch.int64) * 9
    confusion[500, 3] = 1
    order = similarity_order(confusion)
    assert sorted(order.tolist()) == list(range(600))
    places = np.argsort(order)
    assert abs(int(places[500]) - int(places[3])) == 1  # taken for each other: neighbours
    url = heat_map(confusion, np.arange(600))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
    assert pixels.shape == (200, 200, 4)
    shown = pixels[..., 3] > 0
    assert shown.sum() == 201
    assert shown[166, 1]
