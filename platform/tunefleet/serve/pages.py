"""The two pages a person sees: what is served here, and how to ask it.

Decides their looks. Both are whole in themselves: no script, font or style is fetched from
anywhere, so they work where there is no network. Imports the standard library alone.
"""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Mapping, Sequence

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--accent:#2563eb}
body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
code,pre,textarea{font:13px/1.5 ui-monospace,monospace}
pre,textarea{background:var(--soft);border:1px solid var(--line);border-radius:6px;padding:.8rem;
overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere}
textarea{width:100%;box-sizing:border-box;min-height:11rem;color:inherit}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem .3rem 0;
border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
th{font-weight:600;white-space:nowrap}
button{font:inherit;padding:.4rem 1.1rem;border:0;border-radius:6px;background:var(--accent);
color:#fff;cursor:pointer}
.verb{display:inline-block;min-width:3.2rem;font-weight:700}.soft{opacity:.7}
a{color:var(--accent)}
"""

_SCRIPT = """
const form=document.querySelector('form');
form.addEventListener('submit',async event=>{
 event.preventDefault();
 const out=document.querySelector('#answer'),began=performance.now();
 out.hidden=false;out.textContent='…';
 try{
  const reply=await fetch('v1/predict',{method:'POST',
   headers:{'Content-Type':'application/json'},body:form.elements.body.value});
  const text=await reply.text(),ms=Math.round(performance.now()-began);
  let shown=text;try{shown=JSON.stringify(JSON.parse(text),null,2)}catch{}
  out.textContent=`${reply.status} in ${ms} ms\\n${shown}`;
 }catch(error){out.textContent=String(error)}
});
"""


def home(described: Mapping[str, object]) -> str:
    """The page at ``/``: the model, and a form to try it."""
    columns = _mappings(described["columns"])
    labels = described["labels"]
    rows = [
        ("Task", _text(described["task"])),
        ("Tuned from", _text(described["baseModel"])),
        ("Digest", f"<code>{_text(described['digest'])}</code>"),
        ("Reads", ", ".join(f"<code>{_text(column['name'])}</code>" for column in columns)),
        ("Up to", f"{_text(described['maxLength'])} tokens"),
    ]
    if isinstance(labels, Sequence) and labels:
        rows.insert(2, ("Labels", ", ".join(_text(label) for label in labels)))
    metrics = described["metrics"]
    if isinstance(metrics, Mapping) and metrics:
        shown = ", ".join(f"{_text(name)} {value:.4g}" for name, value in metrics.items())
        rows.append(("On held-out rows", shown))
    body = f"""<h1>This model is ready</h1>
<table>{"".join(f"<tr><th>{name}</th><td>{cell}</td></tr>" for name, cell in rows)}</table>
<h2>Ask it</h2>{_form(_mapping(described["example"]))}
<p><a href="docs">How to call it</a> · <a href="openapi.json">OpenAPI</a> ·
<a href="v1/model">the model as JSON</a></p>"""
    return _page("tunefleet", body)


def docs(document: Mapping[str, object], url: str) -> str:
    """The page at ``/docs``: every route of an OpenAPI document, its bodies and its errors.

    ``url`` is where the reader has found the service.
    """
    info = _mapping(document["info"])
    schemas = _mapping(_mapping(document.get("components", {})).get("schemas", {}))
    item = _mapping(schemas["Item"])
    parts = [
        f"<h1>How to call this model</h1><p>{_text(info.get('description', ''))}</p>",
        f"<h2>Fields of an item</h2>{_fields(item)}",
        f"<h2>Try it</h2>{_form(_mapping(item['example']))}",
        f"<pre>{_text(_curl(url, _mapping(item['example'])))}</pre>",
    ]
    for path, operations in _mapping(document["paths"]).items():
        for verb, operation in _mapping(operations).items():
            parts.append(_operation(verb, path, _mapping(operation)))
    parts.append(f"<h2>Schemas</h2><pre>{_json(schemas)}</pre>")
    parts.append('<p><a href="openapi.json">The whole OpenAPI document</a></p>')
    return _page("tunefleet: how to call this model", "".join(parts))


def _curl(url: str, example: Mapping[str, object]) -> str:
    body = shlex.quote(json.dumps(example, ensure_ascii=False))
    return f"curl {url.rstrip('/')}/v1/predict -H 'Content-Type: application/json' -d {body}"


def _operation(verb: str, path: str, operation: Mapping[str, object]) -> str:
    head = f'<h2><span class="verb">{_text(verb.upper())}</span> <code>{_text(path)}</code></h2>'
    parts = [head, f"<p>{_text(operation.get('summary', ''))}</p>"]
    request = _mapping(operation.get("requestBody", {}))
    for kind, body in _mapping(request.get("content", {})).items():
        parts.append(f'<p class="soft">Body, {_text(kind)}:</p>')
        parts.append(f"<pre>{_json(_mapping(body)['schema'])}</pre>")
    replies = _mapping(operation.get("responses", {}))
    rows = "".join(
        f"<tr><th>{_text(status)}</th><td>{_text(_mapping(reply).get('description', ''))}</td></tr>"
        for status, reply in replies.items()
    )
    return "".join(parts) + f"<table>{rows}</table>"


def _fields(item: Mapping[str, object]) -> str:
    required = item.get("required", [])
    assert isinstance(required, Sequence)
    rows = "".join(
        f"<tr><th><code>{_text(name)}</code></th><td>{_text(_mapping(field)['type'])}</td>"
        f"<td>{'required' if name in required else 'optional'}</td>"
        f"<td>{_text(_mapping(field).get('description', ''))}</td></tr>"
        for name, field in _mapping(item["properties"]).items()
    )
    return f"<table>{rows}</table>"


def _form(example: Mapping[str, object]) -> str:
    body = _json({"items": [example]})
    return (
        f'<form><textarea name="body" spellcheck="false" aria-label="request body">{body}'
        "</textarea><p><button>Send</button> to <code>POST /v1/predict</code></p>"
        '<pre id="answer" aria-live="polite" hidden></pre></form>'
    )


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head>'
        f"<body>{body}<script>{_SCRIPT}</script></body></html>"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _json(value: object) -> str:
    return html.escape(json.dumps(value, indent=2, ensure_ascii=False))


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)
    return value


def _mappings(value: object) -> list[Mapping[str, object]]:
    assert isinstance(value, Sequence)
    return [_mapping(entry) for entry in value]
