"""Where weights come from, and that nothing but tensors is read."""

from __future__ import annotations

import functools
import hashlib
import http.server
import pickle
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zoo.errors import WeightsError
from zoo.weights import locate, read

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "state.pth"
    torch.save(STATE, path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def equal(state: dict[str, torch.Tensor]) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[k], STATE[k]) for k in STATE)


def test_reading(file: Path) -> None:
    assert equal(read(file))
    assert equal(read(file, digest(file)))
    assert equal(read(file, digest(file).upper()))


def test_the_hash_is_compared_before_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=r"has the sha256 .*, not 000000000000\.\.\."):
        read(path, "0" * 64)


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_nothing_is_unpickled(tmp_path: Path, protocol: str) -> None:
    path, mark = tmp_path / "a.pth", tmp_path / "exploded"
    if protocol == "torch":
        torch.save({"state_dict": STATE, "extra": Bomb(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(WeightsError, match="damaged, or holds more than tensors"):
        read(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 rubbish", b"\x00" * 64])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        read(tmp_path / name)


def test_truncated_files(tmp_path: Path, file: Path) -> None:
    for path in (file, tmp_path / "a.safetensors"):
        if path is not file:
            save_file(STATE, path)
        path.write_bytes(path.read_bytes()[:-50])
        with pytest.raises(WeightsError, match="damaged"):
            read(path)


@pytest.mark.parametrize("held", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"a": 1}}, {1: 2}])
def test_files_without_a_state_dict(tmp_path: Path, held: object) -> None:
    torch.save(held, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        read(tmp_path / "a.pth")


def test_a_local_path(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate(str(file)) == file
    monkeypatch.setenv("HOME", str(file.parent))
    assert locate("~/state.pth") == file
    with pytest.raises(WeightsError, match="there is no weights file"):
        locate(str(file.with_name("absent")))


def test_a_file_within_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "acme_weights_of_a_test"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    torch.save(STATE, package / "deep" / "a.pth")
    monkeypatch.syspath_prepend(tmp_path)
    assert equal(read(locate("package:acme_weights_of_a_test/deep/a.pth")))
    with pytest.raises(WeightsError, match=r"has no file 'b\.pth'"):
        locate("package:acme_weights_of_a_test/b.pth")
    with pytest.raises(WeightsError, match="package 'no_such_one', which is not installed"):
        locate("package:no_such_one/b.pth")


class TestDownloads:
    @pytest.fixture
    def url(
        self, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[tuple[str, list[str]]]:
        """An https server of the temporary folder, and the requests that it got."""
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        try:
            subprocess.run(
                [
                    *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
                    *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
                    *("-addext", "subjectAltName=DNS:localhost"),
                ],
                check=True,
                capture_output=True,
            )
        except FileNotFoundError:
            pytest.skip("openssl is not installed")
        requests: list[str] = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                requests.append(self.path)

        server = http.server.ThreadingHTTPServer(
            ("localhost", 0), functools.partial(Handler, directory=str(tmp_path))
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setenv("no_proxy", "localhost")
        monkeypatch.setenv("ZOO_CACHE_DIR", str(tmp_path / "cache"))
        yield f"https://localhost:{server.server_port}", requests
        server.shutdown()
        server.server_close()
        thread.join()

    def test_once(self, url: tuple[str, list[str]], tmp_path: Path, file: Path) -> None:
        address, requests = url
        for sha256 in (digest(file), None):
            requests.clear()
            for _ in range(2):
                path = locate(f"{address}/state.pth?download=true", sha256)
                assert path.parent == tmp_path / "cache" / "weights"
                assert path.name.endswith("-state.pth")
                assert equal(read(path, sha256))
            assert len(requests) == 1

    def test_a_wrong_hash_leaves_nothing(self, url: tuple[str, list[str]], tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"cannot download .* hash value"):
            locate(f"{url[0]}/state.pth", "0" * 64)
        assert list((tmp_path / "cache" / "weights").iterdir()) == []

    def test_an_address_without_a_file(self, url: tuple[str, list[str]], tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"cannot download .*404"):
            locate(f"{url[0]}/absent.pth")
        with pytest.raises(WeightsError, match="cannot download"):
            locate("https://localhost:1/absent.pth")


class TestHub:
    @pytest.fixture(autouse=True)
    def hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hub cache with one repository in it, and no network."""
        constants = pytest.importorskip("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        repository = tmp_path / "hub" / "models--acme--net"
        revision = "0" * 40
        (repository / "snapshots" / revision).mkdir(parents=True)
        (repository / "refs").mkdir()
        for reference in ("main", "v1"):
            (repository / "refs" / reference).write_text(revision)
        save_file(STATE, repository / "snapshots" / revision / "model.safetensors")

    @pytest.mark.parametrize("source", ["acme/net", "acme/net/model.safetensors", "acme/net@v1"])
    def test_a_repository(self, source: str) -> None:
        assert equal(read(locate(f"hf-hub:{source}")))

    def test_without_network(self) -> None:
        with pytest.raises(WeightsError, match="hf-hub:acme/other"):
            locate("hf-hub:acme/other")
