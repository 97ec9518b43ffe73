// Package s3target keeps backups of a hold in a bucket of any S3 service. It is apart from hold/backup, so that only those who use it
// compile an S3 client.
//
//	to, err := s3target.Open("s3://bucket/prefix", s3target.Options{Endpoint: "https://s3.example.com", AccessKey: …, SecretKey: …})
//
// The bucket must exist; nothing is asked of the service before it is used. What a backup needs of it: put, also in parts, get, list,
// delete, and to list and end uploads in parts, all below the prefix. A connection that moves no byte for a minute is given up.
package s3target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/atcr-dev/atcr/hold/backup"
)

// Options say how the service is reached. Keys are required.
type Options struct {
	// Endpoint is scheme and host, as in https://s3.example.com; empty is Amazon's of the Region.
	Endpoint string
	// Region of the bucket; empty is us-east-1.
	Region string
	// AccessKey and SecretKey sign the requests.
	AccessKey, SecretKey string
	// Transport makes the requests; nil: one of our own.
	Transport http.RoundTripper
}

// stall is how long a connection may move no byte.
const stall = time.Minute

// Target is a [backup.Target] in a bucket. It is safe for concurrent use.
type Target struct {
	client         *minio.Client
	bucket, prefix string // the prefix is empty, or ends with a slash
	name           string
}

var _ backup.Target = (*Target)(nil)

// Open takes s3://bucket or s3://bucket/prefix. Errors are of what is given: no request is made.
func Open(to string, o Options) (*Target, error) {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the address is no bucket's (not shown, it may hold keys): write s3://bucket/prefix")
	}
	if o.AccessKey == "" || o.SecretKey == "" {
		return nil, errors.New("the keys of the S3 service are missing")
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Endpoint == "" {
		o.Endpoint = "https://s3." + o.Region + ".amazonaws.com"
	}
	at, err := url.Parse(o.Endpoint)
	if err != nil || at.Host == "" || at.User != nil || at.Scheme != "https" && at.Scheme != "http" || strings.Trim(at.Path, "/") != "" {
		return nil, errors.New("endpoint (not shown, it may hold keys): want scheme and host, as in https://s3.example.com")
	}
	if o.Transport == nil {
		o.Transport = transport()
	}
	client, err := minio.New(at.Host, &minio.Options{
		Creds: credentials.NewStaticV4(o.AccessKey, o.SecretKey,
			""), Secure: at.Scheme == "https", Region: o.Region, Transport: o.Transport,
	})
	if err != nil {
		return nil, fmt.Errorf("S3 at %s: %w", o.Endpoint, err)
	}
	t := &Target{client: client, bucket: u.Host, prefix: strings.Trim(u.Path, "/"), name: strings.TrimRight(to, "/")}
	if t.prefix != "" {
		t.prefix += "/"
	}
	return t, nil
}

func transport() http.RoundTripper {
	dial := (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &pacedConn{c}, nil
		},
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: stall, ExpectContinueTimeout: time.Second,
		IdleConnTimeout: stall / 2, MaxIdleConnsPerHost: 8, DisableCompression: true, ForceAttemptHTTP2: true,
	}
}

// pacedConn fails when nothing moves.
type pacedConn struct{ net.Conn }

func (c *pacedConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *pacedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// String is the bucket and prefix as given.
func (t *Target) String() string { return t.name }

func (t *Target) fail(what, name string, err error) error {
	kind := minio.ToErrorResponse(err).Code
	if kind == "NoSuchKey" {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return fmt.Errorf("%s %s/%s: %w", what, t.name, name, err)
}

// Put is [backup.Target]'s. The service makes the object visible whole.
func (t *Target) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	counted := &counter{r: r}
	_, err := t.client.PutObject(ctx, t.bucket, t.prefix+name, counted, size,
		minio.PutObjectOptions{ContentType: "application/octet-stream"})
	if err == nil && counted.n != size {
		err = io.ErrUnexpectedEOF
	}
	if counted.err != nil {
		err = errors.Join(counted.err, err)
	}
	if err != nil {
		return t.fail("write", name, err)
	}
	return nil
}

// counter hides from the client that its reader may be a file, which it would read several parts of at a time, and keeps its error.
type counter struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// Open is [backup.Target]'s.
func (t *Target) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := t.client.GetObject(ctx, t.bucket, t.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, t.fail("read", name, err)
	}
	if _, err := o.Stat(); err != nil { // the first request
		return nil, errors.Join(t.fail("read", name, err), o.Close())
	}
	return o, nil
}

// List is [backup.Target]'s.
func (t *Target) List(ctx context.Context, folder string) iter.Seq2[backup.Entry, error] {
	return func(yield func(backup.Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range t.client.ListObjects(ctx, t.bucket, minio.ListObjectsOptions{Prefix: t.prefix + folder, Recursive: true}) {
			if o.Err != nil {
				yield(backup.Entry{}, t.fail("list", folder, o.Err))
				return
			}
			if strings.HasSuffix(o.Key, "/") {
				continue // a folder that a file-based service shows
			}
			if !yield(backup.Entry{Name: strings.TrimPrefix(o.Key, t.prefix), Size: o.Size}, nil) {
				return
			}
		}
	}
}

// Delete is [backup.Target]'s.
func (t *Target) Delete(ctx context.Context, name string) error {
	err := t.client.RemoveObject(ctx, t.bucket, t.prefix+name, minio.RemoveObjectOptions{})
	if err != nil && minio.ToErrorResponse(err).Code != "NoSuchKey" {
		return t.fail("delete", name, err)
	}
	return nil
}

// Clean is [backup.Target]'s: it ends uploads in parts that were broken off.
func (t *Target) Clean(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	core := minio.Core{Client: t.client}
	for _, folder := range []string{"sets/", "layers/"} {
		for u := range t.client.ListIncompleteUploads(ctx, t.bucket, t.prefix+folder, true) {
			if u.Err != nil {
				return t.fail("list uploads of", folder, u.Err)
			}
			if err := core.AbortMultipartUpload(ctx, t.bucket, u.Key,
				u.UploadID); err != nil && minio.ToErrorResponse(err).Code != "NoSuchUpload" {
				return t.fail("end upload of", strings.TrimPrefix(u.Key, t.prefix), err)
			}
		}
	}
	return nil
}
