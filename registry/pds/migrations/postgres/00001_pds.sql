-- +goose Up
-- As for SQLite, with text sorted by bytes whatever the locale of the database is.
create table pds_name (
  name text collate "C" not null primary key,
  did text collate "C" not null,
  endpoint text collate "C" not null,
  seen bigint not null
);
create table pds_owner (
  did text collate "C" not null primary key,
  rev text collate "C" not null,
  head text collate "C" not null,
  checked bigint not null,
  complete integer not null,
  gen bigint not null,
  list_collection text collate "C" not null,
  list_cursor text collate "C" not null,
  list_rev text collate "C" not null,
  list_head text collate "C" not null
);
create table pds_manifest (
  owner text collate "C" not null,
  rkey text collate "C" not null,
  gen bigint not null,
  cid text collate "C" not null,
  repository text collate "C" not null,
  digest text collate "C" not null,
  hold text collate "C" not null,
  media_type text collate "C" not null,
  size bigint not null,
  blob text collate "C" not null,
  subject text collate "C" not null,
  layers_known integer not null,
  primary key (owner, rkey)
);
create index pds_manifest_digest on pds_manifest (owner, repository, digest);
create index pds_manifest_hold on pds_manifest (owner, repository, hold);
create index pds_manifest_large on pds_manifest (owner, repository, layers_known);
create index pds_manifest_subject on pds_manifest (owner, repository, subject, digest);
create table pds_tag (
  owner text collate "C" not null,
  rkey text collate "C" not null,
  gen bigint not null,
  cid text collate "C" not null,
  repository text collate "C" not null,
  tag text collate "C" not null,
  manifest_rkey text collate "C" not null,
  digest text collate "C" not null,
  stamp text collate "C" not null,
  extra integer not null,
  primary key (owner, rkey)
);
create index pds_tag_name on pds_tag (owner, repository, tag);
create index pds_tag_digest on pds_tag (owner, repository, digest);
create index pds_tag_manifest on pds_tag (owner, manifest_rkey);
-- Which hold a blob lies in: by a manifest that names it, or (manifest empty) by an upload.
create table pds_layer (
  owner text collate "C" not null,
  repository text collate "C" not null,
  digest text collate "C" not null,
  manifest text collate "C" not null,
  hold text collate "C" not null,
  size bigint not null,
  seen bigint not null,
  primary key (owner, repository, digest, manifest)
);
create index pds_layer_manifest on pds_layer (owner, repository, manifest);
create table pds_bytes (
  digest text collate "C" not null primary key,
  media_type text collate "C" not null,
  body bytea not null,
  size bigint not null,
  used bigint not null
);
create index pds_bytes_used on pds_bytes (used);
create table pds_upload (
  id text collate "C" not null primary key,
  owner text collate "C" not null,
  actor text collate "C" not null,
  session text collate "C" not null,
  repository text collate "C" not null,
  hold text collate "C" not null,
  upload_id text collate "C" not null,
  size bigint not null,
  parts text collate "C" not null,
  touched bigint not null
);
create index pds_upload_touched on pds_upload (touched);
create table pds_intent (
  id text collate "C" not null primary key,
  kind text collate "C" not null,
  owner text collate "C" not null,
  session text collate "C" not null,
  repository text collate "C" not null,
  digest text collate "C" not null,
  tags text collate "C" not null,
  hold text collate "C" not null,
  created bigint not null,
  next_try bigint not null,
  tries integer not null,
  state text collate "C" not null,
  reason text collate "C" not null
);
create index pds_intent_next on pds_intent (state, next_try);
create index pds_intent_owner on pds_intent (owner, state);

-- +goose Down
drop table pds_intent;
drop table pds_upload;
drop table pds_bytes;
drop table pds_layer;
drop table pds_tag;
drop table pds_manifest;
drop table pds_owner;
drop table pds_name;
