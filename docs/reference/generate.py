"""Write the pages of docs/reference and the chart's CRDs from models and command line.

Decides nothing but the pages' looks; a test fails when one of them is not current. Run by
``make docs`` as ``python -m docs.reference.generate``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from docs.reference.meanings import MEANINGS, PROFILE_MEANINGS
from tunefleet.api.crd.policy import profile_policy
from tunefleet.api.crd.resources import KINDS, Kind
from tunefleet.api.crd.text import to_yaml
from tunefleet.api.job import FineTuneJob
from tunefleet.api.profile import ComputeProfile
from tunefleet.api.support import ONE_WORD, REFUSED, REFUSED_ON_CLUSTER
from tunefleet.cli.main import tunefleet

FOLDER = Path(__file__).parent
CHART = FOLDER.parents[1] / "helm" / "tunefleet"
CRDS = CHART / "crds"
POLICY = CHART / "files" / "profile-policy.yaml"
_MADE = "# Made from the models by `make docs`; do not edit.\n"
PART_OF_DATA = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class FieldEntry:
    """A leaf of the job: its path, what it may hold, and what it is without being written."""

    path: str
    kind: str
    default: str


def fields(model: type[BaseModel] = FineTuneJob) -> list[FieldEntry]:
    """Every leaf of a job, or of another kind, in the order of the models."""
    schema = model.model_json_schema(by_alias=True)
    found = {entry.path: entry for entry in _walk(schema, schema["$defs"], "")}
    return list(found.values())


def meaning_of(path: str) -> str:
    """The key under which a path's sentence stands: the three splits share theirs."""
    for part in PART_OF_DATA:
        head = f"spec.data.{part}."
        if path.startswith(head):
            return f"spec.data.*.{path.removeprefix(head)}"
    return path


def job_page() -> str:
    """The page of the job's fields."""
    lines = [
        "# Every field of a job",
        "",
        "Made from the models by `make docs`; do not edit. A field that this version cannot",
        "honour is refused by name, never ignored: the last column says so. *Required* means:",
        "where the part that it belongs to is given. A cluster takes locations in an object",
        "store alone, and one text where a laptop takes a list of them.",
        "",
        "| field | holds | default | meaning |",
        "|---|---|---|---|",
    ]
    for entry in fields():
        meaning = MEANINGS[meaning_of(entry.path)]
        meaning += _where(entry.path)
        cells = (f"`{entry.path}`", entry.kind, entry.default, meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def profile_page() -> str:
    """The page of a profile's fields."""
    lines = [
        "# Every field of a ComputeProfile",
        "",
        "Made from the models by `make docs`; do not edit. An administrator applies profiles with",
        "`kubectl`; a job names one under `spec.profile`. Limits are held by the API server when a",
        "job is made, and by the controller. *Required* means: where the part that it belongs to",
        "is given.",
        "",
        "| field | holds | default | meaning |",
        "|---|---|---|---|",
    ]
    for entry in fields(ComputeProfile):
        cells = (f"`{entry.path}`", entry.kind, entry.default, PROFILE_MEANINGS[entry.path])
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """The page of the commands."""
    lines = ["# Every command", "", "Made from the command line by `make docs`; do not edit.", ""]
    for path, command in _commands(tunefleet, "tunefleet"):
        context = click.Context(
            command,
            info_name=path,
            max_content_width=90,
            terminal_width=90,
            # Inherited from the group when a user calls it; click keeps the first one it sees.
            help_option_names=tunefleet.context_settings["help_option_names"],
        )
        lines += [f"## `{path}`", "", "```", command.get_help(context).strip(), "```", ""]
    return "\n".join(lines)


def definition(kind: Kind) -> str:
    """A kind's CustomResourceDefinition; ``kubectl explain`` shows the sentences of the page."""
    known: dict[str, Mapping[str, str]] = {
        "FineTuneJob": {entry.path: MEANINGS[meaning_of(entry.path)] for entry in fields()},
        "ComputeProfile": PROFILE_MEANINGS,
    }
    return _MADE + to_yaml(kind.manifest(known.get(kind.kind, {})))


def policy() -> str:
    """The rules of the chart's admission policy for profiles."""
    return _MADE + to_yaml(profile_policy())


def _walk(
    node: Mapping[str, Any], definitions: Mapping[str, Any], path: str
) -> Iterator[FieldEntry]:
    for name, given in node["properties"].items():
        here = f"{path}.{name}" if path else name
        inner = _object(given, definitions)
        if inner is not None:
            yield from _walk(inner, definitions, here)
        else:
            yield FieldEntry(here, _kind(given, definitions), _default(given, name, node))


def _object(given: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The nested model behind a field or the items of its list, if it is one."""
    for choice in (given, given.get("items", {}), *given.get("anyOf", ())):
        if "$ref" in choice:
            target: Mapping[str, Any] = definitions[choice["$ref"].rpartition("/")[2]]
            return target if "properties" in target else None
    return None


def _kind(given: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "anyOf" in given:
        choices = [_kind(choice, definitions) for choice in given["anyOf"]]
        return " or ".join(dict.fromkeys(choice for choice in choices if choice != "nothing"))
    if "const" in given:
        return f"`{given['const']}`"
    if "enum" in given:
        return ", ".join(f"`{value}`" for value in given["enum"])
    kind = str(given.get("type", ""))
    if kind == "array":
        return f"list of {_kind(given['items'], definitions)}"
    if kind == "object":
        return "map of texts"
    names = {"string": "text", "boolean": "`true` or `false`", "null": "nothing"}
    return names.get(kind, kind) + _bounds(given)


def _bounds(given: Mapping[str, Any]) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    bounds = [f"{sign} {given[key]:g}" for key, sign in signs.items() if key in given]
    return f" {', '.join(bounds)}" if bounds else ""


def _default(given: Mapping[str, Any], name: str, node: Mapping[str, Any]) -> str:
    if name in node.get("required", ()):
        return "*required*"
    default = given.get("default")
    return "" if default in (None, {}, []) else f"`{json.dumps(default).strip(chr(34))}`"


def _where(path: str) -> str:
    """Where a field is refused. One that is refused for a word says so when it is used."""
    laptop, cluster = (_refused(path, table) for table in (REFUSED, REFUSED_ON_CLUSTER))
    if laptop and cluster:
        return " **Not in this version.**"
    return " **Cluster only.**" if laptop else " **Laptop only.**" if cluster else ""


def _refused(path: str, table: Mapping[str, str]) -> bool:
    return any(path == key or path.startswith(f"{key}.") for key in set(table) - set(ONE_WORD))


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{name} is listed but cannot be had"
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def main() -> None:
    """Write the pages and the definitions."""
    (FOLDER / "job.md").write_text(job_page(), encoding="utf-8")
    (FOLDER / "profile.md").write_text(profile_page(), encoding="utf-8")
    (FOLDER / "commands.md").write_text(commands_page(), encoding="utf-8")
    for kind in KINDS:
        (CRDS / f"{kind.plural}.yaml").write_text(definition(kind), encoding="utf-8")
    POLICY.write_text(policy(), encoding="utf-8")


if __name__ == "__main__":
    main()
