# One static binary and nothing else. It runs as a user without rights; to read
# the logs of the host give it the group that may (docker-compose.yml does).
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /image/usr/bin/bouncemeter ./cmd/bouncemeter \
 && mkdir -p /image/var/lib/bouncemeter /image/tmp \
 && chown -R 65532:65532 /image/var/lib/bouncemeter /image/tmp

FROM scratch
COPY --from=build /image/ /
USER 65532:65532
VOLUME /var/lib/bouncemeter
EXPOSE 9725
ENTRYPOINT ["/usr/bin/bouncemeter"]
CMD ["run", "-c", "/etc/bouncemeter/bouncemeter.yaml"]
