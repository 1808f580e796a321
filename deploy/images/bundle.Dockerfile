# Drafter bundles, one directory each, as an image to be mounted as a volume: nothing in it runs.
#   docker buildx build -f deploy/images/bundle.Dockerfile ~/.cache/outrider/bundles
FROM scratch
LABEL org.opencontainers.image.title="outrider-bundle" \
      org.opencontainers.image.description="Drafter bundles for Outrider's edge daemon."
COPY . /
