"""The language: resources, their rules and their words, as pydantic models.

Decides what a job file may say. Every other package may import this one; it imports
pydantic alone.
"""
