"""`privpart-keras audit`: attack a run with fresh attackers."""

from __future__ import annotations

from pathlib import Path

import click

from . import run_folder
from .console import emit, import_tensorflow, json_option, progress_bar, seed_option


@click.command(short_help="Attack a trained run with fresh attackers and write the report.")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Fresh attackers of each kind.")
@click.option("--epochs", type=click.IntRange(min=1), help="Of each attacker.  [default: as many as make 600 updates, 8 to 100]")
@click.option("--pictures/--no-pictures", default=True, help="Whether the report shows images of the test set.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier report.")
@seed_option
@json_option
def audit(run: Path, seeds: int, epochs: int | None, pictures: bool, overwrite: bool, seed: int, as_json: bool) -> None:
    """Attack RUN's defended partition with fresh attackers; write report.json and index.html to RUN/report.

    The floor is the same attack on the server half's outputs, the ceiling the same attack on RUN's undefended partition.

    \b
    Example:
      privpart-keras audit runs/mnist --seeds 3
    """
    source, _ = run_folder.read_training(run)
    import_tensorflow()
    from keras_privpart.auditing.protocol import audit as attack
    from keras_privpart.auditing.report import check_absent
    from keras_privpart.partitioning.halves import Partition

    folder = run / run_folder.REPORT
    check_absent(folder, overwrite)
    defended, undefended = Partition.load(run / run_folder.DEFENDED), Partition.load(run / run_folder.UNDEFENDED)
    data = source.load()
    with progress_bar(None, "audit") as bar:

        def progress(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.set_postfix_str(what)
            bar.update(done - bar.n)

        report = attack(
            defended,
            data.train,
            data.test,
            private=source.private_names,
            reference=undefended,
            seeds=seeds,
            epochs=epochs,
            seed=seed,
            progress=progress,
        )
    report.save(folder, overwrite=overwrite, pictures=pictures)
    emit(as_json, report.to_json(), f"{report.summary()}\nWrote {folder}/index.html")
