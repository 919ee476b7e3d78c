"""The command line. Thin: each command reads its options, calls a verb and shows the result."""
