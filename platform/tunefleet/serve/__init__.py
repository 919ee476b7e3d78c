"""Serving: a bundle behind an HTTP endpoint, on Ray Serve.

Decides when an endpoint is ready (its golden batch is reproduced) and what it accepts.
Imports ``evaluate`` and what is below it; ``ray`` and FastAPI inside the modules that serve.
"""
