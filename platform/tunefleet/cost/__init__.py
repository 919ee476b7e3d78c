"""Cost: which cause a second belongs to, and what it costs in integer micro-dollars.

Pure: clocks are injected, prices are given; imports ``api`` alone.
"""
