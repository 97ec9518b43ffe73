package devnet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/did-method-plc/go-didplc/didplc"
)

// maxOperation is the public directory's limit of one operation, in bytes.
const maxOperation = 7500

// Directory is a did:plc directory: its operations are checked by go-didplc, kept in memory and, when it has a file,
// appended to that before they are answered. Safe for concurrent use.
type Directory struct {
	store *didplc.MemOpStore
	clock func() time.Time
	mux   *http.ServeMux

	mu   sync.Mutex          // one operation at a time; guards what follows
	file *os.File            // nil: memory alone
	cids map[string][]string // of each DID's operations, in order; go-didplc's store can't list them
}

// journalLine is one accepted operation in the file.
type journalLine struct {
	DID       string         `json:"did"`
	CreatedAt time.Time      `json:"createdAt"`
	Operation *didplc.OpEnum `json:"operation"`
}

// OpenDirectory reads the file's operations, each of which must still verify, and goes on from there. An empty path keeps
// nothing; a nil clock is time.Now.
func OpenDirectory(ctx context.Context, path string, clock func() time.Time) (*Directory, error) {
	if clock == nil {
		clock = time.Now
	}
	d := &Directory{store: didplc.NewMemOpStore(), clock: clock, mux: http.NewServeMux(), cids: map[string][]string{}}
	if path != "" {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open PLC directory: %w", err)
		}
		d.file = file
		if err := d.load(ctx); err != nil {
			file.Close()
			return nil, fmt.Errorf("read PLC directory %s: %w", path, err)
		}
	}
	d.mux.HandleFunc("GET /_health", func(w http.ResponseWriter, _ *http.Request) {
		plcJSON(w, http.StatusOK, map[string]string{"version": "devnet"})
	})
	d.mux.HandleFunc("POST /{did}", d.submit)
	d.mux.HandleFunc("GET /{did}", d.document)
	d.mux.HandleFunc("GET /{did}/data", d.data)
	d.mux.HandleFunc("GET /{did}/log", d.log)
	d.mux.HandleFunc("GET /{did}/log/audit", d.audit)
	d.mux.HandleFunc("GET /{did}/log/last", d.last)
	return d, nil
}

// load replays the file. A last line that a crash cut off was never acknowledged and is dropped.
func (d *Directory) load(ctx context.Context) error {
	r := bufio.NewReader(d.file)
	var at int64
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if err := d.file.Truncate(at); err != nil {
				return err
			}
			_, err := d.file.Seek(at, io.SeekStart)
			return err
		}
		if err != nil {
			return err
		}
		var one journalLine
		if err := json.Unmarshal(line, &one); err != nil {
			return fmt.Errorf("byte %d: %w", at, err)
		}
		if err := d.commit(ctx, one.DID, one.Operation.AsOperation(), one.CreatedAt); err != nil {
			return fmt.Errorf("byte %d: %w", at, err)
		}
		at += int64(len(line))
	}
}

func (d *Directory) commit(ctx context.Context, did string, op didplc.Operation, at time.Time) error {
	prepared, err := didplc.VerifyOperation(ctx, d.store, did, op, at)
	if err != nil {
		return err
	}
	return d.apply(ctx, prepared)
}

func (d *Directory) apply(ctx context.Context, op *didplc.PreparedOperation) error {
	if err := d.store.CommitOperations(ctx, []*didplc.PreparedOperation{op}); err != nil {
		return err
	}
	d.cids[op.DID] = append(d.cids[op.DID], op.OpCid)
	return nil
}

// Submit adds an operation. Errors: didplc.ErrInvalidOperation.
func (d *Directory) Submit(ctx context.Context, did string, op didplc.Operation) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.clock().UTC().Truncate(time.Millisecond)
	prepared, err := didplc.VerifyOperation(ctx, d.store, did, op, at)
	if err != nil {
		return err
	}
	if d.file != nil {
		line, err := json.Marshal(journalLine{DID: did, CreatedAt: at, Operation: op.AsOpEnum()})
		if err != nil {
			return err
		}
		if _, err := d.file.Write(append(line, '\n')); err != nil {
			return err
		}
		if err := d.file.Sync(); err != nil {
			return err
		}
	}
	return d.apply(ctx, prepared)
}

// ServeHTTP speaks the directory's HTTP protocol (did-method-plc, "DID PLC Directory HTTP API").
func (d *Directory) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.mux.ServeHTTP(w, r) }

// Close lets go of the file.
func (d *Directory) Close() error {
	if d.file == nil {
		return nil
	}
	return d.file.Close()
}

func (d *Directory) submit(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOperation))
	if err != nil {
		plcError(w, http.StatusBadRequest, "operation too large: at most 7500 bytes")
		return
	}
	var op didplc.OpEnum
	if err := json.Unmarshal(body, &op); err != nil {
		plcError(w, http.StatusBadRequest, "not a valid operation: "+err.Error())
		return
	}
	if err := d.Submit(r.Context(), r.PathValue("did"), op.AsOperation()); err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, didplc.ErrInvalidOperation) || errors.Is(err, didplc.ErrHeadMismatch) {
			status = http.StatusBadRequest
		}
		plcError(w, status, err.Error())
		return
	}
	plcJSON(w, http.StatusOK, struct{}{})
}

// head returns the newest operation of the path's DID, or writes the error.
func (d *Directory) head(w http.ResponseWriter, r *http.Request) (string, *didplc.OpEntry) {
	did := r.PathValue("did")
	entry, err := d.store.GetLatest(r.Context(), did)
	switch {
	case err != nil:
		plcError(w, http.StatusInternalServerError, err.Error())
	case entry == nil:
		plcError(w, http.StatusNotFound, "DID not registered: "+did)
	default:
		return did, entry
	}
	return did, nil
}

func (d *Directory) document(w http.ResponseWriter, r *http.Request) {
	did, entry := d.head(w, r)
	if entry == nil {
		return
	}
	if entry.Op.AsOpEnum().Tombstone != nil {
		plcError(w, http.StatusGone, "DID not available: "+did)
		return
	}
	doc, err := render(did, entry)
	if err != nil {
		plcError(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/did+ld+json")
	plcJSON(w, http.StatusOK, doc)
}

// plcDocument is a DID document as the public directory renders it.
type plcDocument struct {
	Context []string `json:"@context"`
	didplc.Doc
}

func render(did string, entry *didplc.OpEntry) (plcDocument, error) {
	doc, err := entry.Op.Doc(did)
	return plcDocument{[]string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"}, doc}, err
}

// Document returns a DID's document as JSON. Errors: didplc.ErrDIDNotFound.
func (d *Directory) Document(ctx context.Context, did string) (json.RawMessage, error) {
	entry, err := d.store.GetLatest(ctx, did)
	if err != nil {
		return nil, err
	}
	if entry == nil || entry.Op.AsOpEnum().Tombstone != nil {
		return nil, fmt.Errorf("%s: %w", did, didplc.ErrDIDNotFound)
	}
	doc, err := render(did, entry)
	if err != nil {
		return nil, err
	}
	return json.Marshal(doc)
}

func (d *Directory) data(w http.ResponseWriter, r *http.Request) {
	did, entry := d.head(w, r)
	if entry == nil {
		return
	}
	op := entry.Op.AsOpEnum()
	regular := op.Regular
	switch {
	case op.Tombstone != nil:
		plcError(w, http.StatusGone, "DID not available: "+did)
		return
	case op.Legacy != nil:
		converted := op.Legacy.RegularOp()
		regular = &converted
	}
	plcJSON(w, http.StatusOK, map[string]any{
		"did": did, "rotationKeys": regular.RotationKeys, "verificationMethods": regular.VerificationMethods,
		"alsoKnownAs": regular.AlsoKnownAs, "services": regular.Services,
	})
}

func (d *Directory) entries(w http.ResponseWriter, r *http.Request) []*didplc.OpEntry {
	did := r.PathValue("did")
	d.mu.Lock()
	cids := d.cids[did]
	d.mu.Unlock()
	if len(cids) == 0 {
		plcError(w, http.StatusNotFound, "DID not registered: "+did)
		return nil
	}
	all := make([]*didplc.OpEntry, 0, len(cids))
	for _, cid := range cids {
		e, err := d.store.GetEntry(r.Context(), did, cid)
		if err != nil || e == nil {
			plcError(w, http.StatusInternalServerError, fmt.Sprintf("operation %s: %v", cid, err))
			return nil
		}
		all = append(all, e)
	}
	return all
}

func (d *Directory) log(w http.ResponseWriter, r *http.Request) {
	all := d.entries(w, r)
	if all == nil {
		return
	}
	ops := []*didplc.OpEnum{}
	for _, e := range all {
		if !e.Nullified {
			ops = append(ops, e.Op.AsOpEnum())
		}
	}
	plcJSON(w, http.StatusOK, ops)
}

func (d *Directory) audit(w http.ResponseWriter, r *http.Request) {
	all := d.entries(w, r)
	if all == nil {
		return
	}
	log := []map[string]any{}
	for _, e := range all {
		log = append(log, map[string]any{
			"did": e.DID, "operation": e.Op.AsOpEnum(), "cid": e.OpCid, "nullified": e.Nullified,
			"createdAt": e.CreatedAt.UTC().Format("2006-01-02T15:04:05.000Z"),
		})
	}
	plcJSON(w, http.StatusOK, log)
}

func (d *Directory) last(w http.ResponseWriter, r *http.Request) {
	if _, entry := d.head(w, r); entry != nil {
		plcJSON(w, http.StatusOK, entry.Op.AsOpEnum())
	}
}

func plcJSON(w http.ResponseWriter, status int, v any) {
	if !strings.HasPrefix(w.Header().Get("Content-Type"), "application/") {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func plcError(w http.ResponseWriter, status int, message string) {
	plcJSON(w, status, map[string]string{"message": message})
}
