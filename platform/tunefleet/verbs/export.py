"""``export``: a bundle in a form that others read.

Decides which options belong to which form, and that nothing leaves a bundle that fails its
seal. Imports ``api``, ``export`` and ``storage``; torch only for ONNX, inside functions.
"""

from __future__ import annotations

from pathlib import Path

from tunefleet.api.errors import SpecError
from tunefleet.export import place
from tunefleet.export.folder import copy_files, files_of
from tunefleet.export.result import Exported, Form, Progress
from tunefleet.storage.bundle import bundle_digest, open_bundle
from tunefleet.verbs.target import find_bundle


def export(
    target: str | Path,
    to: str | Form,
    out: str | Path | None = None,
    *,
    repo: str | None = None,
    sidecar: bool = False,
    public: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Export a bundle to ``hf``, ``onnx``, ``gguf``, ``oci`` (folders) or ``hub``.

    ``target`` is a bundle's folder, a run's folder or a job file. ``out`` is the folder to
    make, ``repo`` (``org/name``) the Hub's repository. ``sidecar`` takes tunefleet's own files
    along (``oci`` always does). Raises ``ModelError`` for a bundle that fails its seal or an
    architecture that has no such form, ``SpecError`` for a place that must not be written.
    """
    form = _form(to)
    _refuse_options(form, out, repo, public=public, sidecar=sidecar)
    found = find_bundle(target)
    bundle = open_bundle(found.folder)
    digest = bundle_digest(bundle)
    say = progress or (lambda what, done, total: None)
    names = files_of(bundle, sidecar=sidecar or form is Form.OCI)
    place_named = str(out or "")
    if form is Form.GGUF:
        from tunefleet.evaluate.bundle import read_task
        from tunefleet.export.gguf import refuse_gguf

        raise refuse_gguf(bundle, read_task(bundle).task, place_named)
    if form is Form.HUB:
        from tunefleet.export.hub import push

        assert repo is not None
        url = push(bundle, repo, names, digest=digest, public=public, force=force)
        size = sum((bundle / name).stat().st_size for name in names)
        return _done(form, bundle, digest, url, (len(names), size), "the Hub took the commit")
    if form is Form.OCI:
        from tunefleet.export.oci import refuse_registry

        refuse_registry(place_named)
    folder = Path(place_named).expanduser()
    with place.draft_of(folder, force=force, source=bundle) as draft:
        job = found.result.job if found.result else "model"
        checked = _write(form, bundle, draft, names, job=job, digest=digest, say=say)
        measured = place.measure(draft)
    return _done(form, bundle, digest, str(folder.absolute()), measured, checked)


def _write(
    form: Form,
    bundle: Path,
    draft: Path,
    names: list[str],
    *,
    job: str,
    digest: str,
    say: Progress,
) -> str:
    """Fill a draft; returns how it was proved."""
    if form is Form.OCI:
        from tunefleet.export.oci import check_layout, write_layout

        manifest = write_layout(bundle, draft, names, job=job, digest=digest, progress=say)
        return f"{check_layout(draft)} blobs read back; manifest {manifest}"
    if form is Form.ONNX:
        from tunefleet.evaluate.predictor import Predictor
        from tunefleet.export.onnx import require_packages, write_onnx

        require_packages()
        say("exporting", 0, 2)
        worst = write_onnx(Predictor.open(bundle, device="cpu"), draft)
        say("exporting", 1, 2)
        weights = (".safetensors", ".safetensors.index.json")
        copy_files(bundle, draft, [n for n in names if not n.endswith(weights)], say)
        say("exporting", 2, 2)
        return f"ONNX Runtime reproduces the golden batch (largest difference {worst:.2g})"
    copy_files(bundle, draft, names, say)
    for name in names:
        if (draft / name).stat().st_size != (bundle / name).stat().st_size:
            raise OSError(f"{name} was not copied whole")
    return "every file copied from a bundle whose seal holds"


def _form(to: str | Form) -> Form:
    try:
        return Form(to)
    except ValueError as error:
        known = ", ".join(Form)
        raise SpecError(f"{to!r} is no form of a model", remedy=f"choose one of {known}") from error


def _refuse_options(
    form: Form, out: str | Path | None, repo: str | None, *, public: bool, sidecar: bool
) -> None:
    if form is Form.HUB and repo is None:
        raise SpecError("--to hub needs a repository", remedy="add --repo org/name")
    if form is Form.HUB and out is not None:
        raise SpecError("--out has no effect with --to hub", remedy="remove --out")
    if form is not Form.HUB and (repo is not None or public):
        named = "--repo" if repo is not None else "--public"
        raise SpecError(f"{named} has no effect with --to {form}", remedy=f"remove {named}")
    if form not in {Form.HUB, Form.GGUF} and not str(out or ""):
        raise SpecError(f"--to {form} needs a folder", remedy="add --out FOLDER")
    if sidecar and form in {Form.OCI, Form.GGUF}:
        raise SpecError(
            f"--with-sidecar has no effect with --to {form}", remedy="remove --with-sidecar"
        )


def _done(
    form: Form, bundle: Path, digest: str, out: str, measured: tuple[int, int], checked: str
) -> Exported:
    files, size = measured
    return Exported(
        to=form,
        bundle=str(bundle),
        digest=digest,
        out=out,
        files=files,
        bytes=size,
        checked=checked,
    )
