"""Data: read, check, split, tokenise once, keep, order and batch.

Decides everything between a user's files and a padded micro-batch. Imports ``api`` and
``plan.facts``; pyarrow, datasets, transformers and torch only where a function needs them.
"""
