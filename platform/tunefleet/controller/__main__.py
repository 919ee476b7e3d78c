"""``python -m tunefleet.controller``."""

from tunefleet.controller.main import main

main()
