"""``tunefleet init``: options and output of :func:`tunefleet.verbs.init.init`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="""\b
Examples:
  tunefleet init reviews.csv
  tunefleet init data/train.jsonl --out chat.yaml
  tunefleet init reviews.csv --model ./my-model --force
"""
)
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("job.yaml"),
    show_default=True,
    help="The job file to write.",
)
@click.option("--force", is_flag=True, help="Replace the job file if it exists.")
@click.option("--model", help="A model of the hub, or a folder, instead of the usual one.")
def init(data: Path, out: Path, force: bool, model: str | None) -> None:
    """Look at the file DATA and write a short job file for it.

    Reads CSV, TSV, JSON, JSONL, Parquet, Arrow or plain text, guesses the task, its columns,
    the labels and a model, and says what each guess rests on.
    """
    from tunefleet.verbs.init import init as write

    click.echo(write(data, out, force=force, model=model))
