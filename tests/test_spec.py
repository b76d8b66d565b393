from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench import light_spec
from light import stage_record
from pydantic import Field, ValidationError

from pqd_core import RecipeDef, Settings, Spec, Training
from pqd_core.host.errors import SpecError
from pqd_core.host.plugins import Host
from pqd_core.host.read_spec import parse_spec, read_mapping, read_spec, read_specs
from pqd_core.plan import build_plan
from pqd_core.spec import Budget

YAML = """
backbone: toy-net
dataset: {use: toy-blobs, images: 120}
baseline: {epochs: 0}
stages:
  - nudge
  - {use: nudge, by: 0.5, epochs: 3}
"""
TOML = """
backbone = "toy-net"
dataset = {use = "toy-blobs", images = 120}
baseline = {epochs = 0}
stages = ["nudge", {use = "nudge", by = 0.5, epochs = 3}]
"""
JSON = """
{"backbone": "toy-net", "dataset": {"use": "toy-blobs", "images": 120}, "baseline": {"epochs": 0},
 "stages": ["nudge", {"use": "nudge", "by": 0.5, "epochs": 3}]}
"""


class Nested(Settings):
    training: Training = Field(Training(lr=0.02), description="Training.")


@pytest.fixture
def parse(host: Host) -> Any:
    return lambda **changes: parse_spec(light_spec(**changes), host)


@pytest.fixture
def read(host: Host, tmp_path: Path) -> Any:
    def read(text: str | bytes, *overrides: str, name: str = "spec.yaml") -> Spec:
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_spec(file, overrides, host)

    return read


def problems_of(error: pytest.ExceptionInfo[SpecError]) -> list[str]:
    return [str(problem) for problem in error.value.problems]


# --- the forms of a spec


def test_yaml_toml_and_json_mean_the_same(read: Any, host: Host) -> None:
    found = [read(YAML), read(TOML, name="spec.toml"), read(JSON, name="spec.json")]
    keys = [[step.key for step in build_plan(spec, host).steps] for spec in found]
    assert keys[0] == keys[1] == keys[2]
    assert [stage.settings.by for stage in found[0].stages] == [0.3, 0.5]


def test_a_short_stage_is_a_stage_with_its_defaults(parse: Any, host: Host) -> None:
    short, full = parse(stages=["nudge"]), parse(stages=[{"use": "light:nudge", "by": 0.3}])
    assert build_plan(short, host).steps[-1].key == build_plan(full, host).steps[-1].key


def test_a_spec_survives_the_way_through_its_own_json(read: Any, host: Host) -> None:
    spec = read(YAML)
    again = parse_spec(json.loads(spec.model_dump_json()), host)
    assert [s.key for s in build_plan(again, host).steps] == [s.key for s in build_plan(spec, host).steps]


def test_a_spec_made_in_python_is_the_spec_of_the_file(read: Any, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pqd_core.host.plugins._default", host)
    made = Spec(
        backbone="toy-net",
        dataset={"use": "toy-blobs", "images": 120},
        baseline={"epochs": 0},
        stages=["nudge", {"use": "nudge", "by": 0.5, "epochs": 3}],
    )
    assert [s.key for s in build_plan(made, host).steps] == [s.key for s in build_plan(read(YAML), host).steps]
    with pytest.raises(ValidationError, match="unknown stage 'nugde'; did you mean nudge"):
        Spec(backbone="toy-net", dataset="toy-blobs", stages=["nugde"])


def test_a_spec_without_stages_asks_for_the_baseline_only(parse: Any, host: Host) -> None:
    assert [step.name for step in build_plan(parse(stages=[]), host).steps] == ["baseline"]


def test_a_merge_key_of_yaml_is_understood(read: Any) -> None:
    spec = read(YAML + "  - &mild {use: nudge, by: 0.25}\n  - {<<: *mild, epochs: 7}\n")
    assert (spec.stages[3].settings.by, spec.stages[3].epochs) == (0.25, 7)


def test_numbers_in_any_notation_are_numbers(read: Any) -> None:
    assert read(YAML, "baseline.lr=1e-3").baseline.lr == 0.001
    assert read(YAML, "baseline.epochs=1_000").baseline.epochs == 1000


def test_a_spec_of_unicode_keeps_its_words_and_gets_a_plain_folder_name(read: Any) -> None:
    spec = read(YAML + "name: '夜間 Läufe/eins'\ndescription: 'größer 🌱'\n")
    assert (spec.name, spec.description, spec.title) == ("夜間 Läufe/eins", "größer 🌱", "L-ufe-eins")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("..", "toy-net-toy-blobs-nudge"),
        ("夜", "toy-net-toy-blobs-nudge"),
        ("../../etc", "etc"),
        ("a b", "a-b"),
        ("", "toy-net-toy-blobs-nudge"),
    ],
)
def test_a_title_is_safe_as_a_folder_name(parse: Any, name: str, title: str) -> None:
    assert parse(name=name).title == title


def test_a_checkpoint_means_no_dense_epochs_unless_they_are_asked_for(parse: Any, tmp_path: Path) -> None:
    (tmp_path / "c.pt").touch()
    assert parse(baseline={"checkpoint": str(tmp_path / "c.pt")}).baseline.epochs == 0
    assert parse(baseline={"checkpoint": str(tmp_path / "c.pt"), "epochs": 2}).baseline.epochs == 2


# --- budgets


@pytest.mark.parametrize(
    ("epochs", "split", "shares"),
    [
        (100, (20, 40, 40), [20, 40, 40]),
        (10, (20, 40, 40), [2, 4, 4]),
        (7, (20, 40, 40), [1, 3, 3]),
        (1, (20, 40, 40), [0, 1, 0]),
        (0, (20, 40, 40), [0, 0, 0]),
        (10, None, [4, 3, 3]),
        (11, None, [4, 4, 3]),
        (5, (0, 1, 0), [0, 5, 0]),
        (3, (0.1, 0.1, 0.1), [1, 1, 1]),
    ],
)
def test_a_budget_is_shared_out_whole(epochs: int, split: tuple[float, ...] | None, shares: list[int]) -> None:
    assert Budget(epochs=epochs, split=split).allocate(3) == shares


@pytest.mark.parametrize("stages", range(1, 13))
def test_shares_sum_to_the_budget_whatever_they_are(stages: int) -> None:
    for epochs in (0, 1, 7, 100, 999_983):
        split = tuple(1 / (i + 3) for i in range(stages))
        shares = Budget(epochs=epochs, split=split).allocate(stages)
        assert sum(shares) == epochs
        assert min(shares) >= 0


def test_a_stages_own_epochs_win_and_leave_the_others_shares_alone(parse: Any) -> None:
    spec = parse(stages=[{"use": "nudge", "epochs": 9}, "nudge"], budget={"epochs": 4})
    assert spec.stage_epochs() == [9, 2]
    assert parse(stages=[{"use": "nudge", "epochs": 0}]).stage_epochs() == [0]


@pytest.mark.parametrize("split", [[1], [1, 2, 3], [0, 0], []])
def test_a_split_that_does_not_fit_the_stages_is_refused(parse: Any, split: list[float]) -> None:
    with pytest.raises(SpecError, match=r"budget\.split .* 2 stages") as error:
        parse(stages=["nudge", "nudge"], budget={"split": split})
    assert "1 shares" not in str(error.value)


def test_a_split_where_no_stage_trains_is_refused_in_these_words(parse: Any, host: Host) -> None:
    host.add("test", stage_record("untrained", trains=False))
    with pytest.raises(SpecError, match="no stage trains, leave it out") as error:
        parse(stages=["untrained"], budget={"split": [1]})
    assert "0 stages" not in str(error.value)


@pytest.mark.parametrize("split", [[1e308, 1e308], [float("inf"), 1], [float("nan"), 1], [-1, 2]])
def test_a_split_of_impossible_shares_is_refused_at_its_place(parse: Any, split: list[float]) -> None:
    with pytest.raises(SpecError) as error:
        parse(stages=["nudge", "nudge"], budget={"split": split})
    assert problems_of(error)[0].startswith("budget.split.0: ")


def test_more_threads_than_a_machine_can_run_are_refused(parse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert parse(threads=32).threads == 32
    with pytest.raises(SpecError, match="threads: 33 are too many for 2 CPUs; write 32 at most"):
        parse(threads=33)


# --- what is wrong, and where


def test_every_problem_is_told_at_once_each_at_its_place(parse: Any) -> None:
    with pytest.raises(SpecError) as error:
        parse(
            backbone="toy-met",
            dataset={"use": "toy-blobs", "images": "many"},
            stages=["nudge", {"use": "nudge", "bye": 1}, {"by": 1}, 7, "magnitud"],
            budgets={},
            seed=-1,
            device="gpu",
        )
    assert error.value.exit_code == 2
    assert problems_of(error) == [
        "backbone: unknown backbone 'toy-met'; did you mean toy-net?",
        "dataset.toy-blobs.images: input should be a valid integer, unable to parse string as an integer",
        "stages.1.nudge.bye: unknown key; did you mean by?",
        "stages.2: expected a stage's name, or a mapping with the key 'use'",
        "stages.3: expected a stage's name, or a mapping with the key 'use'",
        "stages.4: unknown stage 'magnitud'; known: bulky, nudge, toy-tune",
        "seed.0: input should be greater than or equal to 0",
        "device: input should be 'auto', 'cpu' or 'cuda'",
        "budgets: unknown key; did you mean budget?",
    ]


def test_an_unknown_key_far_down_is_told_with_the_nearest_known_one(host: Host) -> None:
    host.add("given", stage_record("tuned", settings=Nested))
    with pytest.raises(SpecError) as error:
        parse_spec(light_spec(stages=[{"use": "tuned", "training": {"lrr": 1}}], baseline={"batchsize": 2}), host)
    assert problems_of(error) == [
        "baseline.batchsize: unknown key; did you mean batch_size?",
        "stages.0.tuned.training.lrr: unknown key; did you mean lr?",
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "a lot", None, [1], {"x": 1}, "1.5.0"])
def test_a_setting_of_the_wrong_type_is_refused_at_its_place(parse: Any, value: Any) -> None:
    with pytest.raises(SpecError) as error:
        parse(stages=[{"use": "nudge", "by": value}])
    assert [problem.where for problem in error.value.problems] == ["stages.0.nudge.by"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": "nudge"}, "stages: expected a list; write [nudge]"),
        ({"stages": None}, "stages: expected a list"),
        ({"stages": {"0": "nudge"}}, "stages: expected a list"),
        ({"budget": 10}, "budget: expected a mapping of keys to values"),
        ({"baseline": ["epochs", 3]}, "baseline: expected a mapping of keys to values"),
        ({"backbone": ["toy-net"]}, "backbone: expected a backbone's name, or a mapping with the key 'use'"),
        ({"dataset": {"use": 7}}, "dataset: expected a dataset's name, or a mapping with the key 'use'"),
        ({"name": 7}, "name: input should be a valid string"),
        ({"threads": "all"}, "threads: input should be a valid integer, unable to parse string as an integer"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_words_of_yaml(parse: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(**changes)
    assert problems_of(error) == [message]


def test_what_is_missing_is_told_at_its_place(host: Host) -> None:
    with pytest.raises(SpecError) as error:
        parse_spec({}, host)
    assert problems_of(error) == ["backbone: field required", "dataset: field required"]


def test_braces_in_a_wrong_value_are_shown_as_they_were_written(parse: Any) -> None:
    with pytest.raises(SpecError) as error:
        parse(stages=["{nudge}", {"use": "nudge", "{x}": 1}])
    assert problems_of(error)[0].startswith("stages.0: unknown stage '{nudge}'; did you mean nudge?")
    assert problems_of(error)[1].startswith("stages.1.nudge.{x}: unknown key; ")


@pytest.mark.parametrize("changes", [{"seed": 2**32}, {"seed": 10**400}, {"budget": {"epochs": 10**400}}])
def test_a_huge_number_is_refused_and_not_computed_with(parse: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="should be less than"):
        parse(**changes)


def test_a_thirteenth_stage_is_refused_and_a_twelfth_is_not(parse: Any) -> None:
    assert len(parse(stages=["nudge"] * 12).stages) == 12
    with pytest.raises(SpecError, match=r"stages: .*at most 12"):
        parse(stages=["nudge"] * 13)


@pytest.mark.parametrize("field", ["runtimes", "measure"])
def test_a_component_that_is_asked_for_twice_is_refused(parse: Any, field: str) -> None:
    name = light_spec()[field][0]
    with pytest.raises(SpecError, match=f"{field}: .*{name}.* twice"):
        parse(**{field: [name, {"use": name}]})


def test_keys_that_are_no_words_are_refused(read: Any) -> None:
    with pytest.raises(SpecError) as error:
        read(YAML + "1: 2\n")
    assert len(error.value.problems) == 1
    with pytest.raises(SpecError) as error:
        read(YAML + "  - {use: nudge, 3: 4}\n")
    assert error.value.problems[0].where.startswith("stages.2")


# --- files


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("backbone: toy-net\nbackbone: x\n", "s.yaml", "the key 'backbone' is there twice"),
        ("stages: [{use: nudge, by: 1, by: 2}]\n", "s.yaml", "the key 'by' is there twice"),
        ('{"seed": 1, "seed": 2}', "s.json", "the key 'seed' is there twice"),
        ("seed = 1\nseed = 2\n", "s.toml", "overwrite"),
        ("- a\n- b\n", "s.yaml", "holds no mapping"),
        ("", "s.yaml", "holds no mapping"),
        ("just words", "s.yaml", "holds no mapping"),
        ("[1, 2]", "s.json", "holds no mapping"),
        ("a: [1, 2", "s.yaml", "line"),
        ("{", "s.json", "line 1"),
        ("a = = 1", "s.toml", "line 1"),
        (b"name: \xff\xfe\x00", "s.yaml", "decode"),
        ("name: \x07", "s.yaml", "special characters are not allowed"),
        ("a: !!python/object/apply:os.system ['true']", "s.yaml", "could not determine a constructor"),
        ("? [a]\n: 1\n", "s.yaml", "unhashable"),
        ("name: 2024-13-45\n", "s.yaml", "month"),
        (f"seed: {'9' * 5000}\n", "s.yaml", "digits"),
        (f'{{"seed": {"9" * 5000}}}', "s.json", "digits"),
        (f"seed = {'9' * 5000}\n", "s.toml", "digits"),
        ("[" * 20_000, "s.json", "recursion"),
        ("[" * 20_000, "s.yaml", "recursion"),
        ("a: &a [*a]\n", "s.yaml", "recursive"),
        ("x: " + " " * 2**20, "s.yaml", "too large for a spec"),
    ],
)
def test_a_file_that_is_no_spec_is_refused_with_its_name_and_no_traceback(
    read: Any, text: str | bytes, name: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as error:
        read(text, name=name)
    assert error.value.exit_code == 2


def test_a_spec_that_is_a_folder_or_is_not_there_is_refused(host: Host, tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(SpecError, match=r"folder\.yaml: cannot be read: Is a directory"):
        read_spec(tmp_path / "folder.yaml", host=host)
    with pytest.raises(SpecError, match=r"none\.yaml: cannot be read: No such file"):
        read_spec(tmp_path / "none.yaml", host=host)
    for name in (str(tmp_path), "x" * 5000, "x" * 5000 + ".yaml", ".", ""):
        with pytest.raises(SpecError):
            read_spec(name, host=host)


def test_a_file_without_a_suffix_is_read_as_yaml(read: Any) -> None:
    assert read(YAML, name="request").dataset.settings.images == 120


def test_a_yaml_file_never_runs_code(tmp_path: Path) -> None:
    target = tmp_path / "made"
    (tmp_path / "s.yaml").write_text(f"a: !!python/object/apply:os.mkdir ['{target}']")
    with pytest.raises(SpecError):
        read_mapping(tmp_path / "s.yaml")
    assert not target.exists()


# --- seeds and goals


@pytest.mark.parametrize(
    ("changes", "seeds"),
    [({}, (0,)), ({"seed": 3}, (3,)), ({"seeds": 3}, (3,)), ({"seeds": [0, 1, 2]}, (0, 1, 2)), ({"seed": [4]}, (4,))],
)
def test_one_seed_or_several_may_be_given(parse: Any, changes: dict[str, Any], seeds: tuple[int, ...]) -> None:
    assert parse(**changes).seeds == seeds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 1], "seed": 2}, "'seed' and 'seeds' are two names of the same; write one of them"),
        ({"seeds": []}, "seeds: is empty; write 0, or any other number"),
        ({"seeds": [1, 1]}, "seeds: 1 is there twice; the second run would be the first one again"),
        ({"seeds": [0, -1]}, "seeds.1: input should be greater than or equal to 0"),
        ({"seeds": [True]}, "seeds.0: expected a whole number"),
        ({"study": "fulll"}, "study: there is no study 'fulll'; did you mean full?"),
        ({"study": "all"}, "study: input should be 'as-written', 'auto', 'orders', 'subsets' or 'full'"),
        ({"budget": {"by": "place"}}, "budget.by: input should be 'stage' or 'position'"),
    ],
)
def test_a_study_that_cannot_be_is_told_at_its_place(parse: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(**changes)
    assert problems_of(error) == [message]


def test_one_goal_or_several_may_be_given_and_a_metric_without_its_unit(parse: Any) -> None:
    one = parse(goals={"max-accuracy-drop": 0.01, "metric": "size"})
    assert [(goal.metric, goal.max_accuracy_drop, goal.runtime) for goal in one.goals] == [("size_bytes", 0.01, None)]
    two = parse(goals=[{"metric": "accuracy"}, {"metric": "size_bytes", "runtime": "light"}])
    assert [goal.metric for goal in two.goals] == ["accuracy", "size_bytes"]
    assert parse(measure=None, goals={"metric": "size"}).goals[0].metric == "size_bytes"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goals": {"metric": "sise"}}, "goals.0.metric: 'sise' is not measured here; did you mean size?"),
        ({"goals": [{"metric": "{x}"}]}, "goals.0.metric: '{x}' is not measured here; known: accuracy, size"),
        (
            {"goals": {"metric": "size", "max-accuracy-drop": 2}},
            "goals.0.max_accuracy_drop: 2 is 200 points of accuracy; write 0.01 for one, or leave it out",
        ),
        (
            {"goals": {"metric": "size", "max_accuracy_drop": 0.1}, "measure": ["light-size"]},
            "goals.0.max_accuracy_drop: accuracy is not measured here; add its measurer to 'measure'",
        ),
        (
            {"goals": {"metric": "size", "runtime": "lihgt"}},
            "goals.0.runtime: 'lihgt' is not deployed to; did you mean light?",
        ),
        ({"goals": {"max-accuracy-drop": 0.01}}, "goals.0.metric: field required"),
        ({"goals": {"metrik": "size", "metric": "size"}}, "goals.0.metrik: unknown key; did you mean metric?"),
    ],
)
def test_a_goal_that_nothing_can_reach_is_told_at_its_place(parse: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(**changes)
    assert problems_of(error) == [message]


# --- recipes


def test_a_recipe_is_a_spec_under_a_name(host: Host) -> None:
    host.add("given", RecipeDef(name="try/this", summary="A try.", spec=light_spec(stages=["nudge", "nudge"])))
    spec = read_spec("try/this", ["stages.1.by=0.75", "seed=3"], host)
    assert (spec.name, spec.seeds, spec.stages[1].settings.by) == ("try/this", (3,), 0.75)
    assert read_spec("given:try/this", host=host).stages[1].settings.by == 0.3, "the recipe itself was changed"


def test_a_recipe_can_lie_in_a_file_of_its_package(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "carried").mkdir()
    (tmp_path / "carried" / "__init__.py").touch()
    (tmp_path / "carried" / "all.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(tmp_path)
    host.add("given", RecipeDef(name="carried", summary="In a file.", spec="carried:all.yaml"))
    host.add("given", RecipeDef(name="lost", summary="In no file.", spec="carried:none.yaml"))
    assert read_spec("carried", host=host).dataset.settings.images == 120
    with pytest.raises(SpecError, match=r"none\.yaml: cannot be read: No such file"):
        read_spec("lost", host=host)


def test_an_unknown_recipe_is_told_with_near_ones_or_with_what_a_spec_is(host: Host) -> None:
    with pytest.raises(SpecError, match=r"unknown recipe 'demo'.*ends in \.yaml"):
        read_spec("demo", host=host)
    host.add("given", RecipeDef(name="quickstart", summary="A try.", spec=light_spec()))
    with pytest.raises(SpecError, match="unknown recipe 'quikstart'; did you mean quickstart"):
        read_spec("quikstart", host=host)


def test_a_recipe_of_parts_is_read_part_by_part(host: Host) -> None:
    for name in ("part/a", "part/b"):
        host.add("given", RecipeDef(name=name, summary="A part.", spec=light_spec()))
    host.add("given", RecipeDef(name="both", summary="All.", parts=("part/a", "part/b")))
    assert [spec.name for spec in read_specs("both", ["seed=5"], host)] == ["part/a", "part/b"]
    assert {spec.seeds for spec in read_specs("both", ["seed=5"], host)} == {(5,)}
    with pytest.raises(SpecError, match="has several parts; name one: part/a, part/b"):
        read_spec("both", host=host)


# --- --set


@pytest.mark.parametrize(
    ("override", "find", "value"),
    [
        ("seed=7", "seeds", (7,)),
        ("name=''", "name", ""),
        ("name='a=b'", "name", "a=b"),
        ("name=a=b", "name", "a=b"),
        ("dataset=toy-blobs", "dataset.settings.images", 240),
        ("dataset.images=60", "dataset.settings.images", 60),
        ("backbone.use=toys:toy-net", "backbone.plugin", "toys"),
        ("budget.split=[1, 3]", "budget.split", (1, 3)),
        ("budget={epochs: 3}", "budget.epochs", 3),
        ("threads=null", "threads", None),
        ("device=cpu", "device", "cpu"),
        ("description=2024-13-45", "description", "2024-13-45"),
        ("description=[unclosed", "description", "[unclosed"),
    ],
)
def test_an_override_replaces_one_value(read: Any, override: str, find: str, value: Any) -> None:
    found: Any = read(YAML, override)
    for part in find.split("."):
        found = getattr(found, part)
    assert found == value


def test_an_override_reaches_into_a_list_by_place_or_by_name(read: Any) -> None:
    assert read(YAML, "stages.0.by=0.125").stages[0].settings.by == 0.125
    assert read(YAML, "stages.1=toy-tune", "stages.toy-tune.epochs=2").stages[1].epochs == 2
    assert [s.name for s in read(YAML, "stages=[toy-tune]").stages] == ["toy-tune"]
    assert read(YAML, "runtimes=[light]", "runtimes.light.use=light:light").runtimes[0].plugin == "light"


def test_overrides_apply_in_their_order(read: Any) -> None:
    assert read(YAML, "seed=1", "seed=2").seeds == (2,)
    assert read(YAML, "stages=[nudge]", "stages.0.by=0.5").stages[0].settings.by == 0.5


def test_an_override_fills_an_empty_key(read: Any) -> None:
    text = YAML.replace("baseline: {epochs: 0}", "baseline:")
    assert read(text, "baseline.epochs=3").baseline.epochs == 3


def test_an_override_changes_one_of_two_stages_that_share_an_anchor(read: Any) -> None:
    text = YAML.replace("- nudge\n", "- &same {use: nudge, by: 0.25}\n  - *same\n")
    assert [s.settings.by for s in read(text, "stages.0.by=0.75").stages] == [0.75, 0.25, 0.5]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "expected key=value; for example"),
        ("=1", "expected key=value"),
        ("seed.x=1", "seed is 0, which has no keys"),
        ("stages.5.by=1", "there is no entry '5'"),
        ("stages.5=nudge", "there is no entry '5'"),
        ("stages.-1.by=1", "there is no entry '-1'"),
        ("stages.nugde.by=1", "there is no entry 'nugde'; did you mean nudge"),
        ("stages.nudge.by=1", "there are 2 entries 'nudge'; write 0 or 1 for 'nudge'"),
        ("seeds=3", "'seed' and 'seeds' are two names of the same"),
        ("sed=1", "sed: unknown key; did you mean seed"),
        (".seed=1", "unknown key"),
        ("dataset.images.x=1", "which has no keys"),
        ("baseline.epochs=-1", "baseline.epochs: input should be greater than or equal to 0"),
        ("name=", "name: input should be a valid string"),
        (f"seed={'9' * 5000}", "seed"),
    ],
)
def test_an_override_that_fits_nowhere_is_refused_at_its_place(read: Any, override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read("seed: 0\n" + YAML, override)


def test_an_override_of_a_list_with_odd_entries_is_refused(read: Any) -> None:
    text = YAML + "  - 7\n  - {use: [1]}\n"
    with pytest.raises(SpecError, match="there is no entry 'x'"):
        read(text, "stages.x.by=1")
