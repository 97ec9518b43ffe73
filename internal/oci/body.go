package oci

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// body is what stands in a manifest, of whichever kind.
type body struct {
	has           map[string]bool // keys that are there and not null
	schemaVersion int64
	mediaType     string
	artifactType  string
	config        *ocispec.Descriptor
	layers        []ocispec.Descriptor
	manifests     []ocispec.Descriptor
	blobs         []byte // JSON; only the artifact manifest gives this key a meaning
	subject       *ocispec.Descriptor
	annotations   map[string]string
}

// Keys that we read. Go's own JSON decoder, which most clients use, takes them in any capitals, so other spellings are refused:
// two readers of the same bytes must not see two manifests.
var (
	bodyKeys = []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "blobs", "subject",
		"annotations"}
	descriptorKeys = []string{"mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"}
	platformKeys   = []string{"architecture", "os", "os.version", "os.features", "variant"}
)

// decodeBody reads a body. header is its media type as far as that is known already. What a body of an unknown type has under the names
// of our keys is taken when it has our form, and left alone otherwise.
func decodeBody(data []byte, header string) (*body, error) {
	s, err := newScanner(data)
	if err != nil {
		return nil, err
	}
	if header != "" && !isKnownType(header) {
		return decodeForeign(s)
	}
	b, err := decodeOurs(s)
	if err != nil && header == "" {
		if f, ferr := decodeForeign(&scanner{data: data}); ferr == nil && f.mediaType != "" && !isKnownType(f.mediaType) {
			return f, nil
		}
	}
	return b, err
}

func decodeOurs(s *scanner) (*body, error) {
	b := &body{has: make(map[string]bool, len(bodyKeys))}
	err := s.object(func(key string) error {
		if err := otherCapitals(key, bodyKeys); err != nil {
			return err
		}
		if s.null() {
			return nil
		}
		b.has[key] = true
		return b.read(s, key)
	})
	if err != nil {
		return nil, err
	}
	return b, s.end()
}

func decodeForeign(s *scanner) (*body, error) {
	b := &body{has: map[string]bool{}}
	err := s.object(func(key string) error {
		s.peek()
		start := s.pos
		if err := s.skip(); err != nil { // what is not to be had in any manifest: too deep, a key twice
			return err
		}
		was := *b
		part := &scanner{data: s.data[start:s.pos]}
		if part.null() {
			return nil
		}
		if b.read(part, key) != nil {
			*b = was
			return nil
		}
		b.has[key] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b, s.end()
}

// read takes the value of a key.
func (b *body) read(s *scanner, key string) (err error) {
	switch key {
	case "schemaVersion":
		b.schemaVersion, err = s.int()
	case "mediaType":
		b.mediaType, err = s.string()
	case "artifactType":
		b.artifactType, err = s.string()
	case "config":
		b.config, err = s.descriptorPointer()
	case "subject":
		b.subject, err = s.descriptorPointer()
	case "layers":
		b.layers, err = s.descriptors()
	case "manifests":
		b.manifests, err = s.descriptors()
	case "blobs":
		s.peek()
		start := s.pos
		err = s.skip()
		b.blobs = s.data[start:s.pos]
	case "annotations":
		b.annotations, err = s.stringMap()
	default:
		err = s.skip()
	}
	return err
}

// artifactBlobs reads the blobs of an artifact manifest.
func (b *body) artifactBlobs() ([]ocispec.Descriptor, error) {
	if len(b.blobs) == 0 {
		return nil, nil
	}
	list, err := (&scanner{data: b.blobs}).descriptors()
	if err != nil {
		return nil, fmt.Errorf("%w: blobs%v", ErrManifest, err)
	}
	return list, nil
}

func (s *scanner) descriptorPointer() (*ocispec.Descriptor, error) {
	d, err := s.descriptor()
	return &d, err
}

func (s *scanner) descriptors() ([]ocispec.Descriptor, error) {
	var out []ocispec.Descriptor
	err := s.array(func() error {
		d, err := s.descriptor()
		out = append(out, d)
		return err
	})
	return out, err
}

func (s *scanner) descriptor() (d ocispec.Descriptor, err error) {
	size := int64(-1)
	err = s.object(func(key string) error {
		if err := otherCapitals(key, descriptorKeys); err != nil {
			return err
		}
		if s.null() {
			return nil
		}
		var err error
		switch key {
		case "mediaType":
			d.MediaType, err = s.string()
		case "digest":
			var text string
			if text, err = s.string(); err == nil {
				d.Digest, err = ParseDigest(text)
			}
		case "size":
			if size, err = s.int(); err == nil && size < 0 {
				err = fmt.Errorf("%d is negative", size)
			}
		case "urls":
			d.URLs, err = s.strings()
		case "annotations":
			d.Annotations, err = s.stringMap()
		case "data":
			var text string
			if text, err = s.string(); err == nil {
				d.Data, err = base64.StdEncoding.DecodeString(text)
			}
		case "platform":
			d.Platform, err = s.platform()
		case "artifactType":
			d.ArtifactType, err = s.string()
		default:
			err = s.skip()
		}
		return err
	})
	if err != nil {
		return d, err
	}
	d.Size = size
	switch {
	case d.Digest == "":
		return d, errors.New("digest is missing")
	case d.MediaType == "":
		return d, errors.New("mediaType is missing")
	case size < 0:
		return d, errors.New("size is missing")
	}
	return d, nil
}

func (s *scanner) platform() (*ocispec.Platform, error) {
	p := &ocispec.Platform{}
	return p, s.object(func(key string) error {
		if err := otherCapitals(key, platformKeys); err != nil {
			return err
		}
		if s.null() {
			return nil
		}
		var err error
		switch key {
		case "architecture":
			p.Architecture, err = s.string()
		case "os":
			p.OS, err = s.string()
		case "os.version":
			p.OSVersion, err = s.string()
		case "os.features":
			p.OSFeatures, err = s.strings()
		case "variant":
			p.Variant, err = s.string()
		default:
			err = s.skip()
		}
		return err
	})
}

func otherCapitals(key string, known []string) error {
	for _, k := range known {
		if key != k && strings.EqualFold(key, k) {
			return fmt.Errorf("write it %q", k)
		}
	}
	return nil
}
