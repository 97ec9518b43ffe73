package registry

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/oci"
)

// op is what a request asks for. Its name is that of the endpoint in logs.
type op string

const (
	opPing           op = "ping"
	opCatalog        op = "catalog"
	opTags           op = "tags"
	opReferrers      op = "referrers"
	opManifestGet    op = "manifest-get" // also HEAD
	opManifestPut    op = "manifest-put"
	opManifestDelete op = "manifest-delete"
	opBlobGet        op = "blob-get" // also HEAD
	opBlobDelete     op = "blob-delete"
	opUploadStart    op = "upload-start"
	opUploadStatus   op = "upload-status"
	opUploadPatch    op = "upload-patch"
	opUploadPut      op = "upload-put"
	opUploadCancel   op = "upload-cancel"
)

// request is a method and URL, parsed and checked. Fields that an operation does not have are empty.
type request struct {
	op     op
	repo   string        // after Options.Name, within the grammar
	asked  string        // the same as the client spelled it
	ref    Ref           // of manifests
	digest digest.Digest // of blobs, referrers, a monolithic upload and an upload's end
	upload string        // id

	tags      []string // tag parameters of a manifest's push by digest
	mount     digest.Digest
	from      string // repository to mount from, "" for any
	algorithm digest.Algorithm

	page         page
	artifactType string
}

// page is the part of a list that is wanted.
type page struct {
	n    int // -1: not said
	last string
}

// maxQuery bounds the query of a URL. Lists of tags are the longest that have a meaning.
const maxQuery = 32 << 10

// endpoint is a path with the name of the repository taken off: kind is the word that marks it.
type endpoint struct {
	name, kind, rest string
}

// split finds the endpoint of a path below /v2/. Names may contain every word, so that it looks from the right.
func split(path string) (endpoint, bool) {
	for _, suffix := range []string{"/blobs/uploads/", "/blobs/uploads"} {
		if name, ok := strings.CutSuffix(path, suffix); ok {
			return endpoint{name, "uploads", ""}, true
		}
	}
	if name, ok := strings.CutSuffix(path, "/tags/list"); ok {
		return endpoint{name, "tags", ""}, true
	}
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return endpoint{}, false
	}
	head, rest := path[:i], path[i+1:]
	if name, ok := strings.CutSuffix(head, "/blobs/uploads"); ok {
		return endpoint{name, "uploads", rest}, true
	}
	for _, kind := range []string{"manifests", "blobs", "referrers"} {
		if name, ok := strings.CutSuffix(head, "/"+kind); ok {
			return endpoint{name, kind, rest}, true
		}
	}
	return endpoint{}, false
}

// parseRequest reads a method and URL. rewrite may be nil. Errors are of this package's kinds.
func parseRequest(method string, u *url.URL, rewrite func(string) (string, error)) (request, error) {
	if u.Path == "/v2/" || u.Path == "/v2" {
		return only(request{op: opPing}, method, http.MethodGet, http.MethodHead)
	}
	path, ok := strings.CutPrefix(u.Path, "/v2/")
	if !ok {
		return request{}, errNoEndpoint
	}
	query, err := parseQuery(u)
	if err != nil {
		return request{}, err
	}
	if path == "_catalog" {
		r := request{op: opCatalog}
		if r.page, err = parsePage(query); err != nil {
			return request{}, err
		}
		return only(r, method, http.MethodGet, http.MethodHead)
	}
	e, ok := split(path)
	if !ok {
		if dirty := u.Path + "/"; strings.Contains(u.Path, "//") || strings.Contains(dirty, "/../") || strings.Contains(dirty, "/./") {
			return request{}, ErrNameInvalid.With("the path has an empty or dotted component")
		}
		return request{}, errNoEndpoint
	}
	r := request{asked: e.name}
	if r.repo, err = checkName(e.name, rewrite); err != nil {
		return request{}, err
	}
	switch e.kind {
	case "tags":
		r.op = opTags
		if r.page, err = parsePage(query); err != nil {
			return request{}, err
		}
		return only(r, method, http.MethodGet, http.MethodHead)
	case "referrers":
		return r.referrers(method, e.rest, query)
	case "manifests":
		return r.manifest(method, e.rest, query)
	case "blobs":
		return r.blob(method, e.rest)
	}
	if e.rest == "" {
		return r.startUpload(method, query, rewrite)
	}
	return r.continueUpload(method, e.rest, query)
}

func (r request) referrers(method, rest string, query url.Values) (request, error) {
	r.op, r.artifactType = opReferrers, query.Get("artifactType")
	var err error
	if r.digest, err = checkDigest(rest); err != nil {
		return request{}, err
	}
	if r.page, err = parsePage(query); err != nil {
		return request{}, err
	}
	if r.page.last != "" {
		if _, err := checkDigest(r.page.last); err != nil {
			return request{}, err
		}
	}
	return only(r, method, http.MethodGet, http.MethodHead)
}

func (r request) manifest(method, rest string, query url.Values) (request, error) {
	switch method {
	case http.MethodGet, http.MethodHead:
		r.op = opManifestGet
	case http.MethodPut:
		r.op = opManifestPut
	case http.MethodDelete:
		r.op = opManifestDelete
	default:
		return request{}, notAllowed(http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete)
	}
	if strings.Contains(rest, ":") {
		var err error
		if r.ref.Digest, err = checkDigest(rest); err != nil {
			return request{}, err
		}
	} else {
		if err := oci.CheckTag(rest); err != nil {
			return request{}, ErrTagInvalid.With("%v", err)
		}
		r.ref.Tag = rest
	}
	if r.op != opManifestPut {
		return r, nil
	}
	for _, tag := range query["tag"] {
		if r.ref.Tag != "" {
			return request{}, ErrTagInvalid.With("tag parameters go with a push by digest, not by tag")
		}
		if err := oci.CheckTag(tag); err != nil {
			return request{}, ErrTagInvalid.With("%v", err)
		}
		r.tags = appendNew(r.tags, tag)
	}
	if r.ref.Tag != "" {
		r.tags = []string{r.ref.Tag}
	}
	return r, nil
}

func (r request) blob(method, rest string) (request, error) {
	switch method {
	case http.MethodGet, http.MethodHead:
		r.op = opBlobGet
	case http.MethodDelete:
		r.op = opBlobDelete
	default:
		return request{}, notAllowed(http.MethodGet, http.MethodHead, http.MethodDelete)
	}
	var err error
	r.digest, err = checkDigest(rest)
	return r, err
}

func (r request) startUpload(method string, query url.Values, rewrite func(string) (string, error)) (request, error) {
	r.op = opUploadStart
	if method != http.MethodPost {
		return request{}, notAllowed(http.MethodPost)
	}
	if text := query.Get("mount"); text != "" {
		// What can't be mounted is uploaded (distribution specification, "Mounting a blob from another repository"), also when it has a
		// digest or a name that nothing here can have.
		d, err := checkDigest(text)
		from := query.Get("from")
		if err == nil && from != "" {
			from, err = checkName(from, rewrite)
		}
		if err == nil {
			r.mount, r.from = d, from
		}
	} else if text := query.Get("digest"); text != "" {
		var err error
		if r.digest, err = checkDigest(text); err != nil {
			return request{}, err
		}
	}
	switch a := digest.Algorithm(query.Get("digest-algorithm")); a {
	case "", digest.SHA256, digest.SHA512:
		r.algorithm = a
	default:
		return request{}, ErrDigestInvalid.With("digest-algorithm must be sha256 or sha512")
	}
	return r, nil
}

func (r request) continueUpload(method, id string, query url.Values) (request, error) {
	r.upload = id
	if len(id) > maxUploadID || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return request{}, ErrUploadUnknown
	}
	switch method {
	case http.MethodGet, http.MethodHead:
		r.op = opUploadStatus
	case http.MethodPatch:
		r.op = opUploadPatch
	case http.MethodDelete:
		r.op = opUploadCancel
	case http.MethodPut:
		r.op = opUploadPut
		var err error
		r.digest, err = checkDigest(query.Get("digest"))
		return r, err
	default:
		return request{}, notAllowed(http.MethodGet, http.MethodPatch, http.MethodPut, http.MethodDelete)
	}
	return r, nil
}

// maxUploadID bounds an upload's id, in bytes.
const maxUploadID = 512

func parseQuery(u *url.URL) (url.Values, error) {
	if len(u.RawQuery) > maxQuery {
		return nil, errQueryTooLong
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errBadRequest.With("the query of the URL can't be read: %v", err)
	}
	return query, nil
}

// parsePage reads n and last. n may be any number of digits: it is clamped where it is used.
func parsePage(query url.Values) (page, error) {
	p := page{n: -1, last: query.Get("last")}
	if len(p.last) > maxLast || strings.ContainsRune(p.last, 0) {
		return page{}, ErrPageInvalid.With("last is no name that a list of this registry has")
	}
	text := query.Get("n")
	if text == "" { // as if it were not there
		return p, nil
	}
	if strings.Trim(text, "0123456789") != "" {
		return page{}, ErrPageInvalid.With("n must be a number of 0 or more, not %.40q", text)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		n = int(^uint(0) >> 1) // more digits than an int has
	}
	p.n = n
	return p, nil
}

// maxLast is the longest thing that a list can have: a repository's name or a digest.
const maxLast = 512

// only returns r if the method is one of those.
func only(r request, method string, methods ...string) (request, error) {
	for _, m := range methods {
		if m == method {
			return r, nil
		}
	}
	return request{}, notAllowed(methods...)
}

func checkName(name string, rewrite func(string) (string, error)) (string, error) {
	if rewrite != nil {
		var err error
		if name, err = rewrite(name); err != nil {
			return "", nameError(err)
		}
	}
	if err := oci.CheckName(name); err != nil {
		return "", ErrNameInvalid.With("%v", err)
	}
	return name, nil
}

func checkDigest(text string) (digest.Digest, error) {
	d, err := oci.ParseDigest(text)
	if err != nil {
		return "", ErrDigestInvalid.With("%v", err)
	}
	return d, nil
}

func appendNew(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}
