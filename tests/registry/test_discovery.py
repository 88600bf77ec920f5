"""Every way in which a plugin can be broken breaks that plugin and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import zoo
from zoo.loading import api_in_range
from zoo.validation import Mistake

if TYPE_CHECKING:
    from conftest import Site

GOOD = """
@zoo.hookimpl
def zoo_architectures():
    return [zoo.Architecture("net", "models:tiny")]
"""

BROKEN = {
    "import error": ("import", "import no_such_module_at_all\n", "No module named"),
    "syntax error": ("import", "def broken(:\n", "SyntaxError"),
    "SystemExit": ("import", "import sys; sys.exit(3)\n", "SystemExit: 3"),
    "misspelt hook": (
        "hooks",
        "@zoo.hookimpl\ndef zoo_architecture():\n    return []\n",
        "there is no hook 'zoo_architecture'; did you mean zoo_architectures?",
    ),
    "misspelt hook without the decorator": (
        "hooks",
        "def zoo_architecturs():\n    return []\n",
        "zoo_architecturs looks like a hook",
    ),
    "forgotten decorator": (
        "hooks",
        "def zoo_losses():\n    return []\n",
        "zoo_losses lacks the decorator @zoo.hookimpl",
    ),
    "unknown argument": (
        "hooks",
        "@zoo.hookimpl\ndef zoo_losses(everything):\n    return []\n",
        "everything",
    ),
    "wrapper": (
        "hooks",
        "@zoo.hookimpl(wrapper=True)\ndef zoo_losses():\n    return (yield)\n",
        "wrapper",
    ),
    "unreadable API range": ("hooks", 'zoo_api = "1.x"\n', "zoo_api must be a range"),
    "hook raises": (
        "call",
        "@zoo.hookimpl\ndef zoo_losses():\n    return [1 / 0]\n",
        "ZeroDivisionError",
    ),
    "hook exits": (
        "call",
        "@zoo.hookimpl\ndef zoo_losses():\n    raise SystemExit\n",
        "SystemExit",
    ),
    "hook raises halfway": (
        "call",
        "@zoo.hookimpl\ndef zoo_losses():\n"
        "    yield zoo.Loss('a', 'models:tiny')\n    raise KeyError('b')\n",
        "KeyError: 'b'",
    ),
    "hook returns None": (
        "call",
        "@zoo.hookimpl\ndef zoo_losses():\n    pass\n",
        "zoo_losses must return a list of zoo.Loss, not None",
    ),
    "hook returns one spec": (
        "call",
        "@zoo.hookimpl\ndef zoo_losses():\n    return zoo.Loss('a', 'models:tiny')\n",
        "must return a list of zoo.Loss, not a Loss",
    ),
    "wrong type": (
        "specs",
        "@zoo.hookimpl\ndef zoo_losses():\n    return [zoo.Command('a', 'models:tiny')]\n",
        "zoo_losses must return zoo.Loss, not Command(",
    ),
    "wrong field": (
        "specs",
        "@zoo.hookimpl\ndef zoo_losses():\n    return [zoo.Loss('a', 'models.tiny')]\n",
        "Loss 'a': factory must be a target",
    ),
    "duplicate name": (
        "specs",
        "@zoo.hookimpl\ndef zoo_losses():\n    return [zoo.Loss('a', 'models:tiny')] * 2\n",
        "Loss 'a' is there twice",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_fails_alone(
    site: Site, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, code, cause = BROKEN[case]
    site.add("broken", GOOD + code, version="0.3")
    site.add("fine", GOOD)
    registry = site.discover()
    plugins = {plugin.name: plugin for plugin in registry.plugins}
    broken = plugins["broken"]
    assert (broken.state, broken.stage) == ("failed", stage)
    assert cause in (broken.error or "")
    assert "\n" not in (broken.error or "")
    assert broken.exception is not None
    assert broken.contributes == {}  # all or nothing: its good hook is withdrawn
    assert plugins["fine"].state == "active"
    assert [entry.name for entry in registry.entries("architectures")] == ["fine/net"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("zoo: plugin 'broken' (zoo-broken 0.3) failed at ")
    assert cause in line


def test_the_error_names_the_line_of_the_plugin(site: Site) -> None:
    path = site.add("broken", "x = 1\nimport no_such_module_at_all\n")
    assert f"({path}:3)" in (site.plugin("broken").error or "")


def test_strict_raises_instead(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("broken", "import no_such_module_at_all\n")
    monkeypatch.setenv("ZOO_STRICT_PLUGINS", "1")
    with pytest.raises(zoo.PluginError, match=r"plugin 'broken'.*no_such_module") as caught:
        site.discover()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_keyboard_interrupt_is_the_users(site: Site) -> None:
    site.add("slow", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        site.discover()


def test_a_slow_import_shows(site: Site) -> None:
    site.add("slow", "import time; time.sleep(0.05)\n" + GOOD)
    site.add("quick", GOOD)
    registry = site.discover()
    times = {plugin.name: plugin.load_ms for plugin in registry.plugins if plugin.load_ms}
    assert times["slow"] >= 50 > times["quick"]


def test_importing_torch_is_flagged(site: Site) -> None:
    site.add("heavy", "import torch\n" + GOOD)
    site.add("light", GOOD)
    done = site.run(
        """
        from zoo.registry import get_registry
        print([(p.name, p.imported_torch) for p in get_registry().plugins
               if p.state == "active"])
        """
    )
    # Plugins load in the order of their names; after heavy, nobody can tell.
    assert done.stdout == "[('heavy', True), ('light', None)]\n", done.stderr


def test_what_a_plugin_prints_stays_out_of_the_data(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.add("chatty", "print('hello')\n" + GOOD)
    site.discover()
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello\n")


@pytest.mark.parametrize("wanted", [">=1,<2", "==1", "==1.0", ">0.9", "!=1.1, <= 1.0", ">=1.0.0"])
def test_a_range_that_holds_this_api(site: Site, wanted: str) -> None:
    site.add("acme", f"zoo_api = {wanted!r}\n" + GOOD)
    assert site.plugin("acme").state == "active"


@pytest.mark.parametrize("wanted", [">=2", "<1", ">1.0", "==0.9", ">=1,<1.0", "!=1"])
def test_a_range_that_does_not(site: Site, wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("acme", f"zoo_api = {wanted!r}\n" + GOOD)
    plugin = site.plugin("acme")
    assert plugin.state == "incompatible"
    assert plugin.error == f"it was made for plugin API {wanted}, and this zoo has 1.0"
    assert "is incompatible" in capsys.readouterr().err


@pytest.mark.parametrize("wanted", ["", "1", ">=", ">=1;<2", "~=1.0", 1])
def test_a_range_that_cannot_be_read(wanted: object) -> None:
    with pytest.raises(Mistake, match="zoo_api must be a range"):
        api_in_range(wanted)


def test_an_optional_hook_of_a_later_version_is_passed_over(site: Site) -> None:
    site.add("acme", GOOD + "@zoo.hookimpl(optionalhook=True)\ndef zoo_schedules():\n    pass\n")
    assert site.plugin("acme").state == "active"


def test_functions_that_resemble_no_hook_are_the_plugins_own(site: Site) -> None:
    site.add("acme", GOOD + "def zoo_path():\n    pass\n")
    assert site.plugin("acme").state == "active"


def test_an_entry_point_may_name_an_object(site: Site) -> None:
    code = """
    class Plugin:
        zoo_api = ">=1"
        @zoo.hookimpl
        def zoo_architectures(self):
            return (zoo.Architecture("net", "models:tiny") for _ in range(1))
    plugin = Plugin()
    """
    site.add("acme", code, value="plugin_acme:plugin")
    plugin = site.plugin("acme")
    assert (plugin.state, plugin.contributes) == ("active", {"architectures": 1})


@pytest.mark.parametrize("value", ["plugin acme", "plugin_acme:", ":plugin", "plugin_acme:absent"])
def test_an_entry_point_that_names_nothing(site: Site, value: str) -> None:
    site.add("acme", GOOD, value=value)
    plugin = site.plugin("acme")
    assert (plugin.state, plugin.stage) == ("failed", "import")


@pytest.mark.parametrize("name", ["ac me", "acme/net", "-acme"])
def test_a_plugin_name_that_could_not_be_written(site: Site, name: str) -> None:
    site.add(name, GOOD, distribution="zoo-acme", module="plugin_acme")
    assert "a plugin's name is made of" in (site.plugin(name).error or "")


def test_one_module_cannot_be_two_plugins(site: Site) -> None:
    site.add("acme", GOOD)
    site.add("bcme", GOOD, module="plugin_acme")
    assert site.plugin("acme").state == "active"
    assert site.plugin("bcme").error == "its module is already the plugin 'acme'"


def test_two_distributions_with_one_plugin_name_are_both_rejected(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.add("acme", GOOD, distribution="acme-one", module="plugin_one")
    site.add("acme", GOOD, distribution="acme-two", module="plugin_two")
    registry = site.discover()
    rivals = [plugin for plugin in registry.plugins if plugin.name == "acme"]
    assert [(r.state, r.stage) for r in rivals] == [("failed", "discovery")] * 2
    assert registry.entries("architectures") == []
    assert "plugin_one" not in sys.modules  # nothing of either has run
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_plugin_of_zoo_itself_cannot_be_replaced(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZOO_BLOCK_PLUGINS")
    monkeypatch.setenv("ZOO_PLUGINS", "cifar")
    site.architectures("cifar", "evil", distribution="acme")
    site.add("cifar", GOOD, distribution="zoo-vision", module="own", version="9")
    states = {p.distribution: p.state for p in site.discover().plugins if p.name == "cifar"}
    assert states == {"acme": "failed", "zoo-vision": "active"}


def test_blocked_plugins_are_not_imported(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("acme", GOOD)
    site.add("bcme", GOOD)
    monkeypatch.setenv("ZOO_BLOCK_PLUGINS", os.environ["ZOO_BLOCK_PLUGINS"] + ", acme")
    assert site.plugin("acme").state == "blocked"
    assert "plugin_acme" not in sys.modules
    assert site.plugin("bcme").state == "active"


def test_only_the_plugins_asked_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("acme", GOOD)
    site.add("bcme", GOOD)
    monkeypatch.setenv("ZOO_PLUGINS", "bcme")
    states = {p.name: p.state for p in site.discover().plugins if p.name in ("acme", "bcme")}
    assert states == {"acme": "blocked", "bcme": "active"}
    assert "plugin_acme" not in sys.modules


def test_asking_for_a_plugin_that_is_not_there(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_PLUGINS", "acme")
    site.discover()
    assert "ZOO_PLUGINS names 'acme'" in capsys.readouterr().err


def test_no_plugins_leaves_the_cores_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("acme", GOOD)
    site.add("own", GOOD, distribution="Zoo_Vision")
    site.add("mine", GOOD)
    (site.path / "mine.py").write_text("import zoo\n" + GOOD)
    monkeypatch.setenv("ZOO_NO_PLUGINS", "1")
    monkeypatch.setenv("ZOO_EXTRA_PLUGINS", str(site.path / "mine.py"))
    states = {(p.name, p.state) for p in site.discover().plugins}
    assert {("acme", "blocked"), ("own", "active"), ("mine", "active")} <= states


class TestFiles:
    """A plugin that is not packaged yet."""

    def write(self, folder: Path, name: str = "my_plugin.py", code: str = GOOD) -> Path:
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text("import zoo\n" + code)
        return path

    def test_it_offers_its_own_functions(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code = """
@zoo.hookimpl
def zoo_losses():
    return [zoo.Loss("ours", "my_plugin:make")]
def make(scale=1):
    return lambda logits, target: scale * 2
"""
        monkeypatch.setenv("ZOO_EXTRA_PLUGINS", str(self.write(tmp_path / "here", code=code)))
        plugin = site.plugin("my_plugin")
        assert (plugin.state, plugin.distribution) == ("active", None)
        assert zoo.list_losses() == ["my_plugin/ours"]
        assert zoo.create_loss("ours", scale=2)(None, None) == 4

    def test_processes_started_later_find_it_too(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        self.write(tmp_path / "here")
        monkeypatch.setenv("ZOO_EXTRA_PLUGINS", os.path.join("here", "my_plugin.py"))
        done = site.run("import zoo; print(zoo.list_models())")
        assert done.stdout == "['my_plugin/net']\n", done.stderr

    def test_several_files(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = self.write(tmp_path / "a", "one.py")
        two = self.write(tmp_path / "b", "two.py")
        monkeypatch.setenv("ZOO_EXTRA_PLUGINS", f"{one}{os.pathsep}{two}")
        site.discover()
        assert zoo.list_models() == ["one/net", "two/net"]

    def test_the_users_file_replaces_an_installed_plugin(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.architectures("acme", "old")
        path = self.write(tmp_path / "here", "acme.py")
        monkeypatch.setenv("ZOO_EXTRA_PLUGINS", str(path))
        states = {p.distribution: p.state for p in site.discover().plugins if p.name == "acme"}
        assert states == {None: "active", "zoo-acme": "blocked"}
        assert zoo.list_models() == ["acme/net"]

    @pytest.mark.parametrize(
        ("name", "cause"),
        [
            ("absent.py", "there is no such file"),
            ("my-plugin.py", "a plugin file is named like a Python module"),
            ("json.py", "there is another module 'json'"),
        ],
    )
    def test_a_file_that_cannot_be_one(
        self,
        site: Site,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        cause: str,
    ) -> None:
        path = self.write(tmp_path / "here", name)
        if name == "absent.py":
            path.unlink()
        monkeypatch.setenv("ZOO_EXTRA_PLUGINS", str(path))
        plugin = site.plugin(name.removesuffix(".py"))
        assert (plugin.state, plugin.stage) == ("failed", "import")
        assert cause in (plugin.error or "")


def test_a_plugin_cannot_ask_for_names_while_it_loads(site: Site) -> None:
    site.add("curious", "zoo.list_models()\n")
    plugin = site.plugin("curious")
    assert plugin.stage == "import"
    assert "while plugins are being loaded" in (plugin.error or "")


def test_removing_a_distribution_removes_its_models(site: Site) -> None:
    site.architectures("acme", "net")
    site.discover()
    assert zoo.is_model("acme/net")
    for path in (site.path / "zoo_acme-1.0.dist-info").iterdir():
        path.unlink()
    (site.path / "zoo_acme-1.0.dist-info").rmdir()
    site.discover()
    assert not zoo.is_model("acme/net")


def test_the_registry_is_made_once_for_all_threads(site: Site) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from zoo.registry import get_registry

    site.add("acme", "import time; time.sleep(0.05)\n" + GOOD)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: get_registry(), range(8)))
    assert len(set(map(id, found))) == 1
