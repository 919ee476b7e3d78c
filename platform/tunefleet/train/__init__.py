"""Training: the exact loop, what places it (Ray, torchrun or nobody), and preparation.

Decides how a plan becomes weights. ``ray`` is imported by ``driver``, ``worker`` and
``environment`` alone; ``loop`` and everything below it runs without it.
"""
