"""Measurements beside what people use today; ``python -m benchmarks`` prints one table.

Each module measures one thing and has a ``measure(scale)`` that returns rows of the table.
Both sides of a row run in the same invocation, in turn, with the same seeds, thread and malloc
settings, watched from outside by the same observer.
"""
