"""Names: their order, what they resolve to, and what is said about those that do not."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo.loading import Plugin
from zoo.names import matcher, natural_key
from zoo.registry import Registry

if TYPE_CHECKING:
    from conftest import Site

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_+-]{0,8}", fullmatch=True)


def make(**offered: list[str]) -> Registry:
    """A registry of plugins with losses of these names."""
    plugins = [
        Plugin(name, specs={"losses": [zoo.Loss(loss, "m:f") for loss in losses]})
        for name, losses in offered.items()
    ]
    return Registry(plugins, ("first", "second"))


def test_numbers_sort_by_value() -> None:
    names = ["resnet101", "resnet18", "ResNet34", "resnet018", "resnet", "alexnet"]
    expected = ["alexnet", "resnet", "resnet018", "resnet18", "ResNet34", "resnet101"]
    assert sorted(names, key=natural_key) == expected


@given(st.lists(NAMES))
def test_the_order_is_total_and_stable(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    backwards = names[::-1]
    assert ordered == sorted(backwards, key=natural_key)
    assert sorted(ordered) == sorted(names)


@given(NAMES, st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_number_decides_between_names_that_differ_in_it(stem: str, a: int, b: int) -> None:
    one, other = f"{stem}_{a}_x", f"{stem}_{b}_x"
    assert (natural_key(one) < natural_key(other)) == (a < b)


@given(st.dictionaries(NAMES, st.lists(NAMES, unique=True), max_size=4))
def test_canonical_names_always_resolve(offered: dict[str, list[str]]) -> None:
    registry = make(**offered)
    entries = registry.entries("losses")
    assert len(entries) == sum(map(len, offered.values()))
    for entry in entries:
        assert registry.resolve("losses", entry.name) is entry


@given(st.dictionaries(NAMES, st.lists(NAMES, unique=True), max_size=4), NAMES)
def test_a_bare_name_resolves_if_one_plugin_has_it(
    offered: dict[str, list[str]], name: str
) -> None:
    registry = make(**offered)
    having = [plugin for plugin, losses in offered.items() if name in losses]
    if len(having) == 1:
        assert registry.resolve("losses", name).name == f"{having[0]}/{name}"
    elif not having:
        with pytest.raises(zoo.UnknownName):
            registry.resolve("losses", name)
    elif not {"first", "second"} & set(having):
        with pytest.raises(zoo.AmbiguousName):
            registry.resolve("losses", name)


def test_the_users_preference_decides() -> None:
    registry = make(other=["a"], second=["a"], first=["a"])
    assert registry.resolve("losses", "a").plugin == "first"


def test_an_ambiguous_name_lists_the_candidates() -> None:
    with pytest.raises(zoo.AmbiguousName, match=r"name one of x/a, y/a, or set ZOO_PREFER"):
        make(x=["a"], y=["a"]).resolve("losses", "a")


def test_an_unknown_name_suggests(site: Site) -> None:
    site.architectures("acme", "acmenet18", "acmenet101", "other")
    site.discover()
    with pytest.raises(zoo.UnknownName) as caught:
        zoo.create_model("acmenet81")
    message = str(caught.value)
    assert message.startswith("there is no model 'acmenet81'; did you mean ")
    assert "acme/acmenet18" in message
    with pytest.raises(zoo.UnknownName, match=r"did you mean acme/other\?"):
        zoo.create_model("othr.tag")
    with pytest.raises(zoo.UnknownName, match="see zoo list-models"):
        zoo.create_model("zzzzzz")


def test_an_unknown_name_mentions_plugins_that_failed(site: Site) -> None:
    site.add("broken", "import no_such_module_at_all\n")
    site.architectures("acme", "net")
    site.discover()
    with pytest.raises(zoo.UnknownName, match=r"\(plugins that could not be loaded: broken\)"):
        zoo.create_model("nothing_like_it")
    with pytest.raises(zoo.UnknownName, match=r"'broken' is failed \(ModuleNotFoundError.*\)"):
        zoo.create_model("broken/net")
    with pytest.raises(zoo.UnknownName, match=r"no plugin 'acm' is installed \(there are acme\)"):
        zoo.create_model("acm/net")


def test_a_blocked_plugin_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.architectures("acme", "net")
    monkeypatch.setenv("ZOO_BLOCK_PLUGINS", f"{os.environ['ZOO_BLOCK_PLUGINS']},acme")
    site.discover()
    with pytest.raises(zoo.UnknownName, match=r"plugin 'acme' is blocked"):
        zoo.create_model("acme/net")


class TestTags:
    CODE = """
    @zoo.hookimpl
    def zoo_architectures():
        w = zoo.Weights(source="nowhere.pth")
        return [zoo.Architecture("net", "models:tiny", weights={%s}),
                zoo.Architecture("bare", "models:tiny")]
    """

    def registry(self, site: Site) -> Registry:
        site.add("acme", self.CODE % "'in1k': w, 'in22k.ft': w")
        site.add("bcme", self.CODE % "'cifar': w, 'in1k': w")
        return site.discover()

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("acme/net", ("acme/net", None)),
            ("acme/net.in1k", ("acme/net", "in1k")),
            ("acme/net.in22k.ft", ("acme/net", "in22k.ft")),
            ("net.in22k.ft", ("acme/net", "in22k.ft")),
            ("net.cifar", ("bcme/net", "cifar")),
        ],
    )
    def test_resolve(self, site: Site, name: str, expected: tuple[str, str | None]) -> None:
        entry, tag = self.registry(site).resolve_weights(name)
        assert (entry.name, tag) == expected

    def test_ambiguous(self, site: Site) -> None:
        registry = self.registry(site)
        with pytest.raises(zoo.AmbiguousName, match=r"acme/net\.in1k, bcme/net\.in1k"):
            registry.resolve_weights("net.in1k")

    def test_preferred(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ZOO_PREFER", "bcme, acme")
        assert self.registry(site).resolve_weights("net.in1k")[0].name == "bcme/net"

    def test_unknown(self, site: Site) -> None:
        registry = self.registry(site)
        with pytest.raises(zoo.UnknownName, match=r"there are acme/net\.in1k, acme/net\.in22k"):
            registry.resolve_weights("acme/net.x")
        with pytest.raises(zoo.UnknownName, match="acme/bare has no pretrained weights"):
            registry.resolve_weights("acme/bare.x")

    def test_lists(self, site: Site) -> None:
        self.registry(site)
        assert zoo.list_models(pretrained=True) == ["acme/net", "bcme/net"]
        assert zoo.list_pretrained("*.in1k") == ["acme/net.in1k", "bcme/net.in1k"]
        assert zoo.list_pretrained("net", plugin="acme", exclude_filters="*.in1k") == [
            "acme/net.in22k.ft"
        ]
        assert zoo.is_model("acme/net.in1k")
        assert not zoo.is_model("acme/net.x")
        assert not zoo.is_model("net.in1k")  # ambiguous


class TestConfiguration:
    def set(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "config" / "zoo").mkdir(parents=True)
        (tmp_path / "config" / "zoo" / "config.toml").write_text(text)

    def names(self, site: Site) -> Registry:
        for plugin in ("acme", "bcme", "timm2"):
            site.architectures(plugin, "net")
        return site.discover()

    def test_prefer(self, site: Site, tmp_path: Path) -> None:
        self.set(tmp_path, 'prefer = ["bcme"]\n')
        assert self.names(site).resolve("architectures", "net").name == "bcme/net"

    def test_the_variable_wins(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.set(tmp_path, 'prefer = ["bcme"]\n')
        monkeypatch.setenv("ZOO_PREFER", "acme")
        assert self.names(site).resolve("architectures", "net").name == "acme/net"

    @pytest.mark.parametrize("text", ["prefer = [", "prefer = 'acme'\n", "prefer = [1]\n"])
    def test_a_wrong_file_is_a_clear_error(self, site: Site, tmp_path: Path, text: str) -> None:
        self.set(tmp_path, text)
        with pytest.raises(zoo.UsageError, match=re.escape(str(tmp_path / "config"))):
            self.names(site)

    def test_without_any_it_is_zoo_then_timm(self, site: Site) -> None:
        for plugin in ("zoo", "timm", "acme"):
            site.architectures(plugin, "net", distribution=f"{plugin}-x")
        from zoo.config import prefer

        assert prefer() == ("zoo", "timm")


def test_patterns_match_canonical_and_bare_names(site: Site) -> None:
    site.architectures("acme", "net10", "net9", "Other")
    site.architectures("bcme", "net9")
    site.discover()
    everything = ["acme/net9", "acme/net10", "acme/Other", "bcme/net9"]
    assert zoo.list_models() == everything
    assert zoo.list_models("*") == everything
    assert zoo.list_models("net9") == ["acme/net9", "bcme/net9"]
    assert zoo.list_models("acme/*") == everything[:3]
    assert zoo.list_models(["net1?", "[oO]ther"]) == ["acme/net10", "acme/Other"]
    assert zoo.list_models("other") == []
    assert zoo.list_models("net*", exclude_filters=["acme/*"]) == ["bcme/net9"]
    assert zoo.list_models(plugin="bcme") == ["bcme/net9"]
    with pytest.raises(zoo.UnknownName, match=r"no plugin 'acm' .*did you mean acme\?"):
        zoo.list_models(plugin="acm")
    site.add("broken", "import no_such_module_at_all\n")
    site.discover()
    with pytest.raises(zoo.UnknownName, match=r"plugin 'broken' is failed \(ModuleNotFound"):
        zoo.list_models(plugin="broken")


def test_names_may_be_long() -> None:
    assert natural_key("9" * 10_000) < natural_key("9" * 10_001)


@given(NAMES)
def test_a_name_matches_itself_and_nothing_matches_no_pattern(name: str) -> None:
    assert matcher(name)(name)
    assert matcher(["x y", name])(name)
    assert not matcher(())(name)


def test_commands_resolve_by_bare_and_canonical_names(site: Site) -> None:
    site.add(
        "acme",
        """
        @zoo.hookimpl
        def zoo_commands():
            return [zoo.Command("greet", "plugin_acme:greet", help="Say hello.")]
        """,
    )
    registry = site.discover()
    assert registry.resolve("commands", "greet") is registry.resolve("commands", "acme/greet")
    assert registry.resolve("commands", "greet").spec.help == "Say hello."
    with pytest.raises(zoo.UnknownName, match=r"no command 'great'; did you mean acme/greet\?"):
        registry.resolve("commands", "great")


def test_the_kinds_are_checked(site: Site) -> None:
    with pytest.raises(ValueError, match="kind must be one of architectures"):
        site.discover().entries("models")


def test_misspelt_settings_are_said(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.architectures("acme", "net")
    monkeypatch.setenv("ZOO_PREFER", "acne")
    zoo.list_models()
    assert "names 'acne', but no plugin of that name is installed; did you mean acme?" in (
        capsys.readouterr().err
    )
    monkeypatch.delenv("ZOO_PREFER")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "config.toml").write_text('prefers = ["acme"]')
    monkeypatch.setattr("zoo.registry._registry", None)
    zoo.list_models()
    assert "there is no setting 'prefers'; prefer is the only one" in capsys.readouterr().err
