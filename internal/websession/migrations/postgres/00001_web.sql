-- +goose Up
-- As for SQLite, with text sorted by bytes whatever the locale of the database is. Times are Unix seconds.
-- A browser that is signed in.
create table web_session (
    secret_hash text collate "C" not null primary key,  -- SHA-256 of the cookie's value, as hex
    id text collate "C" not null unique,                -- names it on pages; no secret
    did text collate "C" not null,
    handle text collate "C" not null,                   -- when it signed in
    session text collate "C" not null,                  -- what it acts by at the account's server: a grant of OAuth or auth_session.id
    agent text collate "C" not null,                    -- User-Agent
    address text collate "C" not null,                  -- where it was last used from
    created_at bigint not null,
    used_at bigint not null
);
create index web_session_did on web_session (did, used_at);
create index web_session_used on web_session (used_at);

-- +goose Down
drop table web_session;
