"""The version of tunefleet, where every layer can read it. Imports nothing."""

VERSION = "0.1.0"
