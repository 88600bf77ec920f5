"""ImageNet in its own layout: train folders, flat or sorted validation, the devkit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.data.datasets import open_dataset, splits

savemat = pytest.importorskip("scipy.io", reason="needs the extra [demo]").savemat

# ILSVRC2012_ID, WNID, words, children: classes first, then what stands above them.
SYNSETS = [
    (1, "n02119789", "kit fox, Vulpes macrotis", []),
    (2, "n02100735", "English setter", []),
    (3, "n02012849", "crane", []),
    (4, "n03126707", "crane", []),
    (5, "n02084071", "dog, domestic dog, Canis familiaris", [2]),
    (6, "n02075296", "carnivore", [1, 5]),
    (7, "n00015388", "animal, animate being", [6, 3]),
    (8, "n00001740", "entity", [7, 4]),
]
WNIDS = ["n02012849", "n02100735", "n02119789", "n03126707"]  # sorted: the order of the classes


def devkit(root: Path, truth: list[int]) -> None:
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"),
             ("num_children", "O"), ("children", "O"), ("wordnet_height", "O"),
             ("num_train_images", "O")]  # fmt: skip
    rows = np.empty((len(SYNSETS), 1), dtype=kinds)
    for row, (number, wnid, words, children) in zip(rows[:, 0], SYNSETS, strict=True):
        row["ILSVRC2012_ID"], row["WNID"], row["words"], row["gloss"] = number, wnid, words, "..."
        row["num_children"], row["children"] = len(children), np.array(children, np.uint16)
        row["wordnet_height"], row["num_train_images"] = 0, 0 if children else 1300
    savemat(folder / "meta.mat", {"synsets": rows})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{n}\n" for n in truth))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), "green").save(path, "JPEG")


def write(root: Path, flat: bool = True, with_devkit: bool = True) -> Path:
    for wnid in WNIDS:
        for number in (10, 9):
            picture(root / "train" / wnid / f"{wnid}_{number}.JPEG")
    truth = [3, 1, 4, 2, 2]
    for number, label in enumerate(truth, start=1):
        name = f"ILSVRC2012_val_{number:08}.JPEG"
        picture(root / "val" / name if flat else root / "val" / SYNSETS[label - 1][1] / name)
    if with_devkit:
        devkit(root, truth)
    return root


def labels(data) -> list[str]:
    return [data.wnids[target] for target in data.targets]


@pytest.mark.parametrize("flat", [True, False])
def test_train_and_validation(tmp_path: Path, flat: bool) -> None:
    root = write(tmp_path, flat)
    assert splits("imagenet", root) == ("train", "val")
    train = open_dataset("imagenet", split="train", root=root)
    val = open_dataset("zoo/imagenet", split="val", root=root)
    assert list(train.wnids) == list(val.wnids) == WNIDS
    assert train.classes == val.classes == ["crane", "English setter", "kit fox, Vulpes macrotis",
                                            "crane"]  # fmt: skip
    assert labels(train) == [wnid for wnid in WNIDS for _ in range(2)]
    named = {os.path.basename(path)[15:23]: wnid
             for path, wnid in zip(val.paths, labels(val), strict=True)}  # fmt: skip
    assert named == {"00000001": "n02012849", "00000002": "n02119789", "00000003": "n03126707",
                     "00000004": "n02100735", "00000005": "n02100735"}  # fmt: skip
    assert val[0][0].size == (20, 16)


def test_hierarchy(tmp_path: Path) -> None:
    above = open_dataset("imagenet", split="val", root=write(tmp_path)).hierarchy
    assert above.below("dog") == (1,)
    assert above.below("carnivore") == (1, 2)
    assert above.below("animal") == above.below("n00015388") == (0, 1, 2)
    assert above.below("entity") == (0, 1, 2, 3)
    assert above.below("English setter") == (1,)
    assert above.parents("dog, domestic dog, Canis familiaris") == ("n02075296",)
    assert above.parents("entity") == ()
    assert above.groups(["dog", "n02012849"]) == [1, 0, -1, -1]
    for name, text in (("crane", r"may be any of n02012849 \(crane\); n03126707"),
                       ("carnivor", "did you mean carnivore"),
                       ("thing", "nothing called 'thing'")):  # fmt: skip
        with pytest.raises(zoo.UsageError, match=text):
            above.below(name)
    with pytest.raises(zoo.UsageError, match="n02100735 belongs to dog and carnivore: leave one"):
        above.groups(["dog", "carnivore"])


def test_without_the_devkit_timm_has_the_words(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    val = open_dataset("imagenet", split="val", root=write(tmp_path, False, False))
    assert val.classes == ["crane", "English setter", "kit fox, Vulpes macrotis", "crane"]
    assert val.hierarchy is None


def test_without_devkit_and_timm_the_ids_are_the_names(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm.data", None)
    val = open_dataset("imagenet", split="val", root=write(tmp_path, False, False))
    assert val.classes == WNIDS


def test_a_subset_has_the_classes_of_its_train_folder(tmp_path: Path) -> None:
    root = write(tmp_path)
    for name in ("n02012849", "n03126707"):
        (root / "train" / name).rename(root / name)
    val = open_dataset("imagenet", split="val", root=root)
    assert list(val.wnids) == ["n02100735", "n02119789"]
    assert labels(val) == ["n02119789", "n02100735", "n02100735"]
    assert val.hierarchy.below("animal") == (0, 1)


def test_validation_alone_has_the_classes_of_the_devkit(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "train").rename(root / "elsewhere")
    assert list(open_dataset("imagenet", split="val", root=root).wnids) == WNIDS
    (root / "val" / "ILSVRC2012_val_00000003.JPEG").unlink()
    assert len(open_dataset("imagenet", split="val", root=root)) == 4


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path))
    with pytest.raises(
        zoo.DataError, match=r"imagenet/train: get the archives at https://image-net"
    ):
        open_dataset("imagenet")
    root = write(tmp_path / "imagenet", with_devkit=False)
    with pytest.raises(
        zoo.DataError, match=r"lie in no class folders, and .* cannot be read: unpack"
    ):
        open_dataset("imagenet", split="val")
    devkit(root, [3, 1])
    with pytest.raises(zoo.DataError, match=r"00000003.JPEG: .* from 1 to 2, as ILSVRC2012_val_"):
        open_dataset("imagenet", split="val")
    data = root / "ILSVRC2012_devkit_t12" / "data"
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n999\n1\n1\n")
    with pytest.raises(zoo.DataError, match="cannot be read: unpack"):
        open_dataset("imagenet", split="val")
    (data / "meta.mat").write_bytes((data / "meta.mat").read_bytes()[:300])
    with pytest.raises(zoo.DataError, match=r"meta.mat is damaged .*: unpack ILSVRC2012_devkit"):
        open_dataset("imagenet", split="train")
