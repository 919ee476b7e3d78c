"""Progress out and commands in: one schema, several back ends.

Decides nothing about training; it carries what a run says and what is asked of it.
Imports ``api`` alone.
"""
