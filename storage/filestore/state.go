package filestore

import (
	"encoding"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"os"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// A state file has two slots, written in turn, so that a torn write leaves the other one. A slot is: magic 4 bytes,
// sequence 8, offset 8, algorithm 1, length 2, the marshalled hash, CRC-32 of all that.
const (
	slotSize   = 512
	slotHeader = 23
	slotMagic  = "aup1"
)

// state says that the first offset bytes of an upload are durable and hash to what sum stands at.
type state struct {
	seq    uint64
	offset int64
	alg    digest.Algorithm
	sum    []byte // marshalled hash
}

func marshalHash(h hash.Hash) ([]byte, error) {
	m, ok := h.(encoding.BinaryMarshaler)
	if !ok {
		return nil, errors.New("hash has no marshalled form")
	}
	return m.MarshalBinary()
}

// hash is the hash as it stood.
func (st state) hash() (hash.Hash, error) {
	h, err := storage.NewHash(st.alg)
	if err != nil || st.sum == nil {
		return h, err
	}
	m, ok := h.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, errors.New("hash has no marshalled form")
	}
	return h, m.UnmarshalBinary(st.sum)
}

// writeState stores st in its slot and fsyncs. The bytes it speaks of must be durable already.
func (d *disk) writeState(path string, st state) error {
	if slotHeader+len(st.sum)+4 > slotSize {
		return errors.New("hash state too long")
	}
	b := make([]byte, 0, slotSize)
	b = append(b, slotMagic...)
	b = binary.BigEndian.AppendUint64(b, st.seq)
	b = binary.BigEndian.AppendUint64(b, uint64(st.offset))
	b = append(b, algorithmCode(st.alg))
	b = binary.BigEndian.AppendUint16(b, uint16(len(st.sum)))
	b = append(b, st.sum...)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, filePerm)
	if err != nil {
		return err
	}
	_, err = d.writeAt(f, b[:slotSize], int64(st.seq%2)*slotSize)
	if err == nil {
		err = d.sync(f)
	}
	return errors.Join(err, f.Close())
}

// readState finds the newest state that speaks of no more than size bytes, and the highest sequence in use.
// A missing or spoilt file is the state of an upload at offset 0.
func readState(path string, size int64, alg digest.Algorithm) (best state, seq uint64, err error) {
	best = state{alg: alg}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return best, 0, nil
	}
	if err != nil {
		return best, 0, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 2*slotSize))
	if err != nil {
		return best, 0, err
	}
	for len(b) > 0 {
		n := min(len(b), slotSize)
		st, ok := parseSlot(b[:n])
		b = b[n:]
		if !ok {
			continue
		}
		seq = max(seq, st.seq)
		if st.seq > best.seq && st.offset <= size {
			best = st
		}
	}
	return best, seq, nil
}

func parseSlot(b []byte) (st state, ok bool) {
	if len(b) < slotHeader || string(b[:4]) != slotMagic {
		return st, false
	}
	end := slotHeader + int(binary.BigEndian.Uint16(b[21:]))
	if len(b) < end+4 || crc32.ChecksumIEEE(b[:end]) != binary.BigEndian.Uint32(b[end:]) {
		return st, false
	}
	st = state{
		seq:    binary.BigEndian.Uint64(b[4:]),
		offset: int64(binary.BigEndian.Uint64(b[12:])),
		alg:    algorithmOf(b[20]),
		sum:    b[slotHeader:end:end],
	}
	if _, err := st.hash(); err != nil || st.offset < 0 || st.seq == 0 {
		return st, false
	}
	return st, true
}
