package archtest

// A rule is one package's: what of this module it may import, and how many packages
// from other modules may come with it, directly or not.
type rule struct {
	folder string   // folder in the module; "pkg/..." is all below it too
	may    []string // packages of ours; "x/..." is x and all below it
	budget int      // third-party packages in the closure
}

// rules is the allow-list. The first line that fits a package holds for it, so
// the narrow ones come first. Budgets are what was measured and a little more:
// raising one is a decision, to be explained in docs/dependencies.md.
var rules = []rule{
	{"", []string{"internal/oci"}, 4}, // package atcr
	{"lexicons", nil, 0},

	{"identity/serviceauth", []string{"identity", "internal/party", "internal/limit"}, 110},
	{"identity/oauth", []string{"identity", "sqldb", "internal/sqlx", "internal/httpx", "internal/durable", "internal/seal",
		"internal/crashpoint"}, 140},
	{"identity/plc", []string{"identity", "identity/internal/plclog"}, 110},
	{"identity/backup", []string{"identity", "identity/internal/plclog", "internal/durable"}, 130},
	{"identity/internal/plclog", []string{"", "internal/durable", "internal/httpx", "internal/crashpoint"}, 60},
	{"identity", []string{"", "identity/internal/plclog", "internal/httpx", "internal/limit", "internal/party"}, 110},

	{"storage/storagetest", []string{"storage"}, 2},
	{"storage/storagemetrics", []string{"storage"}, 45},
	{"storage", nil, 2},
	{"storage/...", []string{"storage", "internal/durable"}, 3},

	{"repo/repotest", []string{"", "storage", "repo"}, 210},
	{"repo/memstore", []string{"repo"}, 60},
	{"repo/sqlstore", []string{"repo", "sqldb/...", "internal/sqlx"}, 88},
	{"repo/carv2", []string{"repo"}, 60},
	{"repo/xrpc", []string{"repo", "internal/pace", "internal/limit"}, 60},
	{"repo/firehose", []string{"repo", "internal/limit"}, 66},
	{"repo", []string{"", "storage"}, 60},

	{"hold/holdclient", []string{"", "internal/httpx"}, 6},
	{"hold/backup/targettest", []string{"hold/backup"}, 160},
	{"hold/backup/s3target", []string{"hold/backup"}, 197},
	{"hold/backup", []string{"", "hold/datadir", "identity", "identity/backup", "repo", "storage", "internal/durable",
		"internal/crashpoint"}, 160},
	{"hold/internal/crew", []string{"", "repo", "internal/durable"}, 70},
	{"hold/datadir", []string{"", "hold/internal/crew", "hold/internal/disk", "hold/internal/ledger", "hold/internal/schema",
		"identity", "repo", "storage", "sqldb", "internal/sqlx", "internal/durable"}, 137},
	{"hold/internal/disk", []string{"internal/sqlx/move", "hold/internal/schema", "repo", "repo/sqlstore", "storage/filestore",
		"sqldb/...", "internal/sqlx", "internal/durable"}, 90},
	{"hold/internal/schema", []string{"internal/sqlx"}, 20},
	{"hold/internal/ledger", []string{"", "repo", "internal/sqlx", "internal/crashpoint"}, 74},
	{"hold/internal/gc", []string{"", "hold/internal/ledger", "storage", "internal/sqlx"}, 70},
	{"hold/internal/upload", []string{"internal/keylock", "internal/room", "storage", "internal/sqlx", "internal/durable",
		"internal/crashpoint"}, 25},
	{"hold/admin", []string{"", "identity/...", "internal/webui", "internal/websession"}, 160}, // the hold by an interface of its own
	{"hold", []string{"", "hold/datadir", "hold/internal/...", "identity/...", "storage/...", "repo/...", "sqldb", "internal/oci",
		"internal/blobhttp", "internal/pace", "internal/sqlx", "internal/httpx", "internal/durable",
		"internal/crashpoint", "internal/keylock", "internal/room", "internal/runs", "internal/logs", "internal/limit",
		"internal/party"}, 142},

	{"registry", []string{"internal/oci", "internal/blobhttp", "internal/pace"}, 4},
	{"registry/local", []string{"registry", "internal/oci", "internal/blobhttp", "", "repo/...", "storage/...", "sqldb/...",
		"internal/sqlx", "internal/durable", "internal/room"}, 92},
	{"registry/pds/internal/background", []string{"internal/limit"}, 0},
	{"registry/pds/internal/keyed", nil, 0},
	{"registry/pds/internal/shared", []string{"registry", "internal/budget", "internal/httpx"}, 4},
	{"registry/pds/internal/holds", []string{"registry", "hold/holdclient", "internal/httpx", "internal/limit",
		"registry/pds/internal/keyed"}, 100},
	{"registry/pds/internal/uploads", []string{"registry", "hold/holdclient", "internal/sqlx", "internal/crashpoint", "internal/durable",
		"internal/budget", "internal/httpx", "internal/room",
		"registry/pds/internal/background", "registry/pds/internal/holds", "registry/pds/internal/keyed"}, 120},
	{"registry/pds/internal/settle", []string{"registry", "hold/holdclient", "internal/sqlx", "internal/crashpoint",
		"registry/pds/internal/background", "registry/pds/internal/holds", "registry/pds/internal/keyed"}, 120},
	{"registry/pds", []string{"registry/pds/internal/...", "registry", "internal/oci", "internal/blobhttp", "", "identity/...",
		"hold/holdclient", "repo", "sqldb", "internal/sqlx", "internal/httpx", "internal/crashpoint", "internal/keylock",
		"internal/limit"}, 130},
	{"registry/auth", []string{"registry", "identity/...", "sqldb", "internal/sqlx", "internal/httpx", "internal/limit",
		"internal/durable", "internal/keylock", "internal/seal"}, 130},
	{"registry/index", []string{"", "identity", "repo", "sqldb", "internal/sqlx", "internal/httpx"}, 140},
	{"registry/web", []string{"registry/index", "registry/auth", "registry", "", "identity/...", "sqldb", "internal/webui",
		"internal/websession", "internal/httpx", "internal/limit"}, 150},
	{"registry/appview", []string{"internal/sqlx/move", "", "registry/...", "identity/...", "hold/holdclient", "repo", "sqldb/...",
		"internal/sqlx", "internal/httpx", "internal/durable", "internal/crashpoint", "internal/runs", "internal/logs"}, 150},

	{"internal/webui", nil, 0},
	{"internal/websession", []string{"sqldb", "internal/sqlx", "internal/httpx"}, 22},
	{"internal/oci", nil, 4},
	{"internal/keylock", nil, 0},
	{"internal/room", nil, 0},
	{"internal/blobhttp", []string{"internal/oci", "internal/pace"}, 4},
	{"internal/durable", nil, 1},
	{"internal/seal", []string{"internal/durable"}, 1},
	{"internal/config", nil, 20},
	{"internal/cli/database", []string{"sqldb/..."}, 50},
	{"internal/cli", []string{"internal/config"}, 20},
	{"internal/cli/online", []string{"internal/cli", "internal/config", "identity", "internal/httpx", "internal/durable"}, 130},
	{"internal/cli/appviewcli", []string{"internal/cli", "internal/config", "internal/durable", "registry/auth", "identity/oauth"}, 150},
	{"internal/cli/holdcli", []string{"", "internal/cli/...", "internal/config", "internal/httpx", "internal/durable", "hold/...",
		"identity/...", "repo/...", "sqldb/..."}, 240},
	{"internal/pace", nil, 0},
	{"internal/runs", nil, 0},
	{"internal/crashpoint", nil, 0},
	{"internal/limit", nil, 0},
	{"internal/party", nil, 1},
	{"internal/logs", []string{"internal/httpx"}, 1},
	{"internal/budget", nil, 0},
	{"internal/httpx", []string{"internal/budget", "internal/pace", "internal/limit"}, 1},
	{"internal/credhelper", []string{"internal/durable"}, 6}, // go-keyring with D-Bus, x/sys
	{"sqldb/postgres", []string{"sqldb", "internal/sqlx"}, 50},
	{"sqldb/sqlite", []string{"sqldb", "internal/sqlx"}, 32},
	{"sqldb", nil, 0},
	{"internal/sqlx/move", []string{"sqldb/...", "internal/sqlx", "internal/durable", "internal/crashpoint"}, 38},
	{"internal/sqlx", []string{"sqldb"}, 18},
	{"internal/devnet", []string{"", "identity/...", "repo/...", "storage/...", "internal/httpx", "internal/sqlx", "internal/durable"}, 150},
	{"internal/realtest/...", []string{"internal/realtest/...", "", "hold", "identity/...", "repo", "storage/...", "internal/oci",
		"sqldb/..."}, 200},
	{"internal/archtest", nil, 0},
	{"internal/helperdist", nil, 0},

	{"cmd/healthcheck", nil, 4},
	{"cmd/docker-credential-atcr", []string{"internal/credhelper", "internal/cli"}, 30},
	// S3 by minio-go
	{"cmd/atcr-hold", []string{"", "hold/...", "identity/...", "registry/...", "repo/...", "storage/...", "sqldb/...",
		"internal/config", "internal/cli/...", "internal/httpx", "internal/sqlx", "internal/durable"}, 240},
	{"cmd/...", []string{"sqldb/...", "", "hold/...", "identity/...", "registry/...", "repo/...", "storage/...", "internal/config",
		"internal/cli/...", "internal/httpx", "internal/sqlx", "internal/durable"}, 200},
	{"examples/sandbox", []string{"", "hold/...", "identity/...", "registry/...", "repo/...", "storage/...", "sqldb/...",
		"internal/devnet"}, 150},
	{"examples/own-driver", []string{"storage"}, 2},
	{"examples/own-hold", []string{"hold", "storage", "sqldb/...", "examples/own-driver"}, 172},
	{"examples/...", []string{"", "hold/...", "identity/...", "registry/...", "repo/...", "storage/...", "sqldb/..."}, 148},
	{"bench/...", []string{"internal/realtest/...", "bench/internal/...", "", "registry/...", "repo/...", "sqldb/..."}, 150},
	{"e2e/...", nil, 0},
}

// onlyBy: these may be imported by the named packages alone.
var onlyBy = []struct{ pkg, folder, why string }{
	{"modernc.org/sqlite", "sqldb/sqlite", "one package links SQLite"},
	{"github.com/jackc/pgx", "sqldb/postgres", "one package links PostgreSQL's driver"},
}

// notDirectly: what the named packages must not import themselves, whatever comes with others.
var notDirectly = []struct{ folder, pkg, why string }{
	{"hold/internal/ledger", "net/http", "who asks over HTTP gives the ledger what it learned"},
	{"hold/internal/ledger", modulePath + "/identity", "whom a DID belongs to is not the ledger's to find out"},
	{"hold/internal/gc", "net/http", "a collector reaches no token and no network"},
	{"hold/internal/gc", modulePath + "/identity", "a collector reaches no key"},
	{"hold/internal/upload", "net/http", "uploads take readers"},
}

// notIn: what a package's closure must not hold.
var notIn = []struct{ folder, pkg, why string }{
	{"repo", "modernc.org/sqlite", "repo works on any store"},
	{"repo", "database/sql", "repo works on any store"},
	{"repo/carv2", "github.com/ipld/go-car", "it judges in tests alone"},
	{"repo", "github.com/coder/websocket", "the firehose is served elsewhere"},
	{"registry", "github.com/bluesky-social/indigo", "the registry knows nothing of the AT Protocol"},
	{"registry", "database/sql", "the registry keeps nothing itself"},
	{"registry", "github.com/prometheus", "the registry is mounted in other people's programs"},
	{"registry/appview", modulePath + "/repo/sqlstore", "an AppView holds no repository of its own"},
	{"registry/appview", modulePath + "/hold", "AppView and hold meet over the wire only"},
	{"cmd/atcr-hold", "github.com/ipld/go-car", "it judges in tests alone"},
	{"hold", modulePath + "/registry", "AppView and hold meet over the wire only"},
	{"identity", modulePath + "/identity/plc", "plc imports identity, never back"},
	{"sqldb/sqlite", "github.com/jackc/pgx", "a program links the databases that it opens"},
	{"sqldb/postgres", "modernc.org/sqlite", "a program links the databases that it opens"},
	{"repo/sqlstore", "github.com/jackc/pgx", "its batches are hooks that sqldb/postgres sets"},
	{"hold", "github.com/jackc/pgx", "its database is given"},
	{"registry/appview", "github.com/jackc/pgx", "its database is given"},
	{"registry/local", "github.com/jackc/pgx", "the embedded registry keeps a SQLite file"},
	{"hold/datadir", modulePath + "/hold", "the folder is opened without a server"},
	{"hold/backup/...", modulePath + "/hold", "a backup is made without a server"},
	{"cmd/docker-credential-atcr", "github.com/bluesky-social/indigo", "people install the helper on laptops: it keeps secrets, and asks a registry"},
	{"cmd/docker-credential-atcr", "database/sql", "it keeps one small file"},
	{"cmd/docker-credential-atcr", "github.com/pressly/goose", "it keeps one small file"},
	{"cmd/...", "testing", "test code does not ship"},
	{"cmd/...", modulePath + "/internal/devnet", "the small network is for the sandbox"},
	{"cmd/...", modulePath + "/internal/realtest", "test code does not ship"},
	{"cmd/...", "github.com/google/go-containerregistry", "it is for tests"},
}
