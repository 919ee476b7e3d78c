"""The language as a Kubernetes API server reads it: CustomResourceDefinitions.

Decides nothing that the models do not: the definitions are made from them, and a keyword that
cannot be carried over is an error, never dropped in silence. Imports ``api`` alone.
"""
