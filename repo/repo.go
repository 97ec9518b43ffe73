package repo

// The exported cut, to be filled:
//
//	type CID struct{...}                 comparable value: codec (dag-cbor or raw) and sha-256; String() is base32 (bafyrei…, bafkrei…)
//	func ParseCID(string) (CID, error); func RecordCID(cbor []byte) CID; func BlobCID(bytes []byte) CID
//
//	type Action string: Create, Update, Delete
//	type Write struct { Action; Collection, RKey string; Record []byte (canonical DAG-CBOR); }
//	type Commit struct { CID, Data CID; Rev string; ... Results per write: CID }
//	type Options struct { DID string; Key atcrypto.PrivateKey; Clock func() time.Time; Log *slog.Logger }
//
//	func Open(ctx, Store, Options) (*Repo, error)
//	(*Repo).DID() string; Key() atcrypto.PrivateKey (public part reachable)
//	(*Repo).Head(ctx) (Commit, error)
//	(*Repo).Apply(ctx, []Write, ...Guard) (Commit, error)   Guard: SwapCommit(CID), SwapRecord(collection, rkey, CID), or func(tx) ...
//	(*Repo).Get(ctx, collection, rkey) (Record, error); Record{Collection, RKey, CID, Value []byte}
//	(*Repo).List(ctx, collection, after string, reverse bool) iter.Seq2[Record, error]
//	(*Repo).Collections(ctx) ([]string, error)
//	(*Repo).Prove(ctx, collection, rkey) (CAR bytes / io.Writer)
//	(*Repo).PutBlob(ctx, mediaType, []byte) (BlobRef) — at most 1 MiB (hold) / configurable; GetBlob(ctx, CID) only when a record names it; ListBlobs
//	errors: ErrNotFound, ErrExists, ErrInvalidSwap, ErrInvalidRecord, ErrLocked, ErrCorrupt, ErrNoSpace
//	func VerifyProof(car []byte, did string, key atcrypto.PublicKey, collection, rkey string) (Record, error)
