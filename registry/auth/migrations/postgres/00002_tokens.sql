-- +goose Up
-- As for SQLite, with text sorted by bytes whatever the locale of the database is.
-- Secrets that this registry gave out: docker's refresh tokens, devices and robots. Times are Unix seconds, 0 is never.
create table auth_token (
    id text collate "C" not null primary key,       -- stands in the secret, to look it up, and in the registry's tokens
    kind text collate "C" not null,                 -- refresh, device, robot
    did text collate "C" not null,
    handle text collate "C" not null,               -- the account's when it was made
    session text collate "C" not null,              -- what it acts by: auth_session.id or a grant of OAuth; empty when that was ended with it
    hash bytea not null,                 -- SHA-256 of the secret
    old_hash bytea not null,             -- of the one that was renewed
    old_until bigint not null,
    name text collate "C" not null,
    repositories text collate "C" not null,         -- a robot's, with spaces between
    actions text collate "C" not null,              -- a robot's, with commas between
    address text collate "C" not null,              -- where it was last used from
    created_at bigint not null,
    used_at bigint not null,
    ends_at bigint not null,            -- by itself
    ended_at bigint not null            -- by a person
);
create index auth_token_did on auth_token (did, kind);
create index auth_token_session on auth_token (session);
create index auth_token_ends on auth_token (ends_at);

-- Devices that wait for somebody to approve them.
create table auth_device_code (
    id text collate "C" not null primary key,       -- stands in the device code, to look it up
    hash bytea not null,                 -- SHA-256 of the device code
    user_hash bytea not null unique,     -- SHA-256 of the code that a person types
    name text collate "C" not null,
    address text collate "C" not null,
    created_at bigint not null,
    ends_at bigint not null,
    state text collate "C" not null,                -- empty, approved, denied
    did text collate "C" not null,                  -- of who approved it, as the rest
    handle text collate "C" not null,
    session text collate "C" not null
);
create index auth_device_code_ends on auth_device_code (ends_at);

-- +goose Down
drop table auth_device_code;
drop table auth_token;
