"""What came of a run: metrics with their certainty, gate, report, model card, bundle, comparison.

Decides nothing by itself; every module says what it decides. The records (``result``,
``content``) and ``compare`` import without torch, jinja2 or scikit-learn.
"""
