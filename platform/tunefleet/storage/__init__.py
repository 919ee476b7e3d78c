"""Object storage: runs, claims, verified checkpoints and bundles.

Decides what of a run is durable and who may write it. Imports ``api`` and ``plan`` only.
"""
