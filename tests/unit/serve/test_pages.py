from __future__ import annotations

from tunefleet.evaluate.inputs import InputColumn
from tunefleet.serve import pages, schema
from tunefleet.serve.settings import Limits

EVIL = "</script><script>alert(1)</script>"
COLUMNS = (InputColumn(name="text", kind="text", help=EVIL),)
DESCRIBED: dict[str, object] = {
    "task": "text-classification",
    "baseModel": EVIL,
    "digest": "sha256:00",
    "labels": [EVIL, "good"],
    "columns": [column.model_dump() for column in COLUMNS],
    "example": {"text": EVIL},
    "maxLength": 64,
    "metrics": {"f1_macro": 0.875},
}


def test_the_first_page_shows_the_model_and_runs_none_of_its_words() -> None:
    page = pages.home(DESCRIBED)
    assert "f1_macro 0.875" in page
    assert "good" in page
    assert EVIL not in page


def test_the_first_page_does_without_labels_and_metrics() -> None:
    assert "Labels" not in pages.home(DESCRIBED | {"labels": [], "metrics": {}})


def test_the_documentation_lists_fields_bodies_and_errors() -> None:
    document = {
        "info": {"description": "A model."},
        "paths": {
            "/v1/predict": {
                "post": {
                    "summary": "Ask",
                    "requestBody": {"content": {"application/json": {"schema": {"a": EVIL}}}},
                    "responses": {"422": {"description": "does not fit"}},
                }
            }
        },
        "components": {"schemas": {"Item": schema.item_schema(COLUMNS, Limits())}},
    }
    page = pages.docs(document, "http://127.0.0.1:8000/")
    assert "POST" in page
    assert "curl http://127.0.0.1:8000/v1/predict" in page
    assert "does not fit" in page
    assert "required" in page
    assert EVIL not in page
