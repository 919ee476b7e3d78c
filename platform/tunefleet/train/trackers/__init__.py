"""Trackers: where a run's numbers are mirrored to.

``contract`` is the one small interface, ``choice`` says which trackers a job asks for and what
they need, ``feed`` carries numbers to them off the training thread; each tracker has a file of
its own, which alone imports its package.
"""
