-- +goose Up
-- Secrets that this registry gave out: docker's refresh tokens, devices and robots. Times are Unix seconds, 0 is never.
create table auth_token (
    id text not null primary key,       -- stands in the secret, to look it up, and in the registry's tokens
    kind text not null,                 -- refresh, device, robot
    did text not null,
    handle text not null,               -- the account's when it was made
    session text not null,              -- what it acts by: auth_session.id or a grant of OAuth; empty when that was ended with it
    hash blob not null,                 -- SHA-256 of the secret
    old_hash blob not null,             -- of the one that was renewed
    old_until bigint not null,
    name text not null,
    repositories text not null,         -- a robot's, with spaces between
    actions text not null,              -- a robot's, with commas between
    address text not null,              -- where it was last used from
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
    id text not null primary key,       -- stands in the device code, to look it up
    hash blob not null,                 -- SHA-256 of the device code
    user_hash blob not null unique,     -- SHA-256 of the code that a person types
    name text not null,
    address text not null,
    created_at bigint not null,
    ends_at bigint not null,
    state text not null,                -- empty, approved, denied
    did text not null,                  -- of who approved it, as the rest
    handle text not null,
    session text not null
);
create index auth_device_code_ends on auth_device_code (ends_at);

-- +goose Down
drop table auth_device_code;
drop table auth_token;
