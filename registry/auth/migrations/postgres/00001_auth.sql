-- +goose Up
-- As for SQLite, with text sorted by bytes whatever the locale of the database is.
-- One row per account and password: the tokens of the account's own server. Times are Unix seconds.
create table auth_session (
    id text collate "C" not null primary key,       -- random; stands in the registry's tokens
    did text collate "C" not null,
    password_mac bytea not null,        -- HMAC of the password: finds the row, does not tell the password
    pds text collate "C" not null,                  -- the server's URL when the session was made
    sealed bytea not null,              -- access and refresh token, encrypted
    created_at bigint not null,
    used_at bigint not null,
    checked_at bigint not null,         -- when the server last refreshed it
    unique (did, password_mac)
);
create index auth_session_used on auth_session (used_at);

-- +goose Down
drop table auth_session;
