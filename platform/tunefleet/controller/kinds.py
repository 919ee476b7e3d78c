"""The kinds that the controller reads and writes. Imports ``kube`` alone."""

from __future__ import annotations

from tunefleet.kube.resources import PODS, Resource

FINE_TUNE_JOBS = Resource("tunefleet.dev", "v1alpha1", "finetunejobs", "FineTuneJob")
ATTEMPTS = Resource("tunefleet.dev", "v1alpha1", "finetuneattempts", "FineTuneAttempt")
PROFILES = Resource(
    "tunefleet.dev", "v1alpha1", "computeprofiles", "ComputeProfile", namespaced=False
)
RAY_JOBS = Resource("ray.io", "v1", "rayjobs", "RayJob")
PREPARE_JOBS = Resource("batch", "v1", "jobs", "Job")
# Kueue's, where it is installed: one version of it serves the second alone, a later one both.
WORKLOADS, OLDER_WORKLOADS = (
    Resource("kueue.x-k8s.io", version, "workloads", "Workload")
    for version in ("v1beta2", "v1beta1")
)
QUEUES, OLDER_QUEUES = (
    Resource("visibility.kueue.x-k8s.io", version, "localqueues", "LocalQueue")
    for version in ("v1beta2", "v1beta1")
)

__all__ = [
    "ATTEMPTS",
    "FINE_TUNE_JOBS",
    "OLDER_QUEUES",
    "OLDER_WORKLOADS",
    "PODS",
    "PREPARE_JOBS",
    "PROFILES",
    "QUEUES",
    "RAY_JOBS",
    "WORKLOADS",
]
