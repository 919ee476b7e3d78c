# The runtime: what prepares, trains and serves. No Kubernetes client, no compiler, no root.
#
#   docker build --target runtime --build-arg BASE_IMAGE=<an image with Python 3.11+> .
#
# wget is there because KubeRay's probes call it inside the image.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY platform ./platform
# TORCH may name a CPU build ("torch==2.13.0+cpu") where an index or a folder of wheels has one.
ARG TORCH=torch
RUN python3 -m venv /opt/tunefleet \
 && /opt/tunefleet/bin/python -m pip install --no-cache-dir --constraint constraints.txt "${TORCH}" \
 && /opt/tunefleet/bin/python -m pip install --no-cache-dir --constraint constraints.txt ".[train,serve]"

FROM ${BASE_IMAGE} AS runtime
RUN apt-get update \
 && apt-get install --yes --no-install-recommends wget ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home --home-dir /var/lib/tunefleet --shell /usr/sbin/nologin tunefleet
COPY --from=build /opt/tunefleet /opt/tunefleet
ENV PATH=/opt/tunefleet/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
USER 10001
WORKDIR /var/lib/tunefleet
ENTRYPOINT ["tunefleet"]
