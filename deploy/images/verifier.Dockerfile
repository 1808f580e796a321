# The verifier, for CPUs (--target cpu) and for NVIDIA GPUs (--target cuda).
#   docker buildx build -f deploy/images/verifier.Dockerfile --target cuda --sbom=true --provenance=true .
# PYTHON_IMAGE has to be named by its digest: a tag is another image tomorrow. Releases pin it anew.
# EXTRAS=cloud,otel,export adds what `outrider models pull` needs, for the overlay cpu-demo.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON_IMAGE} AS pinned
ARG PYTHON_IMAGE
RUN case "${PYTHON_IMAGE}" in \
      *@sha256:*) ;; \
      *) echo "PYTHON_IMAGE is '${PYTHON_IMAGE}': name it by its digest, NAME@sha256:DIGEST." >&2; exit 1 ;; \
    esac

FROM pinned AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY common common
COPY edge edge
COPY cloud cloud
RUN python -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheels .

# PyTorch built for CPUs alone has an index of its own; the usual one brings the CUDA libraries.
FROM wheel AS build-cpu
ARG EXTRAS=cloud,otel
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/outrider \
    && /opt/outrider/bin/python -m pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt --index-url "${TORCH_INDEX}" --no-deps torch \
    && /opt/outrider/bin/python -m pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt "$(echo /wheels/outrider-*.whl)[${EXTRAS}]"

FROM wheel AS build-cuda
ARG EXTRAS=cloud,otel
RUN python -m venv /opt/outrider \
    && /opt/outrider/bin/python -m pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt "$(echo /wheels/outrider-*.whl)[${EXTRAS}]"

FROM build-cpu AS sbom-cpu
ARG CYCLONEDX_VERSION=7.5.0
RUN python -m venv /opt/sbom \
    && /opt/sbom/bin/python -m pip install --no-cache-dir --disable-pip-version-check "cyclonedx-bom==${CYCLONEDX_VERSION}" \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.cdx.json /opt/outrider/bin/python

FROM build-cuda AS sbom-cuda
ARG CYCLONEDX_VERSION=7.5.0
RUN python -m venv /opt/sbom \
    && /opt/sbom/bin/python -m pip install --no-cache-dir --disable-pip-version-check "cyclonedx-bom==${CYCLONEDX_VERSION}" \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.cdx.json /opt/outrider/bin/python

# The kernels of linear layers (CPU) and of attention (GPU) are compiled on the machine that runs them.
FROM pinned AS runtime
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="outrider-verifier" \
      org.opencontainers.image.description="Outrider's verifier: checks the drafts of many edges in one pass of the target model." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=10001 --group=10001 /var/lib/outrider
ENV PATH=/opt/outrider/bin:$PATH \
    HOME=/var/lib/outrider \
    OUTRIDER_MODELS_CACHE_DIR=/var/lib/outrider \
    NUMBA_CACHE_DIR=/tmp/numba \
    HF_HUB_OFFLINE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/outrider
EXPOSE 7411
# A model takes its time to load.
HEALTHCHECK --interval=15s --timeout=5s --start-period=600s --retries=3 CMD ["outrider", "verifier", "health"]
ENTRYPOINT ["outrider"]
CMD ["verifier", "serve"]

FROM runtime AS cpu
COPY --from=build-cpu /opt/outrider /opt/outrider
COPY --from=sbom-cpu /sbom.cdx.json /usr/share/outrider/sbom.cdx.json
USER 10001:10001

FROM runtime AS cuda
COPY --from=build-cuda /opt/outrider /opt/outrider
COPY --from=sbom-cuda /sbom.cdx.json /usr/share/outrider/sbom.cdx.json
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
