"""Data sets by name and by path: folders, CSV files, what they refuse, and fingerprints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

import zoo
from zoo.data.datasets import fingerprint, open_dataset, splits, validation_split
from zoo.data.datasets.base import ImagesInMemory
from zoo.data.images import ImageError


def picture(path: Path, colour: str = "red", size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def tree(root: Path, *names: str) -> Path:
    for name in names:
        picture(root / name)
    return root


def relative(data, root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in data.paths]


def message(error: pytest.ExceptionInfo[zoo.ZooError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- folders ---------------------------------------------------------------------------------


def test_folder_of_classes_is_the_split_train_in_torchvisions_order(tmp_path: Path) -> None:
    names = ("b/2.png", "b/10.png", "b/sub/1.jpg", "B/x.jpeg", "a1/z.bmp", "a10/q.png", "a/y.png")
    root = tree(tmp_path, *names)
    (root / "b" / "notes.txt").write_text("no image")
    tree(root, ".cache/c.png", "b/.hidden.png")
    data = open_dataset(str(root))
    assert splits(str(root)) == ("train",)

    def visible(path: str) -> bool:
        return "/." not in path and not path.endswith(".txt")

    theirs = ImageFolder(str(root), is_valid_file=visible, allow_empty=True)
    assert data.classes == [name for name in theirs.classes if name != ".cache"]
    mine = {(path, data.classes[t]) for path, t in zip(data.paths, data.targets, strict=True)}
    assert mine == {(path, theirs.classes[t]) for path, t in theirs.samples}
    assert relative(data, root)[-3:] == ["b/10.png", "b/2.png", "b/sub/1.jpg"]
    assert data.targets.dtype == torch.int64


def test_items_are_upright_rgb_and_transformed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode, name in (("L", "grey"), ("P", "palette"), ("RGBA", "alpha"), ("CMYK", "ink"),
                       ("I;16", "deep")):  # fmt: skip
        suffix = "jpg" if mode == "CMYK" else "png"
        path = tmp_path / "some" / f"{name}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.new(mode, (12, 10)).save(path, exif=exif)
    data = open_dataset(str(tmp_path))
    assert {(image.mode, image.size) for image, _ in data} == {("RGB", (10, 12))}
    sizes = open_dataset(str(tmp_path), transform=lambda image: image.size)
    assert sizes[0] == ((10, 12), 0)


def test_folders_of_splits_share_their_classes(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/a/1.png", "train/c/1.png", "val/c/1.png", "val/b/1.png")
    (root / "annotations").mkdir()
    assert splits(str(root)) == ("train", "val")
    assert validation_split(splits(str(root))) == "val"
    train, val = (open_dataset(str(root), split=split) for split in ("train", "val"))
    assert train.classes == val.classes == ["a", "b", "c"]
    assert (train.targets.tolist(), val.targets.tolist()) == ([0, 2], [1, 2])


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    root = tree(tmp_path, "car/1.png", "train/1.png", "train/night/2.png")
    assert splits(str(root)) == ("train",)
    assert open_dataset(str(root)).classes == ["car", "train"]


def test_a_folder_by_the_registrys_name(tmp_path: Path) -> None:
    root = tree(tmp_path, "test/a/1.png", "test/b/1.png", "train/a/1.png")
    assert splits("folder", root) == ("train", "test")
    assert len(open_dataset("zoo/folder", split="test", root=root)) == 2
    with pytest.raises(zoo.UsageError, match="has no split 'val'; there are train, test"):
        open_dataset("folder", split="val", root=root)
    with pytest.raises(zoo.UsageError, match="--data-dir"):
        open_dataset("folder")


def test_links_are_followed_once(tmp_path: Path) -> None:
    root = tree(tmp_path / "data", "a/1.png")
    tree(tmp_path / "elsewhere", "2.png")
    (root / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(root / "a")
    assert len(open_dataset(str(root))) == 2


@pytest.mark.parametrize(
    ("names", "folders", "split", "text"),
    [
        ((), (), "train", "has no class folders: put the images of each class into a folder"),
        (("1.png", "2.png"), (), "train", "has no class folders"),
        (("train/a/1.png",), ("val",), "val", "val has no class folders"),
        (("train/a/1.png",), ("train/b",), "train", "b holds no images"),
        (("train/a/1.png", "train/b/1.png"), ("val/a",), "val", "a holds no images"),
    ],
)  # fmt: skip
def test_folders_without_images(tmp_path: Path, names, folders, split, text) -> None:
    root = tree(tmp_path, *names)
    for folder in folders:
        (root / folder).mkdir(parents=True)
    with pytest.raises(zoo.DataError, match=text) as error:
        open_dataset(str(root), split=split)
    message(error)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nowhere", "there is no data set 'nowhere'; see zoo list-datasets, or name a folder"),
        ("digts", "did you mean zoo/digits?"),
        ("./nowhere", "./nowhere: no such file or folder"),
        ("labels.csv", "labels.csv: no such file or folder"),
        (__file__, "neither a folder of class folders nor a .csv file"),
    ],
)
def test_what_is_no_data_set(name: str, text: str) -> None:
    for function in (open_dataset, splits):
        with pytest.raises(zoo.UsageError) as error:
            function(name)
        assert text in message(error)


def test_a_path_takes_neither_root_nor_download(tmp_path: Path) -> None:
    root = str(tree(tmp_path, "a/1.png"))
    with pytest.raises(zoo.UsageError, match="is for data sets with names"):
        open_dataset(root, root="elsewhere")
    with pytest.raises(zoo.UsageError, match="takes no download"):
        open_dataset(root, download=True)


# --- CSV -------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    tree(tmp_path, "images/a.png", "images/b.png", "c d.png")
    file = tmp_path / "labels.csv"
    file.write_text(
        "\ufeffImage, Label ,Split,age\nimages/a.png,10,train,3\n\n"
        f'{tmp_path}/images/b.png,9,train,\n"c d.png",9,val,4\n'
    )
    assert splits(str(file)) == ("train", "val")
    train, val = (open_dataset(str(file), split=split) for split in ("train", "val"))
    assert train.classes == val.classes == ["9", "10"]
    assert train.targets.tolist() == [1, 0]
    assert relative(val, tmp_path) == ["c d.png"]
    assert val[0][0].size == (12, 10)
    assert splits("csv", file) == ("train", "val")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_with_other_separators_and_words_as_labels(tmp_path: Path, separator: str) -> None:
    tree(tmp_path, "a.png", "b,c.png")
    file = tmp_path / "labels.csv"
    rows = (("filename", "class"), ("a.png", "zebra"), ("b,c.png", "ant"))
    file.write_text("\n".join(separator.join(row) for row in rows))
    data = open_dataset(str(file))
    assert (data.classes, data.targets.tolist()) == (["ant", "zebra"], [1, 0])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "has no column path or image or file or filename: its first line must name the"),
        ("path,breed\na.png,cat", "has no column label or class: its first line must name the "
         "columns (it names path, breed)"),
        ("a.png,cat\n", "has no column path"),
        ("path,label\n", "holds no images"),
        ("path,label\na.png,cat\na.png,\n", "line 3 has no label: fill it in or delete the line"),
        ("path,label\na.png,cat\n,dog\n", "line 3 has no image"),
        ("path,label\na.png\n", "line 2 has no label"),
        ("path,label,split\na.png,cat,\n", "line 2 has no split"),
        ("path,label,split\na.png,cat,dev\n", "line 2: the split 'dev' is not one of train, val"),
        ("path,label\na.png,cat\nb.png,cat\nc.png,cat\n", "line 3: there is no file 'b.png' in"),
        ("path,label\nb.png,cat\nc.png,cat\n", "nor those of 1 more lines"),
        (b"path,label\n\xff\xfe.png,cat\n", "is not a CSV file in UTF-8"),
        ('path,label\n"' + "x" * 200_000, "is not a CSV file in UTF-8 (field larger"),
    ],
)  # fmt: skip
def test_csv_files_with_mistakes(tmp_path: Path, content: str | bytes, text: str) -> None:
    picture(tmp_path / "a.png")
    file = tmp_path / "labels.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(zoo.DataError) as error:
        open_dataset(str(file))
    assert text in message(error)
    assert "labels.csv" in message(error)


# --- the contract ----------------------------------------------------------------------------


def test_names_of_the_registry() -> None:
    pytest.importorskip("sklearn", reason="needs the extra [demo]")
    assert splits("digits") == ("train", "test")
    test = open_dataset("digits", split="test")
    assert (len(test), len(open_dataset("digits"))) == (360, 1437)
    with pytest.raises(zoo.UsageError, match="does not take 'root'"):
        open_dataset("digits", root="here")


def test_digits_statistics_are_those_of_the_spec() -> None:
    pytest.importorskip("sklearn", reason="needs the extra [demo]")
    from zoo.registry import get_registry

    spec = get_registry().resolve("datasets", "digits").spec
    images = open_dataset("digits").images
    assert spec.mean == pytest.approx([float(images.mean())], abs=5e-5)
    assert spec.std == pytest.approx([float(images.std(correction=0))], abs=5e-5)


def plugin_with(tmp_path: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "their_data.py"
    file.write_text(
        "import torch, zoo\nfrom zoo.data.datasets.base import ImagesInMemory\n"
        "@zoo.hookimpl\ndef zoo_datasets():\n"
        "    return [zoo.Dataset('odd', 'their_data:make')]\n"
        f"def make(*, split, transform=None):\n    {body}\n"
    )
    monkeypatch.setenv("ZOO_EXTRA_PLUGINS", str(file))
    monkeypatch.setattr("zoo.registry._registry", None)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.delitem(__import__("sys").modules, "their_data", raising=False)


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("return torch.utils.data.TensorDataset(torch.zeros(3))", zoo.PluginError,
         "has no classes and targets"),
        ("d = ImagesInMemory(torch.zeros(2, 1, 4, 4), torch.tensor([0, 3]), 'abc'); return d",
         zoo.DataError, "image 1 has the label 3, beyond the 3 classes (0 to 2)"),
        ("d = ImagesInMemory(torch.zeros(1, 1, 4, 4), torch.tensor([-1]), 'abc'); return d",
         zoo.DataError, "image 0 has the label -1"),
        ("d = ImagesInMemory(torch.zeros(0, 1, 4, 4), torch.zeros(0).long(), 'abc'); return d",
         zoo.DataError, "odd, split 'train' holds no images"),
        ("d = ImagesInMemory(0, torch.zeros(1).long(), 'abc'); del d.images; return d",
         zoo.PluginError, "has no images or paths"),
    ],
)  # fmt: skip
def test_what_breaks_the_contract_is_refused(tmp_path, monkeypatch, body, kind, text) -> None:
    plugin_with(tmp_path, body, monkeypatch)
    with pytest.raises(kind) as error:
        open_dataset("their_data/odd", split="train")
    assert text in message(error)


def test_a_damaged_file_is_told_from_a_good_one(tmp_path: Path) -> None:
    whole = picture(tmp_path / "a" / "1.png", size=(64, 64)).read_bytes()
    (tmp_path / "a" / "2.png").write_bytes(whole[: len(whole) // 2])
    data = open_dataset(str(tmp_path))
    assert data[0][0].size == (64, 64)
    with pytest.raises(ImageError):
        data[1]


# --- fingerprints ----------------------------------------------------------------------------


def test_fingerprint_of_images_in_memory() -> None:
    images = torch.arange(32, dtype=torch.uint8).view(2, 1, 4, 4)
    targets = torch.tensor([0, 1])
    same = [fingerprint(ImagesInMemory(images.clone(), targets, ["a", "b"])) for _ in range(2)]
    assert same[0] == same[1]
    assert len(same[0]) == 64
    changed = images.clone()
    changed[1, 0, 0, 0] += 1
    others = [
        ImagesInMemory(changed, targets, ["a", "b"]),
        ImagesInMemory(images, targets.flip(0), ["a", "b"]),
        ImagesInMemory(images, targets, ["a", "c"]),
        ImagesInMemory(images.view(2, 4, 2, 2), targets, ["a", "b"]),
    ]
    assert len({same[0], *map(fingerprint, others)}) == 5


def test_fingerprint_of_files(tmp_path: Path) -> None:
    root = tree(tmp_path / "one", "a/1.png", "b/1.png")
    first = fingerprint(open_dataset(str(root)))
    root.rename(tmp_path / "two")
    data = open_dataset(str(tmp_path / "two"))
    assert fingerprint(data) == first  # moving it changes nothing
    os.utime(data.paths[0], ns=(1, 1))
    touched = fingerprint(data)
    tree(tmp_path / "two", "b/2.png")
    assert len({first, touched, fingerprint(open_dataset(str(tmp_path / "two")))}) == 3
    os.unlink(data.paths[0])
    with pytest.raises(zoo.DataError, match="No such file"):
        fingerprint(data)
