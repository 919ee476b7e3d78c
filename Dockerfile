# Two images from one file, both for an unprivileged user with a number for a name:
#
#   docker build --target runtime    --tag tunefleet-runtime .      prepares, trains, serves
#   docker build --target controller --tag tunefleet-controller .   reconciles; has no torch
#
# BASE_IMAGE is any Debian or Ubuntu with Python 3.11 or newer and its venv module. TORCH may
# name a CPU build ("torch==2.13.0+cpu") where an index or a folder of wheels has one, EXTRAS
# leaves out what a cluster never uses. PIP_* settings reach pip while building and do not stay
# in the image. What the code needs is installed before the code comes in, the largest first, so
# that a change of the code is a small layer.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# What pyproject.toml asks for, as lists: packages are installed anew when these change, not
# when anything else in that file does.
FROM ${BASE_IMAGE} AS requirements
WORKDIR /requirements
COPY pyproject.toml ./
ARG EXTRAS=train,serve,tracking
RUN python3 -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
wanted = {'runtime': '${EXTRAS}'.split(','), 'controller': ['control']}; \
[open(name + '.txt', 'w').write('\n'.join(sum(map(extras.get, names), project['dependencies']))) \
 for name, names in wanted.items()]"

FROM ${BASE_IMAGE} AS wheel
WORKDIR /source
ARG PIP_FIND_LINKS
ARG PIP_INDEX_URL
ARG PIP_CERT
# The backend first: it does not change with the code.
RUN python3 -m venv /backend \
 && /backend/bin/python -m pip install --quiet --no-cache-dir "hatchling>=1.25"
COPY pyproject.toml README.md LICENSE ./
COPY platform ./platform
RUN /backend/bin/python -m pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation \
    --wheel-dir /wheel .

FROM ${BASE_IMAGE} AS user
# KubeRay's probes call wget inside the image: without it no head ever gets ready. It also
# starts everything in a login shell, which forgets PATH; the file in profile.d brings it back.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates wget \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home --home-dir /var/lib/tunefleet \
    --shell /usr/sbin/nologin tunefleet \
 && echo 'PATH=/opt/tunefleet/bin:$PATH' >/etc/profile.d/tunefleet.sh \
 && python3 -m venv /opt/tunefleet
ENV PATH=/opt/tunefleet/bin:$PATH \
    HOME=/var/lib/tunefleet \
    PYTHONUNBUFFERED=1
COPY constraints.txt /opt/tunefleet/

FROM user AS controller
ARG PIP_FIND_LINKS
ARG PIP_INDEX_URL
ARG PIP_CERT
COPY --from=requirements /requirements/controller.txt /opt/tunefleet/requirements.txt
RUN python -m pip install --quiet --no-cache-dir \
    --constraint /opt/tunefleet/constraints.txt --requirement /opt/tunefleet/requirements.txt
COPY --from=wheel /wheel /opt/tunefleet/wheel
RUN python -m pip install --quiet --no-cache-dir --no-deps --no-index /opt/tunefleet/wheel/*.whl
USER 10001
WORKDIR /var/lib/tunefleet
ENTRYPOINT ["tunefleet"]

FROM user AS runtime
ENV RAY_USAGE_STATS_ENABLED=0
ARG TORCH=torch
ARG PIP_FIND_LINKS
ARG PIP_INDEX_URL
ARG PIP_CERT
RUN python -m pip install --quiet --no-cache-dir \
    --constraint /opt/tunefleet/constraints.txt "${TORCH}"
COPY --from=requirements /requirements/runtime.txt /opt/tunefleet/requirements.txt
RUN python -m pip install --quiet --no-cache-dir \
    --constraint /opt/tunefleet/constraints.txt --requirement /opt/tunefleet/requirements.txt
COPY --from=wheel /wheel /opt/tunefleet/wheel
RUN python -m pip install --quiet --no-cache-dir --no-deps --no-index /opt/tunefleet/wheel/*.whl
USER 10001
WORKDIR /var/lib/tunefleet
ENTRYPOINT ["tunefleet"]
