"""A user's verbs on a cluster: submit, status, logs, events, cancel, suspend, resume, delete.

Every verb is a coroutine on a :class:`~tunefleet.verbs.cluster.connect.Cluster`;
:func:`~tunefleet.verbs.cluster.connect.on` connects and runs one. What is read comes from the
API server alone, with the rights of the kubeconfig.
"""
