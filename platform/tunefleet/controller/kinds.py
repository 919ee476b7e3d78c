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

__all__ = ["ATTEMPTS", "FINE_TUNE_JOBS", "PODS", "PREPARE_JOBS", "PROFILES", "RAY_JOBS"]
