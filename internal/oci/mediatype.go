package oci

import (
	"fmt"
	"mime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types that the image specification has no constants for.
const (
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerConfig       = "application/vnd.docker.container.image.v1+json"
	// MediaTypeArtifactManifest is the artifact manifest of the image specification's release candidates; old signatures
	// and attestations use it. Its blobs are its layers.
	MediaTypeArtifactManifest = "application/vnd.oci.artifact.manifest.v1+json"
)

// CheckMediaType checks that a manifest may be taken and served under a media type: the OCI and docker types, and any other
// application/*+json. Parameters ("; charset=utf-8") are not allowed. Errors: [ErrMediaType].
//
// It is to be asked on reading too: a record that somebody else wrote chooses the type that a browser would see.
func CheckMediaType(mediaType string) error {
	subtype, ok := strings.CutPrefix(mediaType, "application/")
	if !ok || !strings.HasSuffix(subtype, "+json") || len(subtype) == len("+json") || len(mediaType) > 255 {
		return fmt.Errorf("%w %q: use an OCI or docker manifest or index type, or application/*+json", ErrMediaType, clip(mediaType))
	}
	for i := range len(subtype) {
		c := subtype[i]
		// The characters of RFC 6838 section 4.2.
		if !isLowerAlnum(c) && (c < 'A' || c > 'Z') && !strings.ContainsRune("!#$&-^_.+", rune(c)) {
			return fmt.Errorf("%w %q: it has a character that media types can't have", ErrMediaType, clip(mediaType))
		}
	}
	return nil
}

// IsIndexType reports whether it is an OCI image index or a docker manifest list.
func IsIndexType(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == MediaTypeDockerManifestList
}

// IsImageType reports whether it is an OCI image manifest or a docker manifest of schema 2.
func IsImageType(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == MediaTypeDockerManifest
}

// dockerSchema1 begins the media types of docker's first manifests.
const dockerSchema1 = "application/vnd.docker.distribution.manifest.v1+"

// isKnownType reports whether we know what the keys of a manifest of that type mean.
func isKnownType(mediaType string) bool {
	return IsImageType(mediaType) || IsIndexType(mediaType) || mediaType == MediaTypeArtifactManifest
}

// isManifestType reports whether a child of an index is a manifest. Build caches list layers and configurations as
// children; those are blobs.
func isManifestType(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageConfig, MediaTypeDockerConfig, ocispec.MediaTypeEmptyJSON:
		return false
	}
	return CheckMediaType(mediaType) == nil
}

// isNondistributable reports whether a layer of that type is not meant to be pushed.
func isNondistributable(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.")
}

// headerMediaType takes the parameters off a Content-Type header. An empty header stays empty.
func headerMediaType(header string) (string, error) {
	if header == "" {
		return "", nil
	}
	mediaType, _, err := mime.ParseMediaType(header)
	if err != nil {
		return "", fmt.Errorf("%w: Content-Type %q can't be read: %w", ErrMediaType, clip(header), err)
	}
	return mediaType, nil
}
