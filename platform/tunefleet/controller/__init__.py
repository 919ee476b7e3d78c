"""The controller: it turns FineTuneJobs into attempts, and tells in their status what happens.

One package per kind: what is observed, what is decided from it (pure), and what is then done.
Imports ``api``, ``plan``, ``cost``, ``render`` and ``kube``; never the data plane.
"""
