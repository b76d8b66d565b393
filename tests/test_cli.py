from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import light
import pytest
from attrs import define
from bench import Bench, light_spec, names
from light import stage_record
from processes import write_distribution

from pqd_core import CommandDef, MeasurerDef, PqdError, Problem, RecipeDef, RendererDef, __version__
from pqd_core.artifact import Store
from pqd_core.host.cli import app, main
from pqd_core.host.paths import default_store
from pqd_core.host.plugins import Host, Plugin

COMMANDS = ["run", "plan", "plugins", "schema", "report", "recipes", "doctor"]


@define
class Said:
    code: int
    out: str
    err: str


Call = Callable[..., Said]


@pytest.fixture
def call(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`pqd ARGUMENTS...` in this process, in the test's own folder, with the toys as its only plugins."""
    monkeypatch.setattr("pqd_core.host.plugins._default", host)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "spec.json").write_text(json.dumps(light_spec()))

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["pqd", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Said(int(end.value.code or 0), captured.out, captured.err)

    return run


# --- help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(call: Call, command: str) -> None:
    said = call(command, "--help")
    assert said.code == 0
    assert f"Example: pqd {command}" in said.out
    assert "--no-" not in said.out, "a flag is given or not; it has no second form"
    assert call(command, "-h").out == said.out


def test_these_are_all_commands(call: Call) -> None:
    assert sorted(str(command.callback.__name__) for command in app.registered_commands if command.callback) == sorted(
        COMMANDS
    )
    said = call("--help")
    assert all(command in said.out for command in COMMANDS)


def test_the_version_is_told(call: Call) -> None:
    assert call("--version").out == f"pqd {__version__}\n"


@pytest.mark.parametrize("arguments", [["rnu"], ["run"], ["plan"], ["report"], ["run", "spec.json", "--ot", "x"]])
def test_a_wrong_command_line_is_told_without_a_traceback(call: Call, arguments: list[str]) -> None:
    said = call(*arguments)
    assert said.code == 2
    assert "Error" in said.err
    assert "Traceback" not in said.err


# --- commands of plugins


def weigh(file: str, grams: bool = False) -> None:
    if file == "nothing":
        raise PqdError(Problem(file, "weighs nothing", "put something on the scale"))
    sys.stdout.write(f"{file} weighed{' in grams' if grams else ''}\n")


def add_command(host: Host, plugin: str = "scale", name: str = "weigh", load: Any = weigh) -> None:
    example = f"pqd {name} apple --grams"
    host.add(plugin, CommandDef(name=name, summary="Weighs a thing.", load=load, example=example))


def test_a_plugin_brings_a_command(call: Call, host: Host) -> None:
    add_command(host)
    assert "Weighs a thing." in call("--help").out
    assert call("weigh", "apple", "--grams").out == "apple weighed in grams\n"
    assert call("scale:weigh", "apple").out == "apple weighed\n"
    said = call("weigh", "-h")
    assert "Example: pqd weigh apple --grams" in said.out
    assert "--grams" in said.out


def test_the_errors_of_a_brought_command_are_told_like_the_core_s(call: Call, host: Host) -> None:
    add_command(host)
    said = call("weigh", "nothing")
    assert (said.code, said.err) == (1, "pqd: nothing: weighs nothing; put something on the scale\n")
    said = call("weigh", "apple", "--gramms")
    assert said.code == 2
    assert "No such option: --gramms" in said.err


def test_a_command_that_does_not_load_names_its_plugin_and_hides_no_other(call: Call, host: Host) -> None:
    add_command(host, load="nothing_of_that_name:weigh")
    assert "Weighs a thing." in call("--help").out
    said = call("weigh", "apple")
    assert said.code == 2
    assert said.err.startswith("pqd: pqd weigh: cannot be loaded: ModuleNotFoundError")
    assert "it comes from the plugin scale" in said.err


def test_the_core_s_commands_cannot_be_replaced(call: Call, host: Host) -> None:
    add_command(host, name="recipes")
    assert call("recipes").out == "no recipe is installed\n"
    assert call("scale:recipes", "apple").out == "apple weighed\n"


def test_two_plugins_with_one_command_are_both_listed_by_their_full_names(call: Call, host: Host) -> None:
    add_command(host)
    add_command(host, plugin="balance")
    said = call("--help").out
    assert "scale:weigh" in said
    assert "balance:weigh" in said
    assert call("weigh", "apple").code == 2
    assert call("balance:weigh", "apple").out == "apple weighed\n"
    assert "No such command 'weigh'; write scale:weigh or balance:weigh" in call("weigh", "apple").err


def test_a_command_that_is_not_there_gets_the_near_ones_and_the_suspects(call: Call, host: Host) -> None:
    add_command(host)
    assert "No such command 'wiegh'; did you mean weigh?" in call("wiegh").err
    assert "No such command 'rnu'; did you mean run?" in call("rnu").err
    host.suspects.append("balance")
    assert "(plugins that failed to load: balance; see pqd plugins -v)" in call("wiegh").err
    assert "No such option: --wiegh" in call("--wiegh").err


LONG = 300 * "a"
"""No file can have this name; to ask for it is refused, as it is to look into a folder of somebody else's."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", LONG + ".yaml"],
        ["plan", "spec.json", "--set", f"baseline.checkpoint={LONG}"],
        ["plan", "spec.json", "--store", LONG],
        ["run", "spec.json", "--out", LONG],
        ["report", LONG],
        ["report", ".", LONG],
        ["weigh", LONG],
    ],
)
def test_a_path_that_the_system_refuses_is_told_without_a_traceback(
    call: Call, host: Host, arguments: list[str]
) -> None:
    add_command(host, load=lambda file: sys.stdout.write(str(Path(file).stat())))
    call("run", "spec.json", "--out", ".")
    said = call(*arguments)
    assert said.code in (1, 2)
    assert "File name too long" in said.err.splitlines()[-1]
    assert "Traceback" not in said.err


# --- run


def test_run_shows_its_table_and_where_everything_lies(call: Call, tmp_path: Path) -> None:
    said = call("run", "spec.json", "--out", "[my] run")
    assert said.code == 0
    assert "dense baseline" in said.out
    assert "report.json, results.csv, log.jsonl and deployed/ are in [my] run" in said.out
    assert "step 2 of 2, nudge" in said.err
    assert "nudge  1 epoch, " in said.err
    assert (tmp_path / "[my] run" / "report.json").is_file()


def test_run_again_says_that_nothing_was_computed(call: Call) -> None:
    call("run", "spec.json")
    said = call("run", "spec.json")
    assert "nothing was computed again: every step was in the store" in said.out
    assert "baseline  0 epochs, reused" in said.err
    longer = call("run", "spec.json", "--set", "stages=[nudge, nudge]", "--set", "stages.0.epochs=1")
    assert "2 of 3 steps were in the store" in longer.out


def test_run_goes_where_it_is_told(call: Call, tmp_path: Path) -> None:
    call("run", "spec.json", "--store", "mine")
    assert names(tmp_path / "mine") == ["aside", "deployed", "locks", "measured", "steps"]
    assert names(tmp_path / "pqd-runs") == ["toy-net-toy-blobs-nudge"]
    assert not (tmp_path / "default-store").exists()


def test_all_problems_of_a_spec_are_told_without_a_traceback(call: Call) -> None:
    said = call("run", "spec.json", "--set", "sede=1", "--set", "stages.0.by=2", "--set", "device=gpu")
    assert said.code == 2
    assert said.err.splitlines() == [
        "pqd: stages.0.nudge.by: input should be less than or equal to 1",
        "pqd: device: input should be 'auto', 'cpu' or 'cuda'",
        "pqd: sede: unknown key; did you mean seeds?",
    ]
    assert said.out == ""


def test_a_cell_that_is_missing_ends_with_1_after_everything_else(call: Call, host: Host, tmp_path: Path) -> None:
    metrics = host.registry("measurer").find("light-size").record.metrics
    host.add("given", MeasurerDef(name="broken", summary="s", metrics=metrics, load="nowhere.at.all"))
    said = call("run", "spec.json", "--set", "measure=[toy-accuracy, broken]", "--out", "out")
    assert said.code == 1
    assert "! nudge on light: size_bytes is missing: broken failed: ModuleNotFoundError" in said.out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["complete"] is False


def test_an_observer_that_raises_is_told_and_ends_with_0(call: Call, host: Host) -> None:
    from test_run import watcher

    def fail() -> None:
        raise RuntimeError("no network")

    watcher(host, "nervous", pqd_step_finished=fail)
    said = call("run", "spec.json")
    assert said.code == 0
    assert "! plugin nervous failed in pqd_step_finished: RuntimeError('no network')" in said.out


def test_a_stage_that_raises_ends_with_1(call: Call, host: Host) -> None:
    from test_run import Raises

    host.add("given", stage_record("faulty", Raises))
    said = call("run", "spec.json", "--set", "stages=[nudge, faulty]")
    assert said.code == 1
    assert "pqd: step 3 of 3, faulty: RuntimeError: out of luck (plugin given, version 1, settings" in said.err
    assert "Traceback" not in said.err


def test_ctrl_c_ends_with_130_wherever_it_comes(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    for place in ("light.Nudge.run", "light.Light.export", "light.LightSize.measure"):
        with monkeypatch.context() as patch:
            patch.setattr(place, staticmethod(interrupt))
            said = call("run", "spec.json")
        assert said.code == 130, place
        assert "pqd: interrupted; nothing that was finished is lost, run again to go on" in said.err
    assert call("run", "spec.json").code == 0


def test_a_recipe_of_parts_runs_each_and_fails_if_one_does(call: Call, host: Host, tmp_path: Path) -> None:
    for name in ("part/a", "part/b"):
        host.add("given", RecipeDef(name=name, summary="s", spec=light_spec(seed=len(name) + ord(name[-1]))))
    host.add("given", RecipeDef(name="both", summary="s", parts=("part/a", "part/b")))
    assert call("run", "both", "--out", "out").code == 0
    assert names(tmp_path / "out") == ["part-a", "part-b"]
    assert call("plan", "both").out.count("2 steps, 1 epoch, 0 still to run") == 2


# --- plan


def test_plan_shows_the_tree_its_epochs_and_what_is_done(call: Call) -> None:
    before = call("plan", "spec.json")
    assert before.code == 0
    lines = before.out.splitlines()
    assert lines[0] == "toy-net-toy-blobs-nudge: toy-net on toy-blobs"
    assert lines[1].split()[:3] == ["baseline", "0", "epochs"]
    assert lines[2].split()[:4] == ["└─", "nudge", "1", "epoch"]
    assert lines[3] == "2 steps, 1 epoch, 1 still to run"
    call("run", "spec.json")
    after = call("plan", "spec.json").out.splitlines()
    assert "done" in after[1]
    assert "done" in after[2]
    assert after[3] == "2 steps, 1 epoch, 0 still to run"


def test_plan_shows_what_a_study_shares_and_how_long_it_takes_once_something_was_measured(call: Call) -> None:
    study = ["--set", "stages=[nudge, toy-tune, bulky]", "--set", "study=full"]
    study += ["--set", "budget={epochs: 100, split: [20, 40, 40]}", "--set", "baseline={epochs: 3}"]
    before = call("plan", "spec.json", *study).out.splitlines()
    assert before[-3:-1] == [
        "15 pipelines share 15 stage runs and 500 epochs",
        "each alone would take 33 and 1,100, and train a baseline of its own: "
        "600 epochs of stages and 42 of baselines are saved",
    ]
    assert before[-1].startswith("no estimate of the time: nothing of toy-net on toy-blobs")
    call("run", "spec.json")
    after = call("plan", "spec.json", *study).out.splitlines()[-1]
    assert after.startswith("about ")
    assert "from 2 steps measured here; toy-tune, bulky not run here yet, taken as the slowest that was" in after
    (found,) = json.loads(call("plan", "spec.json", "--json", *study).out)
    assert (found["pipelines"], found["shared"]) == (15, {"stage_runs": 15, "epochs": 500})
    assert found["alone"] == {"stage_runs": 33, "epochs": 1100}
    assert found["saved"] == {"stage_epochs": 600, "baseline_epochs": 42}
    assert found["estimate"]["seconds"] > 0


def test_a_foreign_manifest_or_one_of_another_device_is_no_basis_of_an_estimate(call: Call, tmp_path: Path) -> None:
    call("run", "spec.json")
    store = Store(default_store())
    ((_, about), *_) = store.remembered("steps")
    more = ("--set", "budget.epochs=7", "--json")
    for i, changes in enumerate(({"lineage": []}, {"seconds": None}, {"history": 3}, {"device": "cuda"})):
        with store.saved("steps", f"{i:064}", {**about, **changes}):
            pass
    with store.saved("deployed", "f" * 64, {"step": about["pipeline"]}):
        pass
    (found,) = json.loads(call("plan", "spec.json", *more).out)
    assert found["estimate"]["measured_steps"] == 2


def test_plan_shows_one_tree_for_several_seeds_with_how_many_are_done(call: Call) -> None:
    call("run", "spec.json", "--set", "seeds=1")
    lines = call("plan", "spec.json", "--set", "seeds=[0, 1, 2]").out.splitlines()
    assert lines[0].endswith("toy-net on toy-blobs, seeds 0, 1, 2")
    assert ["1 of 3 done" in line for line in lines[1:3]] == [True, True]
    assert lines[3] == "6 steps, 3 epochs, 2 still to run"


def test_plan_as_json_has_keys_parents_facts_and_what_is_done(call: Call) -> None:
    (found,) = json.loads(call("plan", "spec.json", "--json").out)
    assert (found["epochs"], found["epochs_to_run"]) == (1, 1)
    assert found["steps"][1]["parent"] == found["steps"][0]["key"]
    assert found["steps"][1]["pipeline"] == ["nudge"]
    assert found["steps"][0]["facts"] == ["plain-modules", "trainable"]
    assert [step["done"] for step in found["steps"]] == [False, False]


def test_plan_writes_nothing(call: Call, tmp_path: Path) -> None:
    call("plan", "spec.json")
    assert names(tmp_path) == ["spec.json"]


def test_plan_tells_an_illegal_order(call: Call, host: Host) -> None:
    host.add("given", stage_record("trace", ends=("plain-modules",)))
    host.add("given", stage_record("cut", needs=("plain-modules",)))
    said = call("plan", "spec.json", "--set", "stages=[trace, cut]")
    assert said.code == 2
    assert said.err.startswith("pqd: stages.1.cut: step 2, cut, needs a model that is plain-modules, which step 1,")


# --- plugins, schema, recipes, report


def test_plugins_shows_who_brought_what_and_who_failed(call: Call, host: Host) -> None:
    host.plugins.append(Plugin("broken", "p_broken", "strange", "1.0", error="ImportError: no such thing"))
    short, long = call("plugins").out, call("plugins", "-v").out
    assert "  stage: nudge, bulky" in short
    assert "  failed to load; see pqd plugins -v" in short
    assert "  stage nudge: Adds noise." in long
    assert light.__doc__.splitlines()[0] in long
    assert light.__doc__.splitlines()[0] not in short
    assert "  hooks: pqd_measurers, pqd_runtimes, pqd_stages" in long
    assert "  failed to load: ImportError: no such thing" in long
    found = {plugin["name"]: plugin for plugin in json.loads(call("plugins", "--json").out)}
    assert found["broken"]["error"] == "ImportError: no such thing"
    assert found["light"]["brings"]["runtime"] == ["light"]


def test_the_schema_knows_what_is_installed(call: Call) -> None:
    schema = json.loads(call("schema").out)
    assert schema["additionalProperties"] is False
    text = json.dumps(schema)
    for words in ('"nudge"', "Standard deviation of the noise.", '"toy-blobs"', "Where to train.", '"const": "nudge"'):
        assert words in text
    assert json.loads(call("schema", "--report").out)["title"] == "Report"


def test_the_schema_accepts_what_the_spec_accepts(call: Call) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(call("schema").out)
    good = light_spec(stages=["nudge", {"use": "nudge", "by": 0.5, "epochs": 3}])
    jsonschema.validate(good, schema)
    for wrong in ({"stages": [{"use": "nudge", "bye": 1}]}, {"sead": 1}, {"stages": ["nugde"]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, **wrong}, schema)


def test_recipes_are_listed(call: Call, host: Host) -> None:
    assert call("recipes").out == "no recipe is installed\n"
    host.add("given", RecipeDef(name="demo", summary="A try.", spec=light_spec()))
    assert call("recipes").out == "demo  A try.\n"


def test_report_shows_a_finished_run_again(call: Call) -> None:
    ran = call("run", "spec.json", "--out", "out")
    said = call("report", "out")
    assert said.code == 0
    assert ran.out.splitlines()[:5] == said.out.splitlines()[:5]
    assert json.loads(call("report", "out", "--json").out)["schema_version"] == 3


def page_maker(made: str) -> RendererDef:
    return RendererDef(name="page", summary="A page.", file="page.html", load=lambda report: {"page.html": made})


def test_report_opens_the_page_and_writes_it_first_where_it_is_missing(
    call: Call, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: bool(opened.append(url)) or True)
    call("run", "spec.json", "--out", "out")
    assert call("report", "out", "--open").err.startswith("pqd: --open: no installed plugin makes a page of a report")
    host.add("given", page_maker("first"))
    said = call("report", "out", "--open")
    page = tmp_path / "out" / "page.html"
    assert said.out.splitlines()[-1] == str(page)
    assert (page.read_text(), opened) == ("first", [page.as_uri()])


def test_report_writes_its_forms_again_on_request(call: Call, host: Host, tmp_path: Path) -> None:
    host.add("given", page_maker("first"))
    call("run", "spec.json", "--out", "out")
    host.add("given", page_maker("second"))
    assert call("report", "out").code == 0
    assert (tmp_path / "out" / "page.html").read_text() == "first"
    assert "page.html, report.json, results.csv" in call("report", "out", "--render").out
    assert (tmp_path / "out" / "page.html").read_text() == "second"


def test_report_of_two_runs_says_what_differs(call: Call) -> None:
    call("run", "spec.json", "--out", "a")
    call("run", "spec.json", "--out", "b", "--set", "stages.0.by=0.5")
    said = call("report", "a", "b")
    assert said.code == 0
    assert "  spec.stages.0.by: 0.3 -> 0.5" in said.out
    assert "nudge on light" in said.out
    found = json.loads(call("report", "a", "b", "--json").out)
    assert {pair["metric"] for pair in found["pairs"]} == {"accuracy", "size_bytes"}
    assert call("report", "a", "nowhere").code == 2


def test_two_runs_have_a_page_which_is_opened(call: Call, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: bool(opened.append(url)) or True)
    call("run", "spec.json", "--out", "a")
    call("run", "spec.json", "--out", "b")
    said = call("report", "a", "b", "--open")
    assert said.code == 1
    assert "--open: no installed plugin makes a page of a comparison; see pqd plugins" in said.err
    host.add("pages", page_record(lambda found: {"page.html": f"{len(found.pairs)} pairs"}))
    said = call("report", "a", "b", "--open")
    assert said.code == 0, said.err
    assert "asked and run alike" in said.out
    [page] = Path("b").resolve().glob("compared-with-a-*/page.html")
    assert said.out.splitlines()[-1] == str(page)
    assert opened == [page.as_uri()]
    assert page.read_text().endswith(" pairs")


def test_two_runs_are_written_without_being_opened_and_it_is_said_where(call: Call, host: Host) -> None:
    call("run", "spec.json", "--out", "a")
    call("run", "spec.json", "--out", "b")
    host.add("pages", page_record(lambda found: {"page.html": "", "plots/one.svg": ""}))
    assert "page.html and plots are in b/compared-with-a-" in call("report", "a", "b", "--render").out
    assert json.loads(call("report", "a", "b", "--render", "--json").out)["pairs"]


def test_runs_of_one_name_in_different_folders_are_compared_in_different_folders(call: Call, host: Host) -> None:
    host.add("pages", page_record(lambda found: {"page.html": found.a}))
    for run in ("a", "monday/a", "tuesday/a"):
        call("run", "spec.json", "--out", run)
    for _ in range(2):
        for day in ("monday", "tuesday"):
            assert call("report", f"{day}/a", "a", "--render").code == 0
    pages = {page.read_text() for page in Path("a").glob("compared-with-a-*/page.html")}
    assert pages == {"monday/a", "tuesday/a"}


def test_a_page_of_two_runs_that_cannot_be_made_is_told(call: Call, host: Host) -> None:
    call("run", "spec.json", "--out", "a")
    host.add("pages", page_record(lambda found: 1 / 0))
    said = call("report", "a", "a", "--open")
    assert said.code == 1
    assert "page.html is not written: renderer pages:page failed: ZeroDivisionError" in said.err
    assert "was not written; the cause is told above" in said.err


def page_record(compare: Callable[[Any], Any]) -> RendererDef:
    return RendererDef(name="page", summary="A page.", file="page.html", load=lambda _: {}, compare=compare)


def test_report_of_an_unfinished_run_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    said = call("report", "out")
    assert said.code == 2
    assert (
        said.err
        == "pqd: out/report.json: cannot be read: No such file or directory; give the folder of a finished run\n"
    )


# --- as a process


def pqd_command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from pqd_core.host.cli import main; main()", *arguments]


def test_a_terminal_that_knows_no_box_lines_gets_question_marks(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(light_spec()))
    write_distribution(tmp_path, "toy-parts", {"toys": "pqd_core.testing.toys", "light": "light"})
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PQD_PLUGINS": "toys,light"}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(pqd_command("plan", "spec.json"), cwd=tmp_path, env=env, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0
    assert b"? nudge" in done.stdout


def test_a_closed_pipe_is_no_error_worth_a_traceback(tmp_path: Path) -> None:
    write_distribution(tmp_path, "toy-parts", {"light": "light"})
    process = subprocess.Popen(pqd_command("schema"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait()
    process.stderr.close()


def test_a_plugin_that_fails_to_load_is_one_line_of_warning(pqd: Any, tmp_path: Path) -> None:
    (tmp_path / "p_bad.py").write_text("import nothing_of_that_name\n")
    write_distribution(tmp_path, "strange", {"bad": "p_bad"})
    env = {"PQD_PLUGINS": "toys,light,bad"}
    process = pqd("plugins", env=env)
    assert process.wait() == 0
    warning, *rest = process.output.splitlines()
    assert warning == "pqd: plugin bad failed to load and was left out; see pqd plugins -v"
    assert "bad  (strange 1.0, p_bad)" in rest
    assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in pqd("plugins", "-v", env=env).finished()
    strict = pqd("plugins", env={**env, "PQD_STRICT": "1"})
    assert strict.wait() == 2
    assert strict.output.startswith("pqd: plugin bad (p_bad) failed to load: ModuleNotFoundError")


def test_the_bench_and_the_command_line_agree(call: Call, bench: Bench) -> None:
    call("run", "spec.json", "--out", "cli", "--store", "store")
    report = bench.run(out="python")
    assert all(step.reused for step in report.steps), "one store, one set of keys"
