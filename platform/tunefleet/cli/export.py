"""``tunefleet export``: options and output of :func:`tunefleet.verbs.export.export`."""

from __future__ import annotations

import click

from tunefleet.cli import options


@click.command(
    epilog="""\b
Examples:
  tunefleet export job.yaml --to hf --out model
  tunefleet export runs/default/reviews/run-0001 --to onnx --out model-onnx
  tunefleet export job.yaml --to hub --repo acme/reviews
"""
)
@click.argument("target", metavar="BUNDLE|JOB_FILE")
@click.option(
    "--to",
    required=True,
    type=click.Choice(["hf", "onnx", "gguf", "oci", "hub"]),
    help="What to make of it.",
)
@click.option("--out", metavar="FOLDER", help="The folder to make (hf, onnx, oci).")
@click.option("--repo", metavar="ORG/NAME", help="The repository on the Hub (hub).")
@click.option("--public", is_flag=True, help="Make a new repository public (hub).")
@click.option("--with-sidecar", "sidecar", is_flag=True, help="Take tunefleet's own files along.")
@click.option("--force", is_flag=True, help="Replace a folder, or commit to a filled repository.")
@options.as_json
def export(
    target: str,
    to: str,
    out: str | None,
    repo: str | None,
    public: bool,
    sidecar: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Export a tuned model as a Hugging Face folder, ONNX or OCI artifact, or to the Hub.

    TARGET is a bundle's folder, a run's folder, or a job file (its newest bundle). A bundle
    that was changed since it was made is refused.
    """
    from tunefleet.verbs.export import export as make

    with options.progress_bar(quiet=as_json) as bar:
        done = make(
            target,
            to,
            out,
            repo=repo,
            public=public,
            sidecar=sidecar,
            force=force,
            progress=bar,
        )
    if as_json:
        click.echo(done.to_json(indent=2))
    else:
        click.echo(f"{done.out}  ({done.files} files, {done.bytes / 1e6:,.1f} MB, {done.digest})")
        click.echo(done.checked)
