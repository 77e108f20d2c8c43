# `serve` in an image without a shell and without root. It holds the program of the package, so that what was tested is what runs:
#   scripts/package
#   docker build -t global-webhook .            # for ARM: scripts/package --arch aarch64, and --build-arg ARCH=aarch64 --platform linux/arm64
#   docker run -p 8080:8080 -v global-webhook:/home/nonroot -e WebhookRegions=northeurope,westus \
#     -e WebhookKey=… -e WebhookOperatorKey=… global-webhook
# The base needs glibc 2.28, roots of certificates, and the home of user 65532; a static program also runs on static-debian12.
ARG BASE=gcr.io/distroless/base-nossl-debian12:nonroot
FROM ${BASE}
ARG ARCH=x86_64
COPY --chmod=755 target/package/${ARCH}/global-webhook /global-webhook
USER 65532:65532
VOLUME /home/nonroot
EXPOSE 8080
# Whether the process works, not whether its storage does: a new container would not mend that. Load balancers ask /readyz.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/global-webhook", "health", "--url", "http://127.0.0.1:8080/livez"]
ENTRYPOINT ["/global-webhook"]
CMD ["serve", "--listen", "0.0.0.0:8080", "--data", "/home/nonroot/store.db"]
