"""A contact sheet: some images of each class in one picture, with what is odd about them marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from zoo.data.check.report import Report
from zoo.data.check.scan import picture
from zoo.data.images import ImageError

TILE = 96
COLUMNS = 10
ROWS = 30  # classes; of more, every n-th is shown
_DOUBTS = 3 * COLUMNS

_GAP = 8
_MARGIN = 24
_LABEL = 168
_CAPTION = 34
_WHITE, _INK, _FAINT, _TRAY = "white", "#1a1a1a", "#767676", "#efefef"
_DOUBT, _LEAK, _DIFFER, _TWICE = "#d32f2f", "#f57c00", "#8e24aa", "#1976d2"
_LEGEND = {
    _DOUBT: "label in doubt",
    _LEAK: "in another split too",
    _DIFFER: "there under another label too",
    _TWICE: "there twice",
}
"""Colour of a frame -> what it means, the gravest first."""
_GRAVITY = tuple(_LEGEND)


def contact_sheet(report: Report, datasets: Mapping[str, Any]) -> Image.Image:
    """Draw the sheet, RGB.

    A row holds images of a class, those with something odd first: framed in red where a model
    contradicts the label, in orange where the image is in another split too, in purple where it is
    there under another label, in blue where it is there twice. Below are the labels that the model
    contradicts most.

    Args:
        datasets: by split, as they were scanned.
    """
    return _Sheet(report, datasets).draw()


class _Sheet:
    def __init__(self, report: Report, datasets: Mapping[str, Any]) -> None:
        self.report = report
        self.datasets = datasets
        self.marks = _marks(report)
        self.by_class: dict[int, list[int]] = {}
        for number, sample in enumerate(report.samples):
            if sample.look is not None:
                self.by_class.setdefault(sample.target, []).append(number)
        step = -(-len(report.classes) // ROWS)
        self.rows = list(range(0, len(report.classes), max(step, 1)))
        self.doubts = list(report.doubts or ())[:_DOUBTS]
        self.title, self.text, self.small = (ImageFont.load_default(s) for s in (22, 14, 12))

    def draw(self) -> Image.Image:
        width = 2 * _MARGIN + _LABEL + COLUMNS * (TILE + _GAP) - _GAP
        doubt_rows = -(-len(self.doubts) // COLUMNS)
        height = _MARGIN + 70 + len(self.rows) * (TILE + _GAP) + _MARGIN
        height += doubt_rows * (TILE + _CAPTION + _GAP) + (48 if doubt_rows else 0)
        self.canvas = Image.new("RGB", (width, height), _WHITE)
        self.pen = ImageDraw.Draw(self.canvas)
        self._head(width)
        y = _MARGIN + 70
        for target in self.rows:
            self._row(target, y)
            y += TILE + _GAP
        if self.doubts:
            self.pen.text((_MARGIN, y + 12), "Labels that the model contradicts", _INK, self.text)
            y += 48
        for place, doubt in enumerate(self.doubts):
            x = _MARGIN + _LABEL + (place % COLUMNS) * (TILE + _GAP)
            top = y + place // COLUMNS * (TILE + _CAPTION + _GAP)
            self._tile(doubt.sample, x, top)
            label = f"label {self.report.classes[self.report.samples[doubt.sample].target]}"
            said = f"{100 * doubt.probability:.0f} % {self.report.classes[doubt.predicted]}"
            self._fitted(x, top + TILE + 3, label, TILE, self.small, _FAINT)
            self._fitted(x, top + TILE + 17, said, TILE, self.small, _DOUBT)
        return self.canvas

    def _head(self, width: int) -> None:
        report = self.report
        self._fitted(_MARGIN, _MARGIN - 6, report.name, width - 2 * _MARGIN, self.title, _INK)
        counts = ", ".join(f"{split} {sum(of):,}" for split, of in report.counts().items())
        classes = f"{len(report.classes):,} classes"
        if len(self.rows) < len(report.classes):
            classes += f", of which {len(self.rows)} are shown"
        line = f"{classes}; images: {counts}"
        self.pen.text((_MARGIN, _MARGIN + 24), line, _FAINT, self.text)
        x = _MARGIN
        for colour, what in _LEGEND.items():
            if colour in self.marks.values():
                self.pen.rectangle((x, _MARGIN + 48, x + 12, _MARGIN + 60), outline=colour, width=3)
                self.pen.text((x + 18, _MARGIN + 46), what, _FAINT, self.small)
                x += 18 + int(self.pen.textlength(what, self.small)) + 20

    def _row(self, target: int, y: int) -> None:
        numbers = self.by_class.get(target, [])
        total = sum(of[target] for of in self.report.counts().values())
        name, count = self.report.classes[target], f"{total:,} images"
        self._fitted(_MARGIN, y + 30, name, _LABEL - 16, self.text, _INK)
        self.pen.text((_MARGIN, y + 50), count, _FAINT, self.small)
        for place, number in enumerate(_chosen(numbers, self.marks)):
            self._tile(number, _MARGIN + _LABEL + place * (TILE + _GAP), y)

    def _tile(self, number: int, x: int, y: int) -> None:
        sample = self.report.samples[number]
        box = (x, y, x + TILE - 1, y + TILE - 1)
        self.pen.rectangle(box, fill=_TRAY)
        try:
            image = _fit(picture(self.datasets[sample.split], sample.index))
        except ImageError:  # it was there a moment ago
            return
        self.canvas.paste(image, (x + (TILE - image.width) // 2, y + (TILE - image.height) // 2))
        if number in self.marks:
            frame = (x - 3, y - 3, x + TILE + 2, y + TILE + 2)
            self.pen.rectangle(frame, outline=self.marks[number], width=3)

    def _fitted(self, x: int, y: int, text: str, width: int, font: Any, colour: str) -> None:
        """Write a line, cut short where it is too wide."""
        shown = text
        while shown and self.pen.textlength(shown, font) > width:
            shown = shown[:-2].rstrip(".") + "."
        self.pen.text((x, y), shown, colour, font)


def _marks(report: Report) -> dict[int, str]:
    """Return the colour of each sample that is marked; the gravest counts."""
    marks: dict[int, str] = {}
    for group in report.groups:
        for number in group.samples:
            colour = _LEAK if group.across else _DIFFER if group.differ else _TWICE
            marks[number] = min(colour, marks.get(number, colour), key=_GRAVITY.index)
    return {**marks, **{doubt.sample: _DOUBT for doubt in report.doubts or ()}}


def _chosen(numbers: Sequence[int], marks: Mapping[int, str]) -> list[int]:
    """Return what a row shows: up to half of it marked images, the others evenly spread."""
    marked = sorted((n for n in numbers if n in marks), key=lambda n: _GRAVITY.index(marks[n]))
    odd = marked[: COLUMNS // 2]
    plain = [number for number in numbers if number not in odd]
    room = min(COLUMNS - len(odd), len(plain))
    return odd + [plain[place * len(plain) // room] for place in range(room)]


def _fit(image: Image.Image) -> Image.Image:
    """Scale an image to the tile; a small one by a whole factor, so that its pixels show."""
    image = image.convert("RGB")
    longest = max(image.size)
    factor = TILE // longest
    if factor >= 3:
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    size = (max(1, image.width * TILE // longest), max(1, image.height * TILE // longest))
    return image.resize(size, Image.Resampling.LANCZOS)
