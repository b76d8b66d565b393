"""What the pages for plugin authors say is so: hooks, facts, checks, fixtures, public names, and all code."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pages
import pytest

import pqd_core
import pqd_core.testing
from pqd_core import hookspecs
from pqd_core.facts import FACTS
from pqd_core.host.plugins import BRINGS, load_plugins, new_host
from pqd_core.records import ComponentDef
from pqd_core.testing import pytest_plugin, run_checks
from pqd_core.testing.checks.records import DUTIES

GUIDE = (pages.DOCS / "plugins.md").read_text(encoding="utf-8")
API = (pages.DOCS / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'```python title="([^"]+)"\n(.*?)```', GUIDE, re.DOTALL)
REGENERATE = "if that is meant, run `python tests/pages.py` and say in the CHANGELOG what to write instead"


@pytest.mark.parametrize(("page", "name"), pages.PARTS, ids="/".join)
def test_what_is_taken_from_the_code_is_what_the_code_says(page: str, name: str) -> None:
    assert pages.part(page, name) == pages.PARTS[page, name](), REGENERATE


@pytest.mark.parametrize("hook", pages.HOOKS)
def test_every_hook_is_in_the_guide_with_its_exact_signature(hook: str) -> None:
    signature = pages.hook_signature(hook).replace("|", r"\|")
    assert f"| `{signature}` | {pages.first_sentence(getattr(hookspecs, hook))} |" in GUIDE


def test_the_guide_knows_no_hook_that_there_is_not() -> None:
    assert set(re.findall(r"\bpqd_[a-z_]+(?=\()", GUIDE)) <= set(pages.HOOKS)


@pytest.mark.parametrize("fact", FACTS.values(), ids=lambda fact: fact.name)
def test_every_fact_is_in_the_guide(fact: Any) -> None:
    assert f"| `{fact.name}` | {fact.summary} |" in GUIDE


def test_the_guide_knows_no_fact_that_there_is_not() -> None:
    table = GUIDE.partition("| fact | meaning |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)) == set(FACTS)


def test_every_duty_of_an_implementation_is_in_the_guide() -> None:
    for duties in DUTIES.values():
        assert all(f"`{duty}(" in GUIDE for duty in duties)
    for noun, kind in BRINGS.values():
        assert noun in DUTIES or not issubclass(kind, ComponentDef)


def test_every_fixture_is_in_the_guide() -> None:
    fixtures = [name for name in vars(pytest_plugin) if name.startswith("pqd_")]
    for name in fixtures:
        assert f"| `{name}` | {pages.first_sentence(getattr(pytest_plugin, name))} |" in GUIDE


def test_every_public_name_is_in_the_reference() -> None:
    described = set(re.findall(r"^::: (\S+)$", API, re.MULTILINE)) | set(re.findall(r"^`(\w+)`", API, re.MULTILINE))
    described |= set(re.findall(r"`(\w+)`", API.partition("\n## ")[0]))
    public = {f"pqd_core.{name}" for name in pqd_core.__all__}
    public |= {f"pqd_core.testing.{name}" for name in pqd_core.testing.__all__}
    assert {name for name in public if name not in described and name.rpartition(".")[2] not in described} == set()
    assert {name for name in described if name.startswith("pqd_core.")} <= public


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The plugin of the guide, as its pieces of code are written."""
    monkeypatch.setitem(sys.modules, "pqd_clip", made("pqd_clip", "pqd_clip/__init__.py"))
    monkeypatch.setitem(sys.modules, "pqd_clip.stage", made("pqd_clip.stage", "pqd_clip/stage.py"))
    return sys.modules["pqd_clip"]


def made(name: str, title: str) -> ModuleType:
    module = ModuleType(name)
    exec(compile(dict(BLOCKS)[title], title, "exec", dont_inherit=True), module.__dict__)
    return module


def test_the_stage_of_the_guide_keeps_the_contract(clip: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pqd_core.testing.checks.stages_deployed.default_host", new_host)
    monkeypatch.setattr("pqd_core.testing.checks.processes._problem_of_importing", lambda roots: "")
    [record] = clip.pqd_stages()
    assert [str(outcome) for outcome in run_checks(record) if not outcome.ok] == []


@pytest.mark.parametrize("title", [title for title, _ in BLOCKS])
def test_every_piece_of_code_in_the_guide_runs(clip: ModuleType, title: str) -> None:
    made("piece", title)


def test_every_piece_of_python_in_the_guide_has_a_title_and_so_is_run() -> None:
    assert GUIDE.count("```python") == len(BLOCKS)


def test_the_guide_names_the_variables_that_select_and_show_plugins() -> None:
    source = inspect.getsource(sys.modules[load_plugins.__module__])
    read = set(re.findall(r"\"(PQD_[A-Z_]+)\"", source)) | {"PQD_TRACE"}
    assert {name for name in read if name not in GUIDE} == set()


def test_every_page_is_reached_from_the_navigation() -> None:
    config = (Path(pages.DOCS).parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert not re.search(r"^nav:", config, re.MULTILINE), "without a nav, mkdocs takes every page that lies in docs/"
