"""From a job and its plan to the objects that a cluster runs, as plain dicts.

Pure: the same input gives the same object to the byte, so that an object is rendered once and
never again. Imports ``api`` and ``plan``.
"""
