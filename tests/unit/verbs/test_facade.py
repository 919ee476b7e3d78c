"""``import tunefleet``: the verbs are there, and nothing heavy comes with them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tunefleet
import tunefleet.api.errors
from tunefleet.verbs import VERBS

ROOT = Path(__file__).parents[3]


def after(code: str) -> dict[str, object]:
    """What a fresh interpreter finds after running some code."""
    told = "print(json.dumps({'out': out, 'modules': sorted(sys.modules)}))"
    program = f"{code}\nimport json, sys\n{told}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


HEAVY = {"torch", "ray", "transformers", "datasets", "pyarrow", "sklearn", "pandas", "obstore"}


def test_importing_it_loads_neither_torch_nor_ray_nor_pydantic() -> None:
    found = after("import tunefleet\nout = tunefleet.__version__")
    assert isinstance(found["modules"], list)
    assert not {"pydantic", "numpy", "rich", *HEAVY} & set(found["modules"])


def test_loading_a_job_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "apiVersion: tunefleet.dev/v1alpha1\nkind: FineTuneJob\nmetadata: {name: a}\n"
        "spec: {task: text-classification, model: {name: b}, data: {train: {uri: c.csv}}}\n"
    )
    found = after(f"import tunefleet\nout = tunefleet.load({str(tmp_path / 'job.yaml')!r}).digest")
    assert str(found["out"]).startswith("sha256:")
    assert isinstance(found["modules"], list)
    assert not HEAVY & set(found["modules"])


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_is_callable_and_says_what_it_does(name: str) -> None:
    found = getattr(tunefleet, name)
    assert callable(found)
    assert found.__doc__
    assert name in dir(tunefleet)
    assert name in tunefleet.__all__


@pytest.mark.parametrize("name", ["plan", "serve", "export"])
@pytest.mark.parametrize("first", ["verb", "package"])
def test_a_verb_that_shares_its_name_with_a_package_is_both(name: str, first: str) -> None:
    imports = [f"import tunefleet.{name}", f"import tunefleet\ntunefleet.{name}"]
    code = "\n".join(imports if first == "package" else reversed(imports))
    module = {"plan": "document", "serve": "settings", "export": "result"}[name]
    found = after(
        f"{code}\nimport tunefleet.{name}.{module} as part\n"
        f"out = [callable(tunefleet.{name}), part.__name__]"
    )
    assert found["out"] == [True, f"tunefleet.{name}.{module}"]


def test_a_shared_name_calls_the_verb() -> None:
    with pytest.raises(tunefleet.api.errors.SpecError, match="there is no file"):
        tunefleet.plan("no-such-job.yaml")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tunefleet.trian  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert tunefleet.__version__ == project["version"]
