"""Writes the device half in every form asked for, and compares each with the float32 half in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_privpart.channels import GaussianChannel
from keras_privpart.contract import DEVICE_FILES, WEB, Contract
from keras_privpart.errors import BundleError
from keras_privpart.exporting import litert, saved_model
from keras_privpart.exporting.encoding import decode
from keras_privpart.exporting.reload import BATCH_SIZES, Arrays, check_specs, numpy_of, same
from keras_privpart.exporting.saved_model import device_function
from keras_privpart.partitioning.graphs.assembly import bypass
from keras_privpart.partitioning.halves import Partition

SAVED_MODEL = "saved_model"
_COMPARED = 256
# Norm of what an encoding loses over the boundary's norm: float16 keeps 11 bits, int8 256 steps over the whole range.
ENCODING_LIMITS = {"float16": 1e-2, "int8": 0.25}
# An encoding rounds, and what lies near the middle between two steps may fall to either: so many times its own error may come on top.
_ROUNDING = 1.5
# Noise weaker than what was audited is refused; the estimate is good to about 1 %.
_WEAKEST_NOISE = 0.9
_DRAWS = 5000

Run = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Form:
    """One form of the device half as it was written.

    Attributes:
        name: a key of `DEVICE_FILES`.
        nbytes: of its files.
        run: inputs `[n, ...]` by name -> boundary by wire name.
        compressed: the same, each file compressed by DEFLATE, as in a zip archive or an app's package.
        relative_error: Euclidean norm of the difference to the float32 half (as it was before any optimisation) over that half's norm,
            decoded, and without the channel where the channel is random; `None` where it cannot be left out.
        noise: standard deviation of what the channel draws, over that of the float32 half; `None` where nothing is random.
    """

    name: str
    nbytes: int
    compressed: int
    run: Run
    relative_error: float | None
    noise: float | None = None


def check_forms(forms: Sequence[str], encoding: str, sample: object) -> None:
    """Raises `BundleError` unless these forms and this encoding can be asked for."""
    if isinstance(forms, str) or not forms or not set(forms) <= set(DEVICE_FILES) or len(set(forms)) != len(forms):
        raise BundleError(f"Received formats={forms!r}; expected a list of some of {', '.join(DEVICE_FILES)}, each once.")
    asked = {"the format 'litert-int8'": "litert-int8" in forms, "encoding='int8'": encoding == "int8"}
    calibrated = [what for what, is_asked in asked.items() if is_asked]
    if calibrated and sample is None:
        raise BundleError(f"Received {' and '.join(calibrated)} without data to calibrate by; expected sample=, a hundred of your inputs.")


class FormWriter:
    """Writes forms of one device half.

    Args:
        partition: what is exported, encoding included.
        plain: the same without an encoding, which conversions are held against.
        original: the same before it was optimised, to measure errors against; `plain` itself where it was not.
        contract: of the version, without files yet.
        x: inputs to try batch sizes with.
        samples: the user's own inputs, if given: what int8 is calibrated by, and errors are measured on.
    """

    def __init__(
        self, partition: Partition, plain: Partition, original: Partition, contract: Contract, x: Arrays, samples: Arrays | None
    ) -> None:
        self._partition = partition
        self._plain = plain
        self._original = original
        self._contract = contract
        self._x = x
        self._samples = samples
        self._compared = x if samples is None else {name: value[:_COMPARED] for name, value in samples.items()}

    # What the halves in memory do, found out when it is first needed.

    @cached_property
    def _random(self) -> bool:
        run = in_memory(self._plain, self._contract)
        return same(run(self._x), run(self._x)) is not None

    @cached_property
    def _spread(self) -> float | None:
        return self._spread_of(in_memory(self._plain, self._contract)) if self._random else None

    @cached_property
    def _quiet(self) -> Partition | None:
        return _quiet(self._partition) if self._random else self._partition

    @cached_property
    def _want(self) -> Arrays | None:
        return self._silent_answer(self._plain)

    @cached_property
    def _reported(self) -> Arrays | None:
        return self._want if self._original is self._plain else self._silent_answer(self._original)

    @cached_property
    def _own_error(self) -> float | None:
        """The encoding's."""
        return None if self._quiet is None else self._error(in_memory(self._quiet, self._contract), self._want)

    @cached_property
    def _own_reported(self) -> float | None:
        return None if self._quiet is None else self._error(in_memory(self._quiet, self._contract), self._reported)

    def _check_encoding(self) -> None:
        limit = ENCODING_LIMITS.get(self._contract.encoding)
        if limit is not None and self._own_error is not None and self._own_error > limit:
            raise BundleError(
                f"encoding={self._contract.encoding!r} changes the boundary by {self._own_error:.3g} of its norm on the inputs at hand; "
                f"expected at most {limit:g}. Its values do not fit: give a sample like the data of use, or choose another encoding."
            )

    def write(self, forms: Sequence[str], folder: Path, scratch: Path) -> dict[str, Form]:
        """Writes the forms into `folder`, what is needed on the way into `scratch`.

        Returns:
            The forms by name. The SavedModel in `folder`, or in `scratch / "device"` if it was not asked for, is not yet compared.

        Raises:
            BundleError: the encoding does not fit, a form cannot be made, or it does not answer as the half in memory does.
        """
        self._check_encoding()
        source = folder if SAVED_MODEL in forms else scratch / "device"
        saved_model.write_device(self._partition, self._contract.inputs, source)
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, Form] = {}
        for batched in (True, False):
            asked = [form for form in forms if form != SAVED_MODEL and (form != WEB) == batched]
            if asked:
                sources = self._sources(source, scratch) if batched else self._web_sources(scratch)
                found |= {form: self._write_litert(form, *sources, folder) for form in asked}
        if SAVED_MODEL in forms:
            files = [file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.suffix != ".tflite"]
            run, size, compressed = in_memory(self._partition, self._contract), sum(map(len, files)), sum(map(_compressed, files))
            found[SAVED_MODEL] = Form(SAVED_MODEL, size, compressed, run, self._own_reported, self._noise(run))
        return {form: found[form] for form in forms}

    def _sources(self, source: Path, scratch: Path) -> tuple[Path, Path]:
        """SavedModels to convert: the device half, and the same without its channel."""
        if not self._random or self._quiet is None:
            return source, source
        saved_model.write_device(self._quiet, self._contract.inputs, scratch / "quiet")
        return source, scratch / "quiet"

    def _web_sources(self, scratch: Path) -> tuple[Path, Path]:
        """As `_sources`, for browsers."""
        saved_model.write_web_device(self._partition, self._contract.inputs, scratch / "web")
        if not self._random or self._quiet is None:
            return scratch / "web", scratch / "web"
        saved_model.write_web_device(self._quiet, self._contract.inputs, scratch / "quiet_web")
        return scratch / "web", scratch / "quiet_web"

    def _load(self, form: str, model: bytes) -> Run:
        return litert.load_web(model, self._contract.boundary) if form == WEB else litert.load(model)

    def _write_litert(self, form: str, source: Path, quiet_source: Path, folder: Path) -> Form:
        frozen = [channel.name for channel in self._plain.channel if isinstance(channel, GaussianChannel) and channel.frozen]
        if frozen:
            raise BundleError(
                f"Received the format {form!r} for a device half with frozen noise, {frozen}; expected 'saved_model' alone: LiteRT has "
                "no place for the device's key. Leave the format out, or freeze no noise."
            )
        model = litert.convert(source, form, self._samples)
        run = self._load(form, model)
        for batch in BATCH_SIZES:
            check_specs(form, self._contract.boundary.tensors, run({name: value[:batch] for name, value in self._x.items()}), batch)
        if self._random and same(run(self._x), self._load(form, model)(self._x)) is None:
            raise BundleError(f"The noise of the device half as {form} repeats after a reload, so anyone with the file can subtract it.")
        reported, noise = None, self._noise(run)
        if noise is not None and noise < _WEAKEST_NOISE:
            raise BundleError(
                f"The device half as {form} draws noise of {noise:.3g} times the strength that was audited, the float32 one's; expected at "
                f"least {_WEAKEST_NOISE:g}. Give a sample like the data of use, or choose another form."
            )
        if self._quiet is not None:
            silent = run if quiet_source == source else self._load(form, litert.convert(quiet_source, form, self._samples))
            error, reported = self._error(silent, self._want), self._error(silent, self._reported)
            limit = litert.LIMITS[form] + _ROUNDING * (self._own_error or 0.0)
            if error is None or error > limit:
                raise BundleError(
                    f"The device half as {form} differs from the float32 one by {error} of its norm; expected at most {limit:.3g}. "
                    "Give a sample like the data of use, or choose another form."
                )
        (folder / DEVICE_FILES[form]).parent.mkdir(exist_ok=True)
        (folder / DEVICE_FILES[form]).write_bytes(model)
        return Form(form, len(model), _compressed(model), run, reported, noise)

    def _noise(self, run: Run) -> float | None:
        """Strength of what a form draws, over that of the float32 half."""
        if not self._spread:
            return None
        return float(f"{self._spread_of(lambda x: decode(self._contract.boundary, run(x))) / self._spread:.3g}")

    def _spread_of(self, run: Run) -> float:
        """Root mean square difference of repeated answers to the same inputs, over at least `_DRAWS` numbers; 0 without float tensors."""
        if not any(spec.is_floating for spec in self._plain.boundary.tensors):
            return 0.0
        squares, count = 0.0, 0
        while count < _DRAWS:
            first, second = run(self._compared), run(self._compared)
            differences = [
                first[name].astype("float64") - second[name].astype("float64") for name in first if first[name].dtype.kind in "fV"
            ]
            squares += sum(float(np.sum(difference**2)) for difference in differences)
            count += sum(difference.size for difference in differences)
        return float(np.sqrt(squares / count))

    def _silent_answer(self, partition: Partition) -> Arrays | None:
        """What crosses, unencoded and without noise; `None` where the channel cannot be left out."""
        quiet = _quiet(partition) if self._random else partition
        return None if quiet is None else in_memory(quiet, self._contract)(self._compared)

    def _error(self, run: Run, answer: Arrays | None) -> float | None:
        """To three digits; `None` where the half's answer holds values that are no numbers."""
        got, want = decode(self._contract.boundary, run(self._compared)), answer or {}
        pairs = [(want[name].astype("float64"), got[name].astype("float64")) for name in want if want[name].dtype.kind in "fV"]
        difference = sum(float(np.sum((b - a) ** 2)) for a, b in pairs)
        norm = sum(float(np.sum(a**2)) for a, _ in pairs)
        error = np.sqrt(difference / norm) if norm else float(difference > 0)
        return float(f"{error:.3g}") if np.isfinite(error) else None


def _compressed(data: bytes) -> int:
    return len(zlib.compress(data, 9))


def in_memory(partition: Partition, contract: Contract) -> Run:
    """The device half in memory as a function of arrays by name."""
    function = tf.function(device_function(partition), reduce_retracing=True)

    def run(inputs: Arrays) -> Arrays:
        return numpy_of(function(*(tf.constant(inputs[spec.name]) for spec in contract.inputs)))

    return run


def _quiet(partition: Partition) -> Partition | None:
    """The partition without its channel; `None` where it cannot be left out."""
    try:
        return replace(partition, device=bypass(partition.device, partition.channel))
    except ValueError:
        return None
