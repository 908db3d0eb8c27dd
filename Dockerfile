# An image of kms with nothing else in it. From a clone: docker build --tag kms .
# Of a release, with the program that was published if GO is the version that built it:
#
#	docker build --tag kms --build-arg GO=1.26.8 --build-arg PROGRAM=github.com/pocketkms/kms/cmd/kms@v0.1.0 .
#
# The program is compiled on the machine that builds, for the platform of the image.
ARG GO=1.26
FROM --platform=$BUILDPLATFORM golang:$GO AS build
ARG PROGRAM=./cmd/kms
ARG TARGETARCH
WORKDIR /src
COPY . .
RUN CGO_ENABLED=0 GOARCH=$TARGETARCH go install -trimpath -buildvcs=false "$PROGRAM" && mv "$(find /go/bin -name kms)" /kms

FROM scratch
COPY --from=build /kms /kms
USER 65532:65532
ENTRYPOINT ["/kms"]
