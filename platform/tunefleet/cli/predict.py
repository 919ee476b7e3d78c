"""``tunefleet predict``: options and output of :func:`tunefleet.verbs.predict.predict`.

Decides how an answer reads on a terminal: a line for each, as JSON where asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import click

from tunefleet.cli import options


@click.command(
    epilog="""\b
Examples:
  tunefleet predict job.yaml --text "What a film!"
  tunefleet predict runs/default/reviews/run-0001 --file new.csv --out answers.jsonl
  tunefleet predict s3://my-bucket/runs/default/reviews/run-0001 --text "What a film!"
  cat new.jsonl | tunefleet predict job.yaml --file - --out -
"""
)
@click.argument("bundle", metavar="BUNDLE|JOB_FILE")
@click.option("--text", "texts", multiple=True, help="A text to answer; may be repeated.")
@click.option("--file", help="Rows to answer (CSV, JSONL, Parquet, …); - is standard input.")
@click.option("--format", help="csv, tsv, json, jsonl, parquet, arrow or text; else the ending.")
@click.option("--encoding", help="Of --file; else UTF-8, or that of the training data.")
@click.option("--delimiter", help="Between cells of a CSV file; else that of the training data.")
@click.option("--out", help="Where answers go, as JSONL; - is standard output.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@options.device
@options.as_json
def predict(
    bundle: str,
    texts: tuple[str, ...],
    file: str | None,
    format: str | None,
    encoding: str | None,
    delimiter: str | None,
    out: str | None,
    batch_size: int,
    device: str,
    as_json: bool,
) -> None:
    """Answer texts, or the rows of a file, with a tuned model.

    BUNDLE is a bundle's folder, a run's folder (either may be s3://…), or a job file (its
    newest bundle).
    """
    from tunefleet.verbs.predict import predict as answer

    with options.progress_bar(quiet=as_json) as bar:
        step = None if bar is None else lambda done, total: bar("predicting", done, total)
        result = answer(
            bundle,
            texts=texts,
            file=file,
            format=format,
            encoding=encoding,
            delimiter=delimiter,
            out=out,
            batch_size=batch_size,
            device=device,
            progress=step,
        )
    if as_json and out != "-":
        values = {
            "task": result.task,
            "digest": result.digest,
            "count": result.count,
            "seconds": result.seconds,
            "out": result.out,
            "rows": [row.record() for row in result.rows],
        }
        click.echo(json.dumps(values, ensure_ascii=False, default=str))
    elif out is None:
        for row in result.rows:
            click.echo(f"{_line(row.prediction)}  {_line(row.input)}")
    elif out != "-":
        click.echo(f"{result.count:,} answers in {result.out} ({result.seconds:.1f} s)", err=True)


def _line(values: Mapping[str, object]) -> str:
    if len(values) == 1:
        only = next(iter(values.values()))
        return only if isinstance(only, str) else json.dumps(only, ensure_ascii=False, default=str)
    return json.dumps(values, ensure_ascii=False, default=str)
