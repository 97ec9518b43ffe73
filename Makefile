# Three lanes: test (what CI runs), long (before a release), bench. "make help" lists everything.
SHELL := /bin/bash
TIMEOUT ?= 60m
FUZZTIME ?= 30s
GOTESTFLAGS ?=

.PHONY: help test quick lint build helper tools long fuzz bench growth

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

# The race detector needs a C compiler, so that comes first; the other tools are installed while the tests compile. It does not
# look into SQLite's own code, which is C turned into Go and shares no generic function with the rest: that takes half of the time.
# Vetting is the business of lint.
# Tests wait for disks, clients and clocks as often as for a processor, so one package more than processors runs at a time.
RUNTESTS := go run ./internal/realtest/runtests
PARALLEL := -p=$(shell echo $$(($$(nproc 2>/dev/null || echo 2) + 1)))
test: ## everything against the real components, with the race detector; installs what is missing
	@go run ./internal/realtest/install compiler
	ATCR_REAL=require $(RUNTESTS) -install default -- -race '-gcflags=modernc.org/sqlite/lib=-race=false' -vet=off $(PARALLEL) -timeout=$(TIMEOUT) $(GOTESTFLAGS)
	ATCR_REAL=require ATCR_DATABASE=postgres go test $(PARALLEL) -timeout=$(TIMEOUT) -vet=off $(ON_POSTGRES) $(GOTESTFLAGS)

# The packages with tables once more, with every table in PostgreSQL; without what asks no table, or needs minutes.
ON_POSTGRES := -skip 'Reference|Real$$|Relay|PLC|Identity|Rotat|Promoted|Upstream|Silent|Hostile|Guess|JWT|Slow|Memory|KilledAt|Conformance|Bad|^TestPostgres$$' \
	./hold ./identity/oauth ./registry/local ./registry/auth ./registry/pds ./registry/appview

quick: ## the tests that need nothing installed, without the race detector
	ATCR_REAL=off $(RUNTESTS) -- -vet=off $(PARALLEL) $(GOTESTFLAGS)

lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w these:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool -modfile=internal/lint/go.mod staticcheck ./...

build: ## everything, without cgo, as it ships
	CGO_ENABLED=0 go build ./...

helper: ## docker-credential-atcr for six platforms, into dist/: archives, SHA256SUMS; prints sizes and modules
	go run ./internal/helperdist -o dist

tools: ## install the real components: PDS, clients, conformance suite
	go run ./internal/realtest/install default

long: ## make test with the long campaigns (kill -9, helm, scale) and real fuzzing
	@go run ./internal/realtest/install compiler
	$(MAKE) helper
	ATCR_REAL=require ATCR_LONG=1 $(RUNTESTS) -install default,helm -- -vet=off $(PARALLEL) -timeout=3h -count=1
	$(MAKE) fuzz

fuzz: ## each fuzz target for FUZZTIME (30s)
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

bench: ## the tables of docs/performance.md, beside CNCF distribution and @atproto/repo, and growth
	go run ./internal/realtest/install distribution atproto postgresql
	go run ./bench
	go run ./bench/repo
	$(MAKE) growth

growth: ## how look-ups and commits grow with 10 times the tags, records and blobs
	go test -run '^$$' -bench . -benchmem -timeout 1h ./internal/oci ./storage/... ./repo/... ./registry/local
