"""Every place that swaps files or folders: whichever rename fails, what was there is there again, and nothing else."""

import itertools
import os
import types
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_privpart import atomic
from keras_privpart.auditing.scoring.evidence import Guesses
from keras_privpart.auditing.store import Found, Store
from keras_privpart.cli import run_folder
from keras_privpart.cli.commands import predict
from keras_privpart.cli.data_source import DataSource
from keras_privpart.partitioning.partition import partition
from keras_privpart.serving.servers.certificates import make_certificates


def snapshot(root):
    """Every path below `root`, with the content of the files, hidden ones among them."""
    return {p.relative_to(root).as_posix(): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}


@pytest.fixture(scope="module")
def parts():
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(2, name="hidden")(inputs)
    return partition(keras.Model(inputs, keras.layers.Dense(2)(hidden)), at="hidden")


def write_a_text(root, parts, turn):
    atomic.write_text(root / "a.txt", f"{turn}")


def write_arrays(root, parts, turn):
    Store(root).put("key", Found(Guesses(np.arange(5) % 2, np.full((5, 2), 0.5 + turn))))


def write_answers(root, parts, turn):
    predict._write(root / "answers.npy", {"y": np.full(3, turn)})


def write_a_folder(root, parts, turn):
    with atomic.new_folder(root / "deep" / "folder", replace=True) as fresh:
        (fresh / "a.txt").write_text(f"{turn}")


def write_a_partition(root, parts, turn):
    parts.device.trainable_variables[-1].assign([turn, turn])
    parts.save(root / "parts", overwrite=True)


def write_a_training(root, parts, turn):
    pair = types.SimpleNamespace(undefended=parts, defended=parts)
    run_folder.write_training(root, pair, DataSource("digits"), {"turn": turn}, overwrite=True)


def write_certificates(root, parts, turn):
    make_certificates(root / f"certs-{turn}")


def swap_several(root, parts, turn):
    """Two files and a folder, one of each new in the second turn."""
    with atomic.sibling(root / "all") as stage:
        atomic.write_texts(stage, {"a.txt": f"{turn}", f"new/{turn}/b.txt": f"{turn}", "folder/c.txt": f"{turn}"})
        names = ("a.txt", f"new/{turn}/b.txt", "folder")
        atomic.swap([(stage / name, root / name) for name in names], beside=root / "all")


def raised_by(call, *arguments):
    try:
        call(*arguments)
    except BaseException as error:
        return error
    return None


PLACES = [
    write_a_text,
    write_arrays,
    write_answers,
    write_a_folder,
    write_a_partition,
    write_a_training,
    write_certificates,
    swap_several,
]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "interrupted"])
@pytest.mark.parametrize("fresh", [True, False], ids=["new", "over"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_whichever_rename_fails_all_is_as_it_was(parts, tmp_path, monkeypatch, place, fresh, error):
    root = tmp_path / "root"
    root.mkdir()
    if not fresh:
        place(root, parts, 0)
    before, rename = snapshot(root), os.replace
    for step in itertools.count(1):
        calls = []

        def failing(source, target, calls=calls, step=step):
            calls.append(target)
            if len(calls) == step:
                raise error
            rename(source, target)

        monkeypatch.setattr(atomic, "_rename", failing)
        raised = raised_by(place, root, parts, 1)
        if raised is None:
            break
        assert raised is error or raised.__cause__ is error
        assert snapshot(root) == before
    assert step > 1, "nothing was renamed"
    assert len(calls) == step - 1
    assert snapshot(root) != before
    assert not [p for p in snapshot(root) if Path(p).name.startswith(".")]


def test_what_cannot_be_put_back_is_kept_and_named(tmp_path, monkeypatch):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text(name)
    rename, calls = os.replace, []

    def only_the_first(source, target):
        calls.append(target)
        if len(calls) > 1:
            raise OSError(5, "Input/output error", str(source))
        rename(source, target)

    monkeypatch.setattr(atomic, "_rename", only_the_first)
    with pytest.raises(OSError, match=r"Input/output error; what was there before is kept in .*\.old") as caught:
        atomic.swap([(tmp_path / "new", tmp_path / "old")], beside=tmp_path / "old")
    kept = Path(caught.value.strerror.split("kept in ")[1])
    assert (kept / "0/text").read_text() == "old"
    assert (tmp_path / "new/text").read_text() == "new"


def test_a_missing_source_moves_nothing(tmp_path):
    atomic.write_texts(tmp_path, {"source": "new", "a": "old", "b": "old"})
    before = snapshot(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        atomic.swap([(tmp_path / "source", tmp_path / "a"), (tmp_path / "missing", tmp_path / "b")], beside=tmp_path / "a")
    assert snapshot(tmp_path) == before


def test_a_folder_that_is_there_is_replaced_only_when_asked(tmp_path):
    write_a_folder(tmp_path, None, 0)
    with pytest.raises(FileExistsError), atomic.new_folder(tmp_path / "deep/folder") as fresh:
        (fresh / "a.txt").write_text("1")
    assert snapshot(tmp_path) == {"deep": None, "deep/folder": None, "deep/folder/a.txt": b"0"}


def test_nobody_writes_swaps_of_their_own():
    root = Path(__file__).parents[1]
    own = [
        str(path.relative_to(root))
        for top in ("keras_privpart", "serving", "cli")
        for path in (root / top).rglob("*.py")
        if any(word in path.read_text() for word in ("os.replace(", "os.rename(", "shutil.move(", "mkstemp("))
    ]
    assert own == ["keras_privpart/atomic.py"]
