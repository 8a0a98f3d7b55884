# One static binary and nothing else. It runs as a user without rights; to read
# the logs of the host give it the group that may (docker-compose.yml does).
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -pgo=cmd/bouncemeter/release.pgo -ldflags="-s -w" -o /image/usr/bin/bouncemeter ./cmd/bouncemeter \
 && CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /traffic/usr/bin/traffic ./internal/simulate/cmd/traffic \
 && mkdir -p /image/var/lib/bouncemeter /image/var/log/mail /image/tmp /traffic/var/log/mail \
 && install -D /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
 && chown -R 65532:65532 /image/var/lib/bouncemeter /image/var/log/mail /image/tmp /traffic/var/log/mail

# What docker-compose.yml makes mail with.
FROM scratch AS traffic
COPY --from=build /traffic/ /
USER 65532:65532
ENTRYPOINT ["/usr/bin/traffic"]

FROM scratch AS bouncemeter
COPY --from=build /image/ /
USER 65532:65532
VOLUME /var/lib/bouncemeter
EXPOSE 9725
HEALTHCHECK --interval=30s --timeout=6s --start-period=60s CMD ["/usr/bin/bouncemeter", "health"]
ENTRYPOINT ["/usr/bin/bouncemeter"]
CMD ["run", "-c", "/etc/bouncemeter/bouncemeter.yaml"]
