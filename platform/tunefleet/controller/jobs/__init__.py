"""FineTuneJob: observe → decide (pure) → execute, one status write and only on a difference."""
