"""CIFAR in its own format: batches, archives, download, and what is refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

import zoo
from zoo.builtin.cifar_data import CIFAR10
from zoo.data.datasets import fingerprint, open_dataset
from zoo.data.datasets.pickled import read_pickled

NAMES10 = b"plane car bird cat deer dog frog horse ship truck".split()
NAMES100 = [f"fine_{index}".encode() for index in range(100)]


def batch(count: int, labels: str, classes: int, seed: int) -> dict[bytes, Any]:
    random = np.random.default_rng(seed)
    fine = random.integers(0, classes, count).tolist()
    values = {
        b"batch_label": b"a batch",
        labels.encode(): fine,
        b"data": random.integers(0, 256, (count, 3072), dtype=np.uint8),
        b"filenames": [b"%d.png" % index for index in range(count)],
    }
    if classes == 100:
        values[b"coarse_labels"] = [label // 5 for label in fine]
    return values


def write(root: Path, count: int = 6, protocol: int = 4) -> Path:
    """Write both data sets as they are unpacked."""
    for name, files, labels, classes in (
        ("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"], "labels",
         10),
        ("cifar-100-python", ["train", "test"], "fine_labels", 100),
    ):  # fmt: skip
        folder = root / name
        folder.mkdir(parents=True)
        for seed, file in enumerate(files):
            content = pickle.dumps(batch(count, labels, classes, seed), protocol=protocol)
            (folder / file).write_bytes(content)
        meta = {b"label_names": NAMES10} if classes == 10 else {
            b"fine_label_names": NAMES100,
            b"coarse_label_names": [b"coarse_%d" % index for index in range(20)],
        }  # fmt: skip
        file = "batches.meta" if classes == 10 else "meta"
        (folder / file).write_bytes(pickle.dumps(meta, protocol=protocol))
    return root


@pytest.mark.parametrize("protocol", [3, 4])
def test_cifar10(tmp_path: Path, protocol: int) -> None:
    root = write(tmp_path, protocol=protocol)
    train = open_dataset("cifar10", split="train", root=root)
    assert (train.images.shape, train.images.dtype) == ((30, 3, 32, 32), torch.uint8)
    assert train.classes == [name.decode() for name in NAMES10]
    third = batch(6, "labels", 10, 2)
    assert torch.equal(train.images[12:18].flatten(1), torch.from_numpy(third[b"data"]))
    assert train.targets[12:18].tolist() == third[b"labels"]
    test = open_dataset("zoo/cifar10", split="test", root=root / "cifar-10-batches-py")
    assert len(test) == 6
    image, label = test[5]
    assert torch.equal(image, test.images[5])
    assert isinstance(label, int)
    assert fingerprint(test) != fingerprint(train)


def test_cifar100_with_its_coarser_classes(tmp_path: Path) -> None:
    data = open_dataset("cifar100", split="test", root=write(tmp_path))
    assert (len(data), len(data.classes), data.classes[3]) == (6, 100, "fine_3")
    present = sorted({int(label) for label in data.targets})
    for label in present:
        (above,) = data.hierarchy.parents(data.classes[label])
        assert above == f"coarse_{label // 5}"
        assert label in data.hierarchy.below(above)


def test_torchvision_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the tests write are in the published format."""
    root = write(tmp_path)
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    # It reads the files as Python 2 wrote them, whose strings are neither bytes nor text.
    for file in (root / "cifar-10-batches-py").iterdir():
        values = pickle.loads(file.read_bytes())
        text = {key.decode(): value for key, value in values.items()}
        file.write_bytes(pickle.dumps(text, protocol=4))
    theirs = datasets.CIFAR10(root, train=False)
    ours = open_dataset("cifar10", split="test", root=root)
    assert np.array_equal(theirs.data, ours.images.permute(0, 2, 3, 1).numpy())
    assert theirs.targets == ours.targets.tolist()


def python2_pickle(array: np.ndarray) -> bytes:
    """A dict with an array as Python 2's cPickle wrote it, opcode by opcode."""

    def text(value: bytes) -> bytes:  # BINSTRING, which Python 3 never writes
        return b"T" + len(value).to_bytes(4, "little") + value

    shape = b"".join(b"M" + side.to_bytes(2, "little") for side in array.shape)
    return (
        b"\x80\x02}(" + text(b"data")
        + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b")
        + b"\x87R"
        + b"(K\x01" + shape + b"\x86"
        + b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
        + b"(K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
        + b"\x89" + text(array.tobytes()) + b"tb"
        + text(b"labels") + b"](K\x07K\x03e" + b"u."
    )  # fmt: skip


def test_pickles_of_python_2() -> None:
    array = np.arange(600, dtype=np.uint16).astype(np.uint8).reshape(2, 300)
    content = python2_pickle(array)
    assert np.array_equal(pickle.loads(content, encoding="latin1")["data"], array)
    values = read_pickled(content, "batch")
    assert np.array_equal(values["data"].numpy(), array)
    assert values["labels"] == [7, 3]


@pytest.mark.parametrize("protocol", range(5))
def test_pickles_of_python_3(protocol: int) -> None:
    """Bytes come as text that is encoded in protocols 0 to 2, that of the published files."""
    array = np.arange(600, dtype=np.uint16).astype(np.uint8).reshape(2, 300)
    content = pickle.dumps({b"data": array, b"labels": [7, 3]}, protocol)
    values = read_pickled(content, "batch")
    assert np.array_equal(values["data"].numpy(), array)
    assert values["labels"] == [7, 3]


def test_text_is_encoded_in_one_way_alone() -> None:
    begun = b"(dVdata\nc_codecs\nencode\n(Vabc\nV"
    for content in (begun + b"rot13\ntRs.", begun + b"latin1\ntR}bs."):
        with pytest.raises(zoo.DataError, match=r"bytes (in the encoding|with a state)"):
            read_pickled(content, "batch")
    assert read_pickled(begun + b"latin1\ntRs.", "batch") == {"data": b"abc"}


class _Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)

    folder = ""


@pytest.mark.parametrize("make", [
    lambda folder: {b"data": _Runs()},
    lambda folder: {b"data": np.array([None])},
    lambda folder: {b"data": np.zeros(3)},
    lambda folder: {b"data": np.asfortranarray(np.zeros((3, 2), np.uint8))},
    lambda folder: {b"data": torch.zeros(2)},
    lambda folder: [1, 2],
])  # fmt: skip
def test_what_is_no_plain_batch_is_refused_and_runs_nothing(tmp_path: Path, make: Any) -> None:
    _Runs.folder = str(tmp_path / "made")
    content = pickle.dumps(make(tmp_path), protocol=4)
    with pytest.raises(zoo.DataError, match="batch is damaged, or holds more than") as error:
        read_pickled(content, "batch")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["system", "__reduce__", "_Array"])
@pytest.mark.parametrize("module", ["os", "builtins", "zoo.data.datasets.pickled", "numpy"])
def test_no_name_is_found_but_those_of_arrays(module: str, name: str) -> None:
    content = f"c{module}\n{name}\n.".encode()
    with pytest.raises(zoo.DataError, match=f"asks for {module}.{name}"):
        read_pickled(content, "batch")


def test_a_pickle_cannot_change_the_reader() -> None:
    """BUILD on a class that was found would set its attributes, for the pickles that follow."""
    content = b"cnumpy\ndtype\n(N}\x8c\x04code\x8c\x02u1stb."
    with pytest.raises(zoo.DataError):
        read_pickled(content, "batch")
    from zoo.data.datasets.pickled import _Type

    assert not hasattr(_Type, "code")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda b: b.pop(b"data"), "is no batch of cifar10"),
        (lambda b: b.pop(b"labels"), "is no batch of cifar10"),
        (lambda b: b.update({b"labels": [1, 2]}), "is no batch of cifar10"),
        (lambda b: b.update({b"labels": [b"1"] * 6}), "is no batch of cifar10"),
        (lambda b: b.update({b"labels": [10] * 6}), "image 0 has the label 10, beyond the 10"),
        (lambda b: b.update({b"data": b[b"data"][:, :-1].copy()}), "is no batch of cifar10"),
    ],
)
def test_wrong_batches(tmp_path: Path, change: Any, text: str) -> None:
    root = write(tmp_path)
    values = batch(6, "labels", 10, 5)
    change(values)
    path = root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps(values, protocol=4))
    with pytest.raises(zoo.DataError) as error:
        open_dataset("cifar10", split="test", root=root)
    assert text in str(error.value)


def test_damaged_and_missing_batches(tmp_path: Path) -> None:
    root = write(tmp_path)
    path = root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(zoo.DataError, match="test_batch is damaged"):
        open_dataset("cifar10", split="test", root=root)
    path.unlink()
    with pytest.raises(zoo.DataError, match=r"cannot read .*test_batch .*get it anew"):
        open_dataset("cifar10", split="test", root=root)
    meta = root / "cifar-10-batches-py" / "batches.meta"
    meta.write_bytes(pickle.dumps({b"num_vis": 3072}))
    with pytest.raises(zoo.DataError, match=r"batches.meta has no label_names"):
        open_dataset("cifar10", split="train", root=root)


def test_a_file_with_as_many_images_as_the_published_must_be_the_published(tmp_path) -> None:
    root = write(tmp_path)
    path = root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps(batch(10_000, "labels", 10, 5), protocol=4))
    with pytest.raises(zoo.DataError, match=r"as it was published \(MD5 .* instead of 40351d5"):
        open_dataset("cifar10", split="test", root=root)


def test_missing_data_name_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path))
    with pytest.raises(zoo.DataError) as error:
        open_dataset("cifar100", split="train")
    assert f"cifar100 is not in {tmp_path}/cifar100: download it with" in str(error.value)
    assert "--dataset-download" in str(error.value)
    write(tmp_path / "cifar100")
    assert len(open_dataset("cifar100", split="train")) == 6


# --- archives --------------------------------------------------------------------------------


def archive(folder: Path, leave_out: str = "") -> Path:
    root = write(folder / "source")
    path = folder / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for file in sorted((root / "cifar-10-batches-py").iterdir()):
            if file.name != leave_out:
                tar.add(file, f"cifar-10-batches-py/{file.name}")
    return path


def published(path: Path) -> type[CIFAR10]:
    """The data set as if the archive were the published one."""

    class Ours(datasets.CIFAR10):
        url = path.as_uri()
        tgz_md5 = hashlib.md5(path.read_bytes()).hexdigest()

    return type("Published", (CIFAR10,), {"published": Ours})


def test_download_and_unpack(tmp_path: Path) -> None:
    factory = published(archive(tmp_path))
    root = tmp_path / "home" / "cifar10"
    data = factory(split="train", root=root, download=True)
    assert len(data) == 30
    assert sorted(entry.name for entry in root.iterdir()) == [
        "cifar-10-batches-py", "cifar-10-python.tar.gz",
    ]  # fmt: skip
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    assert len(factory(split="test", root=root, download=True)) == 6  # it is there already


def test_an_archive_that_lies_there_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path)
    assert len(published(path)(split="test", root=tmp_path)) == 6


def test_archives_with_another_checksum_are_never_opened(tmp_path: Path) -> None:
    path = archive(tmp_path)
    with pytest.raises(zoo.DataError, match=r"MD5 .* instead of c58f30.*: delete it"):
        open_dataset("cifar10", root=tmp_path)
    factory = published(path)
    path.write_bytes(path.read_bytes() + b"\0")
    root = tmp_path / "home"
    with pytest.raises(zoo.DataError, match=r"file://.* as it was published .*try again later"):
        factory(root=root, download=True)
    assert list(root.iterdir()) == []  # nothing half-done stays


def test_incomplete_archives_and_failed_downloads(tmp_path: Path) -> None:
    factory = published(archive(tmp_path, leave_out="data_batch_3"))
    with pytest.raises(zoo.DataError, match="holds no file cifar-10-batches-py/data_batch_3"):
        factory(root=tmp_path)
    assert not (tmp_path / "cifar-10-batches-py").exists()
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    with pytest.raises(zoo.DataError, match="cannot download file://"):
        factory(root=tmp_path, download=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    factory = published(archive(tmp_path))
    tmp_path.chmod(0o555)
    with pytest.raises(zoo.DataError, match="cannot write"):
        factory(root=tmp_path)
    tmp_path.chmod(0o755)
