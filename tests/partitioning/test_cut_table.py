"""The advisor: figures of cuts, the table's sorts and filters, the rules by which it chooses."""

import json
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart.contract import Boundary, TensorSpec
from keras_privpart.errors import CutError, PrivPartError
from keras_privpart.partitioning.latency import Conditions, bytes_per_second


@pytest.fixture
def model():
    x = keras.Input((8, 8, 1), name="x")
    y = layers.Rescaling(2.0, name="scale")(x)
    y = layers.Conv2D(8, 3, padding="same", name="wide")(y)
    y = layers.Conv2D(2, 3, strides=2, padding="same", name="narrow")(y)
    y = layers.Flatten(name="flat")(y)
    return keras.Model(x, layers.Dense(100, name="scores")(layers.Dense(40, name="hidden")(y)))


def test_figures(model):
    table = kp.cuts(model)
    assert [c.tensors for c in table] == [("scale",), ("wide",), ("narrow",), ("flat",), ("hidden",)]
    wide = table[1]
    assert wide.index == 1
    assert wide.nbytes == wide.bytes_as("float32") == 4 * 8 * 8 * 8
    assert (wide.bytes_as("float16"), wide.bytes_as("int8")) == (2 * 512, 512)
    assert wide.input_bytes == 64, "a byte a pixel, though the model takes floats"
    assert wide.device_params == wide.device_trainable == 9 * 8 + 8
    assert wide.server_params == (9 * 8 * 2 + 2) + (32 * 40 + 40) + (40 * 100 + 100)
    assert wide.device_macs == 64 * 9 * 8
    assert wide.server_macs == 16 * 9 * 8 * 2 + 32 * 40 + 40 * 100
    assert wide.depth == 2 / 6
    assert table[0].device_trainable == 0
    assert wide.boundary == Boundary((TensorSpec("boundary", (None, 8, 8, 8), "float32", "wide"),))


def test_masks_count_and_keep_their_size():
    ids = keras.Input((5,), dtype="int32")
    model = keras.Model(ids, layers.Dense(1)(layers.LSTM(3)(layers.Embedding(9, 4, mask_zero=True, name="embedding")(ids))))
    cut = kp.cuts(model)[0]
    assert cut.tensors == ("embedding",)
    assert [(t.kind, t.dtype, t.source) for t in cut.boundary.tensors] == [
        ("tensor", "float32", "embedding"),
        ("mask", "bool", "embedding:mask"),
    ]
    assert [cut.bytes_as(d) for d in ("float32", "float16", "int8")] == [5 * 4 * 4 + 5, 5 * 4 * 2 + 5, 5 * 4 + 5]


def test_a_mask_that_nobody_reads_stays():
    ids = keras.Input((5,), dtype="int32")
    y = layers.Embedding(9, 4, mask_zero=True, name="embedding")(ids)
    model = keras.Model(ids, layers.Dense(1)(keras.ops.max(y, axis=1)))
    assert [t.kind for t in kp.cuts(model)[0].boundary.tensors] == ["tensor"]


def test_shared_weights_count_on_both_sides(build_model):
    model, _ = build_model("layer_on_both_sides")
    table = kp.cuts(model)
    assert [(c.device_params, c.server_params) for c in table] == [(20, 25)] * 4 + [(20, 5)] * 2


class TestChoice:
    def test_default_rule(self, model):
        table = kp.cuts(model)
        best = table.choose()
        assert best.tensors == ("narrow",), "the smallest within a tenth; as small as 'flat', and earlier; 'scale' is not trained"
        fewest = "fewest bytes of the 3 cuts with at most 10% of the parameters on the device"
        assert (
            best.reason == f"{fewest}; it sends 128 bytes, more than the 64 bytes of the raw input: narrow it (bottleneck), encode it "
            "(int8), or cut elsewhere"
        )
        assert table.choose(max_device_share=0.01 * 100 * 80 / (80 + table[1].server_params)).tensors == ("wide",)
        assert kp.partition(model).boundary.sources == best.tensors

    def test_smallest_share_when_nothing_is_small_enough(self, model):
        best = kp.cuts(model).choose(max_device_share=0.001)
        assert best.tensors == ("wide",)
        assert best.reason.startswith(
            "no cut leaves at most 0% of the parameters on the device; this one leaves the fewest; it sends 2,048"
        )

    def test_a_cut_that_sends_less_than_the_raw_input_is_preferred(self):
        x = keras.Input((8, 8, 3))
        y = layers.Flatten()(layers.Conv2D(16, 3, strides=2, padding="same", name="wide")(x))
        model = keras.Model(x, layers.Dense(500)(layers.Dense(8, name="few")(y)))
        table = kp.cuts(model)
        assert [(c.tensors[0], c.nbytes, c.input_bytes) for c in table][0::2] == [("wide", 1024, 192), ("few", 32, 192)]
        assert table[0].device_share < 0.1 < table[2].device_share < 0.5
        best = table.choose()
        assert best.tensors == ("few",)
        assert "as smaller ones send more than the raw input" in best.reason
        assert table.choose(max_device_share=0.1).tensors == ("wide",)

    def test_halves_without_weights_only_when_there_is_nothing_else(self):
        x = keras.Input((4,))
        model = keras.Model(x, layers.Dense(2)(layers.ReLU(name="relu")(layers.Rescaling(0.5, name="scale")(x))))
        assert kp.cuts(model).choose().tensors == ("scale",)

    def test_unknown_sizes_come_last(self):
        x = keras.Input((None, 4))
        pooled = layers.GlobalAveragePooling1D(name="pooled")(layers.Dense(3, name="each")(x))
        model = keras.Model(x, layers.Dense(500)(pooled))
        assert kp.cuts(model).choose().tensors == ("pooled",)

    def test_budget(self, model):
        table = kp.cuts(model)
        assert table.choose(device_budget=table[1].device_macs).tensors == ("wide",)
        assert kp.partition(model, device_budget=1e9).boundary.sources == ("narrow",)
        with pytest.raises(CutError, match=r"Received device_budget=-1 multiply-adds; the smallest needs 4,608\. Raise the budget"):
            kp.partition(model, device_budget=-1)

    def test_slow_network_prefers_few_bytes_fast_network_little_device_work(self, model):
        table = kp.cuts(model)
        assert table.fastest("1kbit/s").tensors == ("narrow",)
        assert table.fastest("100Gbit/s").tensors == ("wide",)
        assert table.fastest("1kbit/s", device_budget=table[1].device_macs).tensors == ("wide",)
        assert kp.partition(model, network="100Gbit/s").boundary.sources == ("wide",)
        seconds = 1e3 * Conditions(125.0).seconds(table[2])
        assert f"at 1kbit/s: {seconds:.3g} ms" in table.fastest("1kbit/s").reason

    def test_estimate_is_the_sum_of_its_parts(self, model):
        cut = kp.cuts(model)[1]
        conditions = Conditions(network=1000.0, device_speed=1e3, server_speed=1e4)
        assert conditions.seconds(cut) == pytest.approx(4608 / 1e3 + 2048 / 1000 + cut.server_macs / 1e4)

    def test_at_and_a_rule_exclude_each_other(self, model):
        with pytest.raises(CutError, match=r"Received both at=\.\.\. and device_budget or network"):
            kp.partition(model, at="wide", network="1Mbit/s")

    def test_nothing_to_choose_from(self):
        x = keras.Input((4,))
        with pytest.raises(CutError, match="Received an empty table"):
            kp.partition(keras.Model(x, layers.Dense(2)(x)))

    def test_free_shapes_have_no_estimate(self):
        x = keras.Input((None, None, 3))
        y = layers.Conv2D(2, 3)(layers.Conv2D(2, 3)(x))
        with pytest.raises(CutError, match="sizes depend on free dimensions"):
            kp.cuts(keras.Model(x, y)).fastest("1Mbit/s")


@pytest.mark.parametrize(("text", "rate"), [("10Mbit/s", 1.25e6), ("2.5 MB/s", 2.5e6), ("64 kbit/s", 8000), ("8bit/s", 1), ("1GB/s", 1e9)])
def test_network_speeds(text, rate):
    assert bytes_per_second(text) == rate


@pytest.mark.parametrize("text", ["fast", "10", "0Mbit/s", "-1Mbit/s", "10Mbit", "10Mbps", 10])
def test_network_speeds_that_are_none(text):
    with pytest.raises(CutError, match="expected a number and a unit, such as '10Mbit/s'"):
        bytes_per_second(text)


class TestTable:
    def test_sorts(self, model):
        table = kp.cuts(model)
        assert [c.nbytes for c in table.sort()] == sorted(c.nbytes for c in table)
        assert [c.index for c in table.sort("device_macs", reverse=True)] == [4, 2, 3, 1, 0]
        with pytest.raises(CutError, match="Received the figure 'weight'; expected one of depth, device_macs"):
            table.sort("weight")

    def test_filters(self, model):
        table = kp.cuts(model)
        assert [c.index for c in table.filter(max_bytes=160)] == [2, 3, 4]
        assert [c.index for c in table.filter(max_bytes=160, max_device_macs=table[2].device_macs)] == [2, 3]
        assert [c.index for c in table.filter(max_device_params=80)] == [0, 1]
        assert [c.index for c in table.filter(max_device_share=0.1)] == [0, 1, 2, 3]
        assert len(table.filter(max_tensors=0)) == 0
        with pytest.raises(CutError, match=r"cuts\(model, measure=True\)"):
            table.filter(max_latency=1.0)
        with pytest.raises(CutError, match=r"cuts\(model, probe="):
            table.filter(max_leakage=0.5)

    def test_pareto_front_against_brute_force(self, build_model):
        for name in ("residual", "unet", "densenet", "clashing_names"):
            table = kp.cuts(build_model(name)[0])
            figures = {c.index: (c.nbytes, c.device_macs) for c in table}

            def beaten(i, figures=figures):
                mine = figures[i]
                return any(
                    all(a <= b for a, b in zip(other, mine, strict=True)) and (other != mine or j < i)
                    for j, other in figures.items()
                    if j != i
                )

            assert {c.index for c in table.pareto()} == {i for i in figures if not beaten(i)}

    def test_rows_by_number_and_slice(self, model):
        table = kp.cuts(model)
        assert table[2].index == 2
        assert [c.index for c in table[1:3]] == [1, 2]
        assert [c.index for c in table] == [0, 1, 2, 3, 4]

    def test_markdown(self, model):
        lines = kp.cuts(model).to_markdown().splitlines()
        assert lines[0] == (
            "| cut | crosses at | shape | float32 | float16 | int8 | raw input | device params | device MACs | server MACs |"
        )
        assert lines[3] == "| 1 | wide | 8x8x8 | 2,048 | 1,024 | 512 | 64 | 80 | 4,608 | 7,584 |"
        assert len(lines) == 2 + 5

    def test_json(self, model):
        rows = json.loads(kp.cuts(model).to_json())
        assert rows[1]["tensors"] == ["wide"]
        assert (rows[1]["bytes"], rows[1]["bytes_int8"], rows[1]["device_macs"]) == (2048, 512, 4608)
        assert Boundary.from_json(rows[1]["boundary"]) == kp.cuts(model)[1].boundary

    def test_plot(self, model, tmp_path):
        table = kp.cuts(model, probe=lambda cut, parts: 0.5)
        path = table.plot(tmp_path / "pictures" / "cuts.svg", mark=table.choose())
        text = path.read_text()
        assert text.startswith("<?xml")
        assert (tmp_path / "pictures" / "cuts.png") == table.plot(tmp_path / "pictures" / "cuts.png")
        with pytest.raises(CutError, match="empty table"):
            table[:0].plot(tmp_path / "none.svg")

    def test_plot_without_matplotlib(self, model, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(PrivPartError, match=r"pip install 'keras_privpart\[report\]'"):
            kp.cuts(model).plot(tmp_path / "cuts.svg")


class TestMeasured:
    def test_times_and_probe_of_the_rows_that_can_win(self, model):
        seen, steps = [], []

        def probe(cut, parts):
            parts.verify(np.ones((1, 8, 8, 1), "float32"))
            seen.append(cut.index)
            return 1 / (1 + cut.index)

        table = kp.cuts(model, measure=True, probe=probe, progress=lambda done, total: steps.append((done, total)))
        front = {c.index for c in kp.cuts(model).pareto()}
        assert set(seen) == front
        assert {c.index for c in table if c.seconds is not None} == front
        assert {c.index for c in table if c.leakage is not None} == front
        assert steps == [(i + 1, len(front)) for i in range(len(front))]
        assert all(0 < c.device_seconds < 5 and 0 < c.server_seconds < 5 for c in table if c.index in front)
        assert all(c.leakage == 1 / (1 + c.index) for c in table if c.index in front)
        assert [c.leakage for c in table.filter(max_leakage=0.3)] == [1 / (1 + i) for i in sorted(front) if i >= 3]
        assert len(table.filter(max_latency=10)) == len(front)
        assert table.fastest("10Mbit/s").seconds is not None
        assert "device ms | server ms | leakage |" in table.to_markdown().splitlines()[0]

    def test_free_shapes_need_an_example(self):
        x = keras.Input((None, 4), name="steps")
        model = keras.Model(x, layers.Dense(2)(layers.Dense(3)(layers.GlobalAveragePooling1D()(x))))
        with pytest.raises(CutError, match=r"The input 'steps' has the free shape \[None, None, 4\]; to measure, pass one example"):
            kp.cuts(model, measure=True)
        table = kp.cuts(model, measure=True, x=np.ones((1, 7, 4), "float32"))
        assert any(c.seconds is not None for c in table)
