"""`privpart-keras sweep`: train and audit over cuts, weights, channels and seeds."""

from __future__ import annotations

import itertools
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from keras_privpart import atomic
from keras_privpart.errors import PrivPartError

from ..console import emit, json_option, progress_bar, say
from ..data_source import data_options, data_source
from ..defence_options import CHANNELS, RECIPES, REGULARIZERS, DefenceSource, Term
from ..interruption import interruptible
from ..model_source import load_model, model_argument
from ..sweep_jobs import Job, Setting, dask_executor, digest_of, model_file, run_all
from ..sweep_table import rows_of, to_markdown, write

_VARIED = ("at", "bottleneck", "channel", "reconstruction", "attribute", "regularizer")
_WEIGHT = click.FloatRange(min=0)


@click.command(short_help="Train and audit over cuts, weights, channels and seeds.")
@model_argument
@data_options(required=True)
@click.option("--at", multiple=True, metavar="TENSOR", help="Cut to try, a+b for two tensors; may be repeated.  [default: the advisor's]")
@click.option("--bottleneck", type=click.IntRange(min=0), multiple=True, default=(0,), help="Features that cross, 0 for all.")
@click.option("--bottleneck-over", type=click.Choice(["place", "example"]), default="place", help="So many at each place, or in all.")
@click.option("--channel", type=Term(CHANNELS, none=True), multiple=True, default=("none",), help="Channel to try; may be repeated.")
@click.option("--reconstruction", type=_WEIGHT, multiple=True, default=(1.0,), help="Weight to try of the adversary; may be repeated.")
@click.option("--attribute", type=_WEIGHT, multiple=True, default=(1.0,), help="Weight to try of each --private attribute's adversary.")
@click.option("--regularizer", type=Term(REGULARIZERS, none=True), multiple=True, default=("none",), help="To try; may be repeated.")
@click.option("--recipe", type=click.Choice(RECIPES), multiple=True, help="Recipe to try beside the settings above; may be repeated.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Models of each setting, from different initial weights.")
@click.option("--epochs", type=click.IntRange(min=1), default=10, help="Of each training.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Examples a step.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, help="Of Adam, falling along a cosine.")
@click.option("--pretrained", is_flag=True, help="Take the model for trained: keep its server half and its weights.")
@click.option("--attacks", multiple=True, metavar="NAME", help="As of `audit`; may be repeated.  [default: standard]")
@click.option("--attack-seeds", type=click.IntRange(min=1), default=1, help="Fresh attackers of each kind, for each model.")
@click.option("--attack-epochs", type=click.IntRange(min=1), help="Of each attacker.  [default: the audit's own choice]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write; on a cluster, a shared one.")
@click.option("--workers", type=click.IntRange(min=1), default=1, help="Local processes.")
@click.option("--scheduler", metavar="ADDRESS", help="A dask scheduler such as tcp://host:8786, instead of local processes.")
@click.option("--retries", type=click.IntRange(min=0), default=2, help="Further attempts of a job that failed.")
@json_option
@click.pass_context
@interruptible("The jobs that are done are kept. Run the same command again to go on with the others.")
def sweep(ctx: click.Context, model: str, out: Path, as_json: bool, **options: Any) -> None:
    """Train and audit MODEL at every combination of the given cuts, bottlenecks, channels, weights and regularisers, with several seeds.

    Every job is an ordinary run in OUT/runs, with its report; OUT/results.md has one row per setting and marks the privacy-utility front,
    OUT/front.png shows it. A sweep that was killed goes on where it was, and more settings can be added to it: no job is run twice.

    \b
    Example:
      privpart-keras sweep examples.models:lenet --data mnist --at bottleneck --channel none --channel gaussian:0.5 --out runs/sweep
    """
    cluster = {name: options.pop(name) for name in ("scheduler", "workers", "retries")}
    settings = _settings(**{name: options.pop(name) for name in (*_VARIED, "bottleneck_over", "recipe", "seeds")})
    recipe = {name: options.pop(name) for name in ("epochs", "batch_size", "learning_rate")}
    recipe["initial"] = "pretrained" if options.pop("pretrained") else None
    audit = {"attacks": options.pop("attacks"), "seeds": options.pop("attack_seeds"), "epochs": options.pop("attack_epochs")}
    source = data_source(options)
    assert source is not None  # the option is required
    digest = _keep_model(model, out)
    jobs = [Job(setting, str(out.resolve()), digest, source, recipe, audit) for setting in settings]
    done = sum(job.result() is not None for job in jobs)
    say(f"{len(jobs)} jobs, {done} of them done already.")
    failures = []
    if done < len(jobs):
        with dask_executor(**cluster) as executor, progress_bar(len(jobs) - done, "sweep") as bar:

            def announce(job: Job) -> None:
                bar.set_postfix_str(str(job.setting))
                bar.update(1)

            failures = run_all(jobs, executor, announce=announce)
    rows = rows_of([result for job in jobs if (result := job.result()) is not None])
    command = shlex.join([ctx.find_root().info_name or "privpart-keras", *sys.argv[1:]])
    written = write(rows, out, command)
    payload = {
        "jobs": len(jobs),
        "done_before": done,
        "failed": {str(failure.job.setting): failure.reason for failure in failures},
        "rows": [asdict(row) for row in rows],
        "written": [str(path) for path in written],
    }
    emit(as_json, payload, f"{to_markdown(rows, command)}\nWrote {', '.join(map(str, written))}")
    if failures:
        lines = "\n".join(f"  {failure.job.setting}: {failure.reason}" for failure in failures)
        raise PrivPartError(
            f"{len(failures)} of {len(jobs)} jobs failed; the others are kept, and the same command tries these again:\n{lines}"
        )


def _settings(**values: Any) -> list[Setting]:
    """Every combination, the seeds innermost."""
    seeds, over, recipes = range(values.pop("seeds")), values.pop("bottleneck_over"), values.pop("recipe")
    values["at"] = tuple(tuple(text.split("+")) for text in values["at"]) or ((),)
    found = []
    for row in itertools.product(*values.values()):
        chosen = dict(zip(values, row, strict=True))
        regularizer = () if chosen["regularizer"] == "none" else (chosen["regularizer"],)
        defence = DefenceSource(
            reconstruction=chosen["reconstruction"], attribute=chosen["attribute"], channel=chosen["channel"], regularizer=regularizer
        )
        found += [Setting(chosen["at"], chosen["bottleneck"] or None, over, defence, seed) for seed in seeds]
    for at, recipe, seed in itertools.product(values["at"], recipes, seeds):  # a recipe brings its own bottleneck
        found.append(Setting(at, None, over, DefenceSource(recipe=recipe), seed))
    return list(dict.fromkeys(found))


def _keep_model(source: str, out: Path) -> str:
    """Puts the model into the sweep's folder, once; its digest.

    A `.keras` file that differs from the one kept is refused. A function is called for a new sweep only: its weights are drawn anew at
    every call, and those of the jobs come from their seeds.
    """
    kept = model_file(out)
    if not kept.exists():
        out.mkdir(parents=True, exist_ok=True)
        with atomic.new_file(kept) as fresh:
            load_model(source).save(fresh)
        (out / "model.source").write_text(_identity(source) + "\n", encoding="utf-8")
    elif (known := (out / "model.source").read_text(encoding="utf-8").strip()) != _identity(source):
        raise PrivPartError(f"{out} holds a sweep of {known}; received {_identity(source)}. Give another --out.")
    return digest_of(kept)


def _identity(source: str) -> str:
    path = Path(source)
    return f"a file with the digest {digest_of(path)}" if path.is_file() else source
