# The edge daemon, for amd64 and arm64; no training framework is in it.
#   docker buildx build -f deploy/images/edge.Dockerfile --platform linux/amd64,linux/arm64 \
#     --sbom=true --provenance=true .
# PYTHON_IMAGE has to be named by its digest: a tag is another image tomorrow. Releases pin it anew.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON_IMAGE} AS pinned
ARG PYTHON_IMAGE
RUN case "${PYTHON_IMAGE}" in \
      *@sha256:*) ;; \
      *) echo "PYTHON_IMAGE is '${PYTHON_IMAGE}': name it by its digest, NAME@sha256:DIGEST." >&2; exit 1 ;; \
    esac

FROM pinned AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY common common
COPY edge edge
COPY cloud cloud
RUN python -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheels .
RUN python -m venv /opt/outrider \
    && /opt/outrider/bin/python -m pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt "$(echo /wheels/outrider-*.whl)[edge,mqtt,otel]" \
    && /opt/outrider/bin/python -m pip uninstall --yes --quiet pip

FROM build AS sbom
ARG CYCLONEDX_VERSION=7.5.0
RUN python -m venv /opt/sbom \
    && /opt/sbom/bin/python -m pip install --no-cache-dir --disable-pip-version-check "cyclonedx-bom==${CYCLONEDX_VERSION}" \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.cdx.json /opt/outrider/bin/python

FROM pinned AS edge
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="outrider-edge" \
      org.opencontainers.image.description="Outrider's edge daemon: drafts on the device, verified in the cloud." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/outrider /opt/outrider
COPY --from=sbom /sbom.cdx.json /usr/share/outrider/sbom.cdx.json
RUN install --directory --owner=10001 --group=10001 /var/lib/outrider
ENV PATH=/opt/outrider/bin:$PATH \
    HOME=/var/lib/outrider \
    OUTRIDER_MODELS_CACHE_DIR=/var/lib/outrider \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/outrider
USER 10001:10001
EXPOSE 7412
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["outrider", "edge", "status", "--json"]
ENTRYPOINT ["outrider"]
CMD ["edge", "serve"]
