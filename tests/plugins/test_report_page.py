"""The page and the Markdown as text: whole, escaped, self-contained, and true to the report."""

from __future__ import annotations

import html.parser
import re
import shlex
import time
from typing import Any

import pytest
import yaml
from studies import STAGES, measured, study

from pqd_core import Report
from pqd_core.host.analysis import analyse
from pqd_core.host.read_spec import parse_spec
from pqd_core.report import read_report
from pqd_report.figures import figures, stages_of
from pqd_report.html import render
from pqd_report.markdown import render as render_markdown
from pqd_report.names import file_name, letters
from pqd_report.reproduce import commands, spec_yaml

BAD = "<script>alert(1)</script>"
NAME = "../a|b [c](d) `e` <i>"


@pytest.fixture(scope="module")
def late() -> Report:
    return study(goals=[{"metric": "latency_ms", "max_accuracy_drop": 0.01, "runtime": None}])


@pytest.fixture(scope="module")
def page(late: Report) -> str:
    return render(late)["report.html"]


class Outline(html.parser.HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_is_a_whole_document(page: str) -> None:
    outline = Outline(page)
    assert page.lstrip().startswith("<!doctype html>")
    assert outline.all("html") == [{"lang": "en"}]
    assert "<title>study · pqd report</title>" in page
    assert len(outline.all("h1")) == 1
    assert len(outline.all("table")) == len(outline.all("caption")) > 3
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(a["href"])[1:] for a in outline.all("a") if str(a.get("href")).startswith("#")}
    assert targets <= set(ids)
    labelled = {str(s["aria-labelledby"]) for s in outline.all("section")}
    assert labelled <= set(ids)


def test_the_page_loads_nothing_and_says_so_to_the_browser(page: str) -> None:
    outline = Outline(page)
    loads = [
        a
        for tag, a in outline.tags
        if tag in {"script", "img", "link", "iframe", "source"} and ("src" in a or "href" in a)
    ]
    assert loads == []
    (policy,) = [a["content"] for a in outline.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'; script-src 'sha256-")
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_is_small_enough_to_keep(page: str) -> None:
    assert len(page.encode()) < 1_500_000


def test_the_page_holds_the_numbers_of_the_report(late: Report, page: str) -> None:
    for verdict in late.verdicts:
        assert verdict.replace("->", "→") in page
    for words in (
        "89.72 % ± 0.40",
        "misses by 3.30 points",
        "order matters",
        "Intel(R) Xeon(R) Processor",
        "torch 2.15.0",
    ):
        assert words in page
    assert late.steps[0].key in page


def test_everything_that_a_stranger_may_write_is_escaped() -> None:
    report = study((0,), pipelines=[(), STAGES[:1]], title=BAD, problems=[BAD], notes=[BAD])
    report.spec["description"] = BAD
    report.environment["platform"] = BAD
    for row in report.rows:
        row.pipeline = tuple(BAD for _ in row.pipeline)
    report.analysis.summaries[2].pipeline = (BAD,)
    page = render(report)["report.html"]
    assert BAD not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert BAD not in render_markdown(report)["report.md"]


def test_no_name_of_a_stranger_ends_a_cell_or_makes_a_link_or_leaves_the_folder_of_pictures() -> None:
    report = study((0,), pipelines=[(), STAGES[:1]], runtimes=["onnxruntime"], title=f"![t]({NAME})")
    for row in report.rows:
        row.runtime, row.metrics[NAME] = NAME, row.metrics["latency_ms"].model_copy(update={"headline": True})
    report = report.model_copy(update={"analysis": analyse(report.rows, report.spec)})
    files = render_markdown(report)
    shown = "../a\\|b \\[c\\](d) \\`e\\` &lt;i&gt;"
    header, _, line = files["report.md"].split("| pipeline | runtime |")[1].splitlines()[:3]
    assert header.endswith(f"| {shown} |")
    assert line.startswith(f"| dense baseline | {shown} |")
    assert all(re.fullmatch(r"plots/[A-Za-z0-9._-]+\.svg", name) for name in files.keys() - {"report.md"})
    assert set(re.findall(r"(?<!\\)\]\(([^)]+)\)", files["report.md"])) == files.keys() - {"report.md"}
    ids = [a["id"] for _, a in Outline(render(report)["report.html"]).tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_commands_of_the_page_do_what_they_say_and_nothing_else() -> None:
    report = study((0,), pipelines=[()], title="x; rm -rf '~'")
    report.environment["versions"] = {"torch": "2.15.0+cpu", "--index-url": "//evil", "a @ http://b": "1", "c": "$(d)"}
    install, _, run = map(shlex.split, commands(report))
    assert install == ["python3", "-m", "pip", "install", "torch==2.15.0+cpu"]
    assert run == ["pqd", "run", "spec.yaml", "--out", report.title]
    assert commands(report.model_copy(update={"title": "--jobs"}))[2].endswith(" --out ./--jobs")


def test_names_that_differ_in_signs_alone_have_pictures_of_their_own() -> None:
    taken: set[str] = set()
    assert [file_name(words, taken) for words in ("a/b", "a?b", "A b")] == ["a-b", "a-b-2", "A-b-3"]


def test_what_only_looks_like_layers_makes_no_picture() -> None:
    report = study((0,), pipelines=[(), STAGES[:1]])
    for row in report.rows:
        row.metrics["sparsity"].provenance["layers"] = ["conv"]
    assert "plots/layers-sparsity.svg" not in render_markdown(report)


def test_a_report_of_an_unknown_request_has_a_page() -> None:
    assert "<h1>study</h1>" in render(study((0,), pipelines=[()]).model_copy(update={"spec": {}}))["report.html"]


def test_a_run_of_the_baseline_alone_has_a_page() -> None:
    report = study((0,), pipelines=[()], verdicts=[])
    assert "Nothing: there is only the dense network." in render(report)["report.html"]
    assert "| dense baseline | onnxruntime |" in render_markdown(report)["report.md"]


def test_a_report_without_any_number_has_a_page() -> None:
    report = study((0,), pipelines=[(), STAGES[:1]])
    rows = [row.model_copy(update={"metrics": {}}) for row in report.rows]
    bare = report.model_copy(update={"rows": rows, "steps": [], "analysis": analyse(rows, report.spec)})
    assert "There is no plot" in render(bare)["report.html"]
    assert render_markdown(bare)["report.md"].startswith("# study\n")


def test_a_missing_number_says_why() -> None:
    report = study((0,), pipelines=[(), STAGES[:1]])
    report.analysis.summaries[2].cells["accuracy"] = (
        report.analysis.summaries[2].cells["accuracy"].model_copy(update={"mean": None, "missing": "the file was lost"})
    )
    assert "the file was lost" in render(report)["report.html"]


def test_the_spec_of_the_page_is_the_request_again(late: Report) -> None:
    asked = parse_spec({k: v for k, v in measured()["spec"].items() if v is not None})
    report = late.model_copy(update={"spec": asked.model_dump(mode="json")})
    assert parse_spec(yaml.safe_load(spec_yaml(report))) == asked


def test_every_stage_has_its_own_letters() -> None:
    found = letters(["magnitude", "int8-qat", "int8-ptq", "m", "magnitude@1", "magnitude@3"])
    assert len(set(found.of.values())) == 6
    assert found.of["magnitude"] == "M"
    assert found.of["magnitude@3"] == "M@3"
    assert found.short(("magnitude", "int8-qat")) == f"M→{found.of['int8-qat']}"
    assert found.short(()) == "dense"


def test_markdown_holds_table_verdicts_machine_and_a_picture_of_each_plot(late: Report) -> None:
    files = render_markdown(late)
    text = files["report.md"]
    assert text.startswith("# study\n")
    for words in ("| magnitude -> int8-qat | onnxruntime |", f"- {late.verdicts[0]}", "torch 2.15.0", "## Steps"):
        assert words in text
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(pictures) > 8
    assert set(pictures) == files.keys() - {"report.md"}
    assert all(files[name].startswith("<svg") for name in pictures)


def test_all_plots_give_a_stage_the_same_colour(late: Report) -> None:
    def domains(tree: Any) -> list[list[str]]:
        if isinstance(tree, dict):
            own = [tree["domain"]] if isinstance(tree.get("domain"), list) and "magnitude" in tree["domain"] else []
            return own + [found for value in tree.values() for found in domains(value)]
        return [found for value in tree for found in domains(value)] if isinstance(tree, list) else []

    found = [d for figure in figures(late, letters(stages_of(late))) for d in domains(figure.spec)]
    assert len(found) > 10
    assert all(domain == list(STAGES) for domain in found)


def test_a_kept_report_of_version_1_still_has_its_page() -> None:
    from studies import MEASURED

    assert "logit-kd" in render(read_report(MEASURED))["report.html"]


def test_a_page_takes_a_few_seconds_of_work_at_most(late: Report) -> None:
    began = time.process_time()
    render(late)
    assert time.process_time() - began < 5
