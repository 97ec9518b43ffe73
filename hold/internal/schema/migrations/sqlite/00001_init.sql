-- +goose Up
-- id is the sha-256 of the uploadId in hex: the id itself is a right and is not kept.
create table hold_upload (
    id            text    not null primary key,
    did           text    not null,
    digest        text    not null,
    storage_id    text    not null,
    parts         bigint  not null, -- parts 1..parts are in the storage upload
    bytes         bigint  not null, -- their size
    commit_digest text    not null, -- what completeUpload was asked for, once the bytes were about to be committed
    done          bigint  not null, -- 1: the blob is visible
    created       bigint  not null,
    touched       bigint  not null
);
create index hold_upload_touched on hold_upload (touched);
create index hold_upload_did on hold_upload (did, done);

create table hold_part (
    upload_id text   not null,
    n         bigint not null,
    size      bigint not null,
    etag      text   not null,
    spooled   bigint not null, -- 1: it waits in the spool for the parts before it
    primary key (upload_id, n)
);

create table hold_lease (
    did        text   not null,
    digest     text   not null,
    repository text   not null,
    size       bigint not null,
    created    bigint not null,
    expires    bigint not null,
    primary key (did, digest, repository)
);
create index hold_lease_expires on hold_lease (expires);

-- What the layer records of the repository say, by what they are looked up by. Made anew from the records when in doubt.
create table hold_layer (
    rkey     text   not null primary key,
    did      text   not null,
    manifest text   not null, -- at-uri of the manifest's record
    digest   text   not null,
    size     bigint not null
);
create unique index hold_layer_once on hold_layer (did, manifest, digest);
create index hold_layer_digest on hold_layer (digest);

-- Manifests that were pushed here, so that pulls of others are not counted.
create table hold_manifest (
    did        text   not null,
    repository text   not null,
    digest     text   not null,
    uri        text   not null,
    primary key (did, repository, digest)
);

create table hold_counted (
    op       text   not null,
    caller   text   not null,
    did      text   not null,
    manifest text   not null, -- repository@digest
    hour     bigint not null,
    primary key (op, caller, did, manifest, hour)
);

create table hold_meta (
    name  text not null primary key,
    value text not null
);

-- +goose Down
drop table hold_meta;
drop table hold_counted;
drop table hold_manifest;
drop table hold_layer;
drop table hold_lease;
drop table hold_part;
drop table hold_upload;
