"""Every Python block of README.md and docs/ runs, in order, on tiny data; the blocks of one page share their names, as a reader has it.

A block that cannot run here stands under `<!-- not run: the reason -->`.
"""

import ast
import asyncio
import inspect
import re
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.datasets import Samples
from keras_privpart.serving import LocalServer

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:^<!-- not run: (?P<reason>.+?) -->\s*)?^```python\n(?P<code>.*?)^```", re.M | re.S)
PAGES = {page.name: list(BLOCK.finditer(page.read_text())) for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
ADDRESS = re.compile(r'"(saved_models/\w+)", "localhost:(?:8500|8080)"')  # gRPC; a server of the Open Inference Protocol
# Less effort, in plain sight: that the calls are right shows with one epoch and one cheap attacker.
LITTLE = 'attacks=["linear probe, Male"], looks=(1,), bound=False'
LESS = {
    "epochs=10": "epochs=1",
    "seeds=3": f"seeds=1, {LITTLE}",
    'kp.protect(model, train, test, private=["Male"])': f'kp.protect(model, train, test, private=["Male"], epochs=1, seeds=1, {LITTLE})',
}


def _model():
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv2")(image)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="scores")(layers.Flatten()(x)), name="faces")


def _names(folder):
    """What a reader of any page has: a model, data, partitions of it, and a bundle."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = _model()
    model.save(folder / "faces.keras")
    given = {"model": model, "build_model": _model}
    for which, count in (("train", 120), ("test", 60)):
        x, y, male = rng.uniform(size=(count, 8, 8, 1)).astype("float32"), np.arange(count) % 10, np.arange(count) // 10 % 2
        given |= {f"x_{which}": x, f"y_{which}": y, f"male_{which}": male, which: Samples.of((x, {"task": y, "Male": male}))}
    undefended = kp.partition(model, at="conv2", independent=True)
    kp.export(undefended, folder / "saved_models/mnist")
    return given | {
        "undefended": undefended,
        "partition": undefended.with_channel(kp.GaussianChannel(0.5)),
        "x": given["x_test"],
        "pictures": given["x_train"],
        "batches": [given["x_test"][:8]] * 3,
        "adversaries": [kp.ReconstructionAdversary()],
        "channel": kp.GaussianChannel(0.5),
        "global_batch": 30,
        "loss": keras.losses.SparseCategoricalCrossentropy(),
        "dataset": tf.data.Dataset.from_tensor_slices((given["x_train"], given["y_train"])),
    }


def _run(code, names, page):
    """Runs a block, `await` at its top too; where it asks a server, one stands there."""
    with ExitStack() as stack:
        for path in set(ADDRESS.findall(code)):
            server = stack.enter_context(LocalServer(Path(path), rest_port=0))
            for usual, address in (("localhost:8500", server.address), ("localhost:8080", server.rest_address)):
                code = code.replace(f'"{path}", "{usual}"', f'"{path}", "{address}"')
        compiled = compile(code, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if compiled.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(compiled, names))
        else:
            exec(compiled, names)


@pytest.mark.parametrize("page", [name for name, blocks in PAGES.items() if blocks])
def test_every_python_block_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = _names(tmp_path)
    for block in PAGES[page]:
        if not block["reason"]:
            code = block["code"]
            for usual, little in LESS.items():
                code = code.replace(usual, little)
            _run("\n" * block.string[: block.start("code")].count("\n") + code, names, page)  # a traceback names the page's own line


def test_only_these_blocks_are_left_out():
    left_out = {page: [block["reason"] for block in blocks if block["reason"]] for page, blocks in PAGES.items()}
    assert {page: len(reasons) for page, reasons in left_out.items() if reasons} == {"auditing.md": 1, "scaling.md": 1}, left_out


def test_every_python_block_of_the_pages_is_found():
    for page, blocks in PAGES.items():
        path = ROOT / page if page == "README.md" else ROOT / "docs" / page
        assert len(blocks) == len(re.findall(r"^\s*```\s*py", path.read_text(), re.M)), page


@pytest.mark.parametrize("usual", LESS)
def test_the_pages_still_say_what_is_made_cheap_here(usual):
    assert any(usual in block["code"] for blocks in PAGES.values() for block in blocks)
