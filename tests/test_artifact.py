from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import Bench, names
from safetensors.torch import save_file

from pqd_core.artifact import MANIFEST, MANIFEST_LIMIT_BYTES, Artifact, Store, read_manifest
from pqd_core.host import paths
from pqd_core.host.errors import ArtifactDamaged, StoreError
from pqd_core.host.keys import content_key

KEY = content_key(what="a test")
OTHER = content_key(what="another")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def save(store: Store, key: str = KEY, **about: Any) -> Artifact:
    with store.saved("steps", key, {"seconds": 1.5, **about}) as folder:
        (folder / "words.txt").write_text("some words")
        (folder / "deep").mkdir()
        save_file({"w": torch.arange(6.0)}, folder / "deep" / "w.safetensors")
    found = store.find("steps", key)
    assert found is not None
    return found


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- saved and found


def test_what_was_saved_is_found_with_what_is_known_of_it(store: Store) -> None:
    found = save(store, facts=["sparse"])
    assert found.about == {"seconds": 1.5, "facts": ["sparse"]}
    assert (found.folder / "words.txt").read_text() == "some words"
    assert found.tensors("deep/w.safetensors")["w"].tolist() == [0, 1, 2, 3, 4, 5]
    assert store.find("deployed", KEY) is None, "shelves are apart"
    assert store.find("steps", OTHER) is None


def test_a_manifest_names_every_file_with_its_checksum(store: Store) -> None:
    manifest = read_manifest(save(store).folder, KEY)
    assert sorted(manifest.files) == ["deep/w.safetensors", "words.txt"]
    assert manifest.files["words.txt"].size_bytes == 10


def test_what_is_said_of_an_artifact_may_be_added_while_it_is_written(store: Store) -> None:
    about: dict[str, Any] = {}
    with store.saved("deployed", KEY, about) as folder:
        (folder / "file").touch()
        about["file"] = "file"
    found = store.find("deployed", KEY)
    assert found is not None
    assert found.about == {"file": "file"}


def _half_write(store: Store) -> None:
    with store.saved("steps", KEY, {}) as folder:
        (folder / "words.txt").write_text("half")
        assert 1 / 0


def test_nothing_is_in_the_store_when_writing_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        _half_write(store)
    assert not store.has("steps", KEY)
    assert everything_below(store.root) == []


def test_nothing_is_in_the_store_before_writing_ends(store: Store) -> None:
    with store.saved("steps", KEY, {}) as folder:
        (folder / "words.txt").write_text("half")
        assert not store.has("steps", KEY)
        assert store.find("steps", KEY) is None
    assert store.has("steps", KEY)


def test_what_cannot_be_written_as_json_leaves_nothing_behind(store: Store) -> None:
    with pytest.raises(Exception, match="serialize"), store.saved("steps", KEY, {"odd": object()}):
        pass
    assert store.find("steps", KEY) is None
    assert everything_below(store.root) == []


# --- damage


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "deep" / "w.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "deep" / "w.safetensors").write_bytes(data)


def truncate(folder: Path) -> None:
    os.truncate(folder / "deep" / "w.safetensors", 20)


def append(folder: Path) -> None:
    with (folder / "words.txt").open("a") as file:
        file.write("!")


def link_outside(folder: Path) -> None:
    outside = folder.parent / "outside.txt"
    shutil.copy(folder / "words.txt", outside)
    (folder / "words.txt").unlink()
    (folder / "words.txt").symlink_to(outside)


def replace_by_a_folder(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def name_a_file(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        outside = folder.parent / "outside.txt"
        shutil.copy(folder / "words.txt", outside)
        rewrite_manifest(folder, lambda m: m["files"].update({name: m["files"]["words.txt"]}))

    return change


def grow_the_manifest(folder: Path) -> None:
    os.truncate(folder / MANIFEST, MANIFEST_LIMIT_BYTES + 1)


def manifest_change(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: rewrite_manifest(folder, change)


def replace_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("put there by hand")


def replace_by_a_broken_link(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("nowhere")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a flipped byte": flip_a_byte,
    "a truncated file": truncate,
    "a longer file": append,
    "a missing file": lambda folder: (folder / "words.txt").unlink(),
    "a folder in place of a file": replace_by_a_folder("words.txt"),
    "a link to the outside": link_outside,
    "a file in its place": replace_by_a_file,
    "a link to nowhere in its place": replace_by_a_broken_link,
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "an empty manifest": lambda folder: (folder / MANIFEST).write_bytes(b""),
    "half a manifest": lambda folder: os.truncate(folder / MANIFEST, 60),
    "a manifest that is no JSON": lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe{}"),
    "a manifest that is a folder": replace_by_a_folder(MANIFEST),
    "a manifest that is too large": grow_the_manifest,
    "a manifest of another request": manifest_change(lambda m: m.update(key=OTHER)),
    "a manifest of a later format": manifest_change(lambda m: m.update(format=2)),
    "a manifest with an unknown key": manifest_change(lambda m: m.update(more=1)),
    "a number that changed in what is said": manifest_change(lambda m: m["about"].update(seconds=2.5)),
    "a fact that was added": manifest_change(lambda m: m["about"].update(facts=["sparse"])),
    "a path that climbs out": name_a_file("../outside.txt"),
    "a path from the root": name_a_file("/etc/hostname"),
    "a path with a null byte": name_a_file("a\0b"),
    "a path that is too long": name_a_file("x" * 5000),
    "an empty path": name_a_file(""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_artifact_is_refused_set_aside_and_can_be_made_again(
    store: Store, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], Any]
) -> None:
    folder = save(store).folder
    damage(folder)
    with pytest.raises(ArtifactDamaged):
        read_manifest(folder, KEY)
    assert store.find("steps", KEY) is None
    assert "is damaged and will be made again" in capsys.readouterr().err
    assert not folder.exists()
    assert not list((store.root / "aside").iterdir())
    assert save(store).about == {"seconds": 1.5}


def test_a_file_is_not_read_before_its_manifest_was_checked(finished: Any, tmp_path: Path) -> None:
    bench, report = finished
    store = Store(tmp_path / "store")
    shutil.copytree(bench.store, store.root)
    found = store.find("steps", report.steps[1].key)
    assert found is not None
    os.truncate(found.folder / "weights.safetensors", 100)
    assert store.find("steps", report.steps[1].key) is None


def test_an_artifact_of_a_newer_writer_with_extra_files_still_answers(store: Store) -> None:
    folder = save(store).folder
    (folder / "notes.txt").write_text("put there by hand")
    assert store.find("steps", KEY) is not None


# --- several processes


def test_two_that_find_the_same_damage_both_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(store).folder
    flip_a_byte(folder)
    gone = Store._set_aside

    def late(self: Store, away: Path) -> None:
        gone(self, away)
        gone(self, away)

    monkeypatch.setattr(Store, "_set_aside", late)
    assert store.find("steps", KEY) is None


def test_a_key_is_locked_for_one_at_a_time(store: Store) -> None:
    inside, order = threading.Event(), []

    def second() -> None:
        inside.wait(10)
        with store.locked(KEY):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with store.locked(KEY):
        inside.set()
        thread.join(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_who_waits_for_another_says_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    inside = threading.Event()

    def first() -> None:
        with store.locked(KEY):
            inside.set()
            threading.Event().wait(0.3)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with store.locked(KEY):
        pass
    thread.join()
    assert "waiting for another pqd that works on the same step" in capsys.readouterr().err


def test_what_a_killed_process_left_half_written_is_swept_away(store: Store) -> None:
    with store.locked(KEY):
        left = store.root / "aside" / f"{KEY[:16]}.0123"
        left.mkdir(parents=True)
        (left / "weights.safetensors").write_bytes(b"half")
    (store.root / "aside" / f"{OTHER[:16]}.0123").mkdir()
    with store.locked(KEY):
        assert not left.exists(), "whoever holds the lock knows that its maker is gone"
    assert (store.root / "aside" / f"{OTHER[:16]}.0123").exists(), "another's may still be written"


# --- a store that cannot be written


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_refusal_of_the_system_says_where_and_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(paths, "_sync", refuse)
    with pytest.raises(StoreError, match=f"cannot be written: {os.strerror(number)}") as error:
        save(store)
    assert error.value.exit_code == 1
    hint = error.value.problems[0].hint
    assert ("make room" in hint) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert "PQD_STORE" in hint
    monkeypatch.undo()
    assert everything_below(store.root) == []
    assert save(store)


@pytest.mark.parametrize("shadow", ["aside", "locks", "steps"])
def test_a_file_where_the_store_wants_a_folder_is_told(store: Store, shadow: str) -> None:
    store.root.mkdir()
    (store.root / shadow).write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"), store.locked(KEY):
        save(store)


def test_an_older_artifact_is_not_lost_to_a_second_one(store: Store) -> None:
    save(store, first=True)
    with store.saved("steps", KEY, {"first": False}) as folder:
        (folder / "words.txt").write_text("other words")
    found = store.find("steps", KEY)
    assert found is not None
    assert found.about["first"], "who comes second keeps what is there"


# --- files in place


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.write_text(tmp_path / "r.json", "old")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(paths, "_sync", full)
    with pytest.raises(StoreError, match="No space left"):
        paths.write_text(tmp_path / "r.json", "new")
    assert (tmp_path / "r.json").read_text() == "old"
    assert names(tmp_path) == ["r.json"]


def test_a_placed_folder_replaces_the_older_one_and_shares_its_bytes(tmp_path: Path) -> None:
    for name, words in (("a", "first"), ("b", "second")):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / f"{name}.txt").write_text(words)
        paths.place(tmp_path / name, tmp_path / "run" / "place")
    assert everything_below(tmp_path / "run") == ["place/deep/b.txt"]
    assert (tmp_path / "run" / "place" / "deep" / "b.txt").samefile(tmp_path / "b" / "deep" / "b.txt")


def test_files_are_copied_where_links_are_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("words")
    paths.place(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "x").read_text() == "words"
    assert not (tmp_path / "b" / "x").samefile(tmp_path / "a" / "x")


def test_a_folder_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper", Path("/proc/none")):
        with pytest.raises(StoreError, match="the run folder cannot be written") as error:
            paths.make_folder(folder, "run folder")
        assert error.value.exit_code == 2


def test_the_store_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PQD_STORE", str(tmp_path))
    assert paths.default_store() == tmp_path
    monkeypatch.delenv("PQD_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.default_store() == tmp_path / "pqd" / "store"


def test_only_two_files_of_the_core_touch_the_store() -> None:
    core = Path(paths.__file__).parents[1]
    writing = ("rmtree", ".rename(", ".mkdir(", "os.link", "copytree", "write_bytes", "FileLock")
    run = (p for p in core.rglob("*.py") if "testing" not in p.parts)
    touching = {p.name for p in run if any(word in p.read_text().replace("paths.write_bytes(", "") for word in writing)}
    assert touching == {"artifact.py", "paths.py"}


def test_the_bench_itself_writes_only_where_it_should(bench: Bench) -> None:
    bench.run()
    assert names(bench.folder) == ["out", "store"]
    assert names(bench.store) == ["aside", "deployed", "locks", "measured", "steps"]
    assert names(bench.store / "aside") == []
