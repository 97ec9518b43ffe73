-- +goose Up
-- A browser that is signed in. Times are Unix seconds.
create table web_session (
    secret_hash text not null primary key,  -- SHA-256 of the cookie's value, as hex
    id text not null unique,                -- names it on pages; no secret
    did text not null,
    handle text not null,                   -- when it signed in
    session text not null,                  -- what it acts by at the account's server: a grant of OAuth or auth_session.id
    agent text not null,                    -- User-Agent
    address text not null,                  -- where it was last used from
    created_at bigint not null,
    used_at bigint not null
);
create index web_session_did on web_session (did, used_at);
create index web_session_used on web_session (used_at);

-- +goose Down
drop table web_session;
