"""The jobs of a sweep: each one partition, trained and audited in a run folder of its own; run on dask.distributed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_privpart import atomic
from keras_privpart.errors import PrivPartError

from .console import import_tensorflow
from .data_source import DataSource
from .defence_options import DefenceSource
from .run_audit import attack_run
from .run_training import run_data, train_run

RESULT = "result.json"
CONNECT_SECONDS = 20
Result = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One point of the grid.

    Attributes:
        at: addresses of the cut's tensors; empty for the advisor's choice.
        bottleneck: features that cross; None for as many as there are.
        bottleneck_over: `"place"` or `"example"`, see `with_bottleneck`.
        defence: what is trained against.
        seed: of initial weights, training and attackers.
    """

    at: tuple[str, ...]
    bottleneck: int | None
    bottleneck_over: str
    defence: DefenceSource
    seed: int

    def __str__(self) -> str:
        narrow = [f"bottleneck-{self.bottleneck}-a-{self.bottleneck_over}"] if self.bottleneck else []
        words = ["+".join(self.at) or "advised", *narrow]
        if self.defence.recipe is not None:
            return "_".join([*words, self.defence.recipe, f"seed{self.seed}"]).replace(":", "-").replace("/", "-")
        words += [self.defence.channel or "none", *self.defence.regularizer, f"r{self.defence.reconstruction:g}"]
        return "_".join([*words, f"a{self.defence.attribute:g}", f"seed{self.seed}"]).replace(":", "-").replace("/", "-")


@dataclass(frozen=True)
class Job:
    """A setting with all that does not vary: what a worker needs to know.

    Attributes:
        setting: what varies.
        out: folder of the sweep, the same on every machine.
        model: digest of the model's file, which lies in `out`.
        source: the data.
        recipe: arguments of `training.recipe.Recipe` but the seed.
        audit: arguments of `auditing.audit`: `attacks`, `seeds`, `epochs`.
    """

    setting: Setting
    out: str
    model: str
    source: DataSource
    recipe: Mapping[str, Any]
    audit: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Its run folder; another one as soon as anything that counts is different."""
        facts = {**asdict(self), "out": None, "source": self.source.record()}
        if self.setting.defence.recipe is None:
            del facts["setting"]["defence"]["recipe"]  # jobs of earlier sweeps had none
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
        return Path(self.out, "runs", f"{self.setting}_{digest}")

    def result(self) -> Result | None:
        """What the job found, if it is done."""
        path = self.folder / RESULT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def model_file(out: Path) -> Path:
    """Where a sweep keeps the model that it cuts."""
    return out / "model.keras"


def digest_of(path: Path) -> str:
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_job(job: Job) -> Result:
    """Cuts, trains and audits; leaves a run folder that `audit` and `export` take, with the result as its last file.

    What an interrupted attempt left is removed first.
    """
    done = job.result()
    if done is not None:
        return done
    shutil.rmtree(job.folder, ignore_errors=True)
    with contextlib.redirect_stderr(io.StringIO()):  # remarks and bars of many jobs at once help nobody
        result = _carry_out(job)
    atomic.write_text(job.folder / RESULT, json.dumps(result, indent=2) + "\n")
    return result


def _carry_out(job: Job) -> Result:
    import_tensorflow()
    import keras

    from keras_privpart.partitioning.graphs.copying import fresh_model
    from keras_privpart.partitioning.partition import partition

    setting = job.setting
    keras.backend.clear_session()
    model = keras.models.load_model(model_file(Path(job.out)), compile=False, safe_mode=True)
    if job.recipe["initial"] is None:
        keras.utils.set_random_seed(setting.seed)
        model = fresh_model(model)
    narrow: dict[str, Any] = {"bottleneck": setting.bottleneck, "bottleneck_over": setting.bottleneck_over}
    partition(model, at=list(setting.at) or None, **narrow).save(job.folder)
    train_run(job.folder, job.source, run_data(job.folder, job.source), {**job.recipe, "seed": setting.seed}, setting.defence)
    report = attack_run(job.folder, seed=setting.seed, **job.audit)
    return {"setting": asdict(setting), "run": str(job.folder.relative_to(job.out)), **report.contract_summary()}


@contextlib.contextmanager
def dask_executor(scheduler: str | None, workers: int, retries: int) -> Iterator[Executor]:
    """Processes on this machine, or those of the cluster at `scheduler`; a job that raises or loses its process is tried again.

    Raises:
        PrivPartError: dask.distributed is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise PrivPartError("Sweeps need dask.distributed, which is not installed. Run: pip install 'keras_privpart[sweep]'") from error
    with contextlib.ExitStack() as stack:
        try:
            address = scheduler or stack.enter_context(
                LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50)
            )
            client = stack.enter_context(Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except OSError as error:
            raise PrivPartError(f"No dask scheduler answers at {scheduler!r} ({error}); start one, or leave --scheduler out.") from error
        yield stack.enter_context(client.get_executor(pure=False, retries=retries))


@dataclass(frozen=True)
class Failure:
    """A job that failed for good."""

    job: Job
    reason: str


def run_all(
    jobs: Iterable[Job], executor: Executor, run: Callable[[Job], Result] = run_job, announce: Callable[[Job], None] = lambda job: None
) -> list[Failure]:
    """Runs the jobs that are not done; those that fail for good do not stop the others.

    Args:
        jobs: all of the sweep's.
        executor: what runs them.
        run: what runs one.
        announce: called as each ends.
    """
    running = {executor.submit(run, job): job for job in jobs if job.result() is None}
    failures = []
    for future in as_completed(running):
        error = future.exception()
        if error is not None:
            text = str(error).strip().split("\n", 1)[0]
            failures.append(Failure(running[future], f"{type(error).__name__}: {text}"))
        announce(running[future])
    return failures
