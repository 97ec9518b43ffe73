-- +goose Up
-- As for SQLite, with text sorted by bytes whatever the locale of the database is. Times are Unix seconds.
-- A sign-in that was begun. Its row goes when the browser comes back, or after ten minutes.
create table oauth_request (
    state_hash text collate "C" not null primary key,   -- SHA-256 of the state in the browser's address, as hex
    browser_hash text collate "C" not null,             -- SHA-256 of the browser's cookie, as hex
    sealed bytea not null,                  -- what is needed when it comes back, encrypted
    expires_at bigint not null
);
create index oauth_request_expires on oauth_request (expires_at);

-- One sign-in at one server.
create table oauth_grant (
    id text collate "C" not null primary key,           -- random, begins with oauth-
    did text collate "C" not null,
    server text collate "C" not null,                   -- issuer of the tokens, whose token endpoint renews them
    pds text collate "C" not null,                      -- the account's server, which takes them
    client_id text collate "C" not null,                -- of ours, when the grant began
    key_id text collate "C" not null,                   -- of the client's key that it began with; '' is a public client's
    scopes text collate "C" not null,                   -- that were granted, with spaces between
    sealed bytea not null,                  -- tokens, DPoP key and endpoints, encrypted; empty when the grant has ended
    expires_at bigint not null,             -- end of the access token
    keep bigint not null,                   -- 1: renewed although nobody uses it
    created_at bigint not null,
    used_at bigint not null,
    refreshed_at bigint not null,
    refreshing text collate "C" not null,               -- random mark of the refresh that is under way; '' is none
    generation bigint not null,             -- how often it was refreshed
    lost bigint not null,                   -- 1: the answer to a refresh was lost, the refresh token may be spent
    ended text collate "C" not null,                    -- why it has ended; '' is a live grant
    ended_at bigint not null
);
create index oauth_grant_did on oauth_grant (did);
create index oauth_grant_refreshed on oauth_grant (refreshed_at);

-- +goose Down
drop table oauth_grant;
drop table oauth_request;
