"""Random graphs of layers against a second, naive implementation of what a cut is."""

from dataclasses import dataclass, field

import hypothesis.strategies as st
import keras
import numpy as np
from hypothesis import HealthCheck, given, settings

import keras_privpart as kp
from keras_privpart.partitioning.graphs.problems import NeedlessTensor, NothingLeft, RawInput, RawPath

DIM = 4


@keras.saving.register_keras_serializable(package="tests")
class Fork(keras.layers.Layer):
    """An operation with two outputs."""

    def call(self, inputs):
        return keras.ops.tanh(inputs), inputs * 0.5 - 1.0


@dataclass
class Drawn:
    """A model, and its tensors as the test knows them: for each address the tensors it is computed from."""

    model: keras.Model
    parents: dict[str, tuple[str, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    x: list[np.ndarray] = field(repr=False)

    def behind(self, cut):
        """All tensors met on the ways back from the outputs, which end at the cut (its own tensors included) and at the inputs."""
        seen, stack = set(), list(self.outputs)
        while stack:
            tensor = stack.pop()
            if tensor not in seen:
                seen.add(tensor)
                stack.extend(() if tensor in cut else self.parents.get(tensor, ()))
        return seen

    def reaches_raw(self, cut):
        """Whether an output can be followed back to an input without meeting the cut."""
        return bool(self.behind(cut) & set(self.inputs))


@st.composite
def graphs(draw):
    """Draws steps first and names last, because a shared layer that is called once bears no number."""
    n_inputs = draw(st.integers(1, 3))
    tensors = [("input", i) for i in range(n_inputs)]
    steps, calls = [], {0: 0, 1: 0}
    for number in range(draw(st.integers(2, 9))):
        kind = draw(st.sampled_from(["dense", "shared", "add", "relu", "fork", "ops"]))
        # Late tensors only: else the graph is a bush.
        sources = [draw(st.sampled_from(tensors[-4:])) for _ in range(2 if kind == "add" else 1)]
        which = draw(st.integers(0, 1)) if kind == "shared" else 0
        made = [(number, i) for i in range(2 if kind == "fork" else 1)]
        if kind == "shared":
            calls[which] += 1
        steps.append((kind, which, calls[which], sources, made))
        tensors += made
    return n_inputs, steps, calls


def build(plan):
    n_inputs, steps, calls = plan
    keras.utils.set_random_seed(0)
    symbols = {("input", i): keras.Input((DIM,), name=f"raw{i}") for i in range(n_inputs)}
    names = {("input", i): f"raw{i}" for i in range(n_inputs)}
    parents = {}
    shared = [keras.layers.Dense(DIM, activation="tanh", name=f"shared{i}") for i in range(2)]
    for number, (kind, which, call, sources, made) in enumerate(steps):
        given_symbols = [symbols[s] for s in sources]
        name = f"step{number}"
        if kind == "dense":
            out = [keras.layers.Dense(DIM, name=name)(*given_symbols)]
        elif kind == "shared":
            out, name = [shared[which](*given_symbols)], f"shared{which}" + (f"#{call}" if calls[which] > 1 else "")
        elif kind == "add":
            out = [keras.layers.Add(name=name)(given_symbols)]
        elif kind == "relu":
            out = [keras.layers.ReLU(name=name)(*given_symbols)]
        elif kind == "fork":
            out = list(Fork(name=name)(*given_symbols))
        else:
            out = [keras.ops.sin(*given_symbols)]
            name = out[0]._keras_history.operation.name
        for tensor, symbol in zip(made, out, strict=True):
            symbols[tensor] = symbol
            names[tensor] = f"{name}:{tensor[1]}" if kind == "fork" else name
            parents[names[tensor]] = tuple(names[s] for s in sources)
    used = {p for ps in parents.values() for p in ps}
    leaves = [t for t in symbols if names[t] not in used and t[0] != "input"]
    heads = [("input", i) for i in range(n_inputs) if names["input", i] in used]
    model = keras.Model([symbols[t] for t in heads], [symbols[t] for t in leaves])
    x = list(np.random.default_rng(0).standard_normal((len(heads), 2, DIM)).astype("float32"))
    return Drawn(model, parents, tuple(names[t] for t in heads), tuple(names[t] for t in leaves), x)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(plan=graphs(), data=st.data())
def test_cuts_of_random_graphs(plan, data):
    drawn = build(plan)
    table = kp.cuts(drawn.model)
    assert len({cut.tensors for cut in table}) == len(table)
    for cut in table:
        assert not drawn.reaches_raw(cut.tensors)
        assert set(cut.tensors) <= drawn.behind(cut.tensors), "a tensor is sent for nothing"
        parts = kp.partition(drawn.model, at=cut)
        parts.verify(drawn.x)
        assert parts.server.output_names == drawn.model.output_names

    singles = {t for t in drawn.parents if not drawn.reaches_raw({t}) and drawn.outputs != (t,)}
    assert {cut.tensors[0] for cut in table if len(cut.tensors) == 1} == singles

    chosen = data.draw(st.sets(st.sampled_from(sorted(drawn.parents)), min_size=1, max_size=3))
    problems = kp.check_cut(drawn.model, sorted(chosen))
    paths = [p for p in problems if isinstance(p, RawPath)]
    assert bool(paths) == drawn.reaches_raw(chosen)
    for problem in paths:
        assert problem.path[0] == problem.input
        assert problem.input in drawn.inputs
        assert problem.path[-1] in drawn.outputs
        assert not chosen & set(problem.path)
        assert all(a in drawn.parents[b] for a, b in zip(problem.path, problem.path[1:], strict=False))
        assert bool(problem.nearest) == bool(table)
    if not problems:
        parts = kp.partition(drawn.model, at=sorted(chosen))
        parts.verify(drawn.x)
        assert parts.server.output_names == drawn.model.output_names
    assert not any(isinstance(p, RawInput) for p in problems)
    if any(isinstance(p, NothingLeft) for p in problems):
        assert chosen >= set(drawn.outputs)
    assert {p.name for p in problems if isinstance(p, NeedlessTensor)} == chosen - drawn.behind(chosen)
