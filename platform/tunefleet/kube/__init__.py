"""A level-triggered runtime for Kubernetes controllers: caches, a queue, workers, leadership.

Decides how objects are read (paged list, then watch, into caches of small projections), when
a key is worked on, and who may write. It knows no kind of this platform and could be lifted
out as a library. The only importer of ``kubernetes`` (transport, authentication, TLS); imports
nothing else of tunefleet.
"""
