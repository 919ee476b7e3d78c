"""Planning: spec, facts and machine in, a plan with its sizes, time, cost and reasons out.

Decides what will be run before anything is spent. Pure: no clock, environment, network,
torch or ray; imports ``api`` alone.
"""
