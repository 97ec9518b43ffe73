-- +goose Up
create table pds_name (
  name text not null primary key,
  did text not null,
  endpoint text not null,
  seen bigint not null
);
create table pds_owner (
  did text not null primary key,
  rev text not null,
  head text not null,
  checked bigint not null,
  complete integer not null,
  gen bigint not null,
  list_collection text not null,
  list_cursor text not null,
  list_rev text not null,
  list_head text not null
);
create table pds_manifest (
  owner text not null,
  rkey text not null,
  gen bigint not null,
  cid text not null,
  repository text not null,
  digest text not null,
  hold text not null,
  media_type text not null,
  size bigint not null,
  blob text not null,
  subject text not null,
  layers_known integer not null,
  primary key (owner, rkey)
);
create index pds_manifest_digest on pds_manifest (owner, repository, digest);
create index pds_manifest_hold on pds_manifest (owner, repository, hold);
create index pds_manifest_large on pds_manifest (owner, repository, layers_known);
create index pds_manifest_subject on pds_manifest (owner, repository, subject, digest);
create table pds_tag (
  owner text not null,
  rkey text not null,
  gen bigint not null,
  cid text not null,
  repository text not null,
  tag text not null,
  manifest_rkey text not null,
  digest text not null,
  stamp text not null,
  extra integer not null,
  primary key (owner, rkey)
);
create index pds_tag_name on pds_tag (owner, repository, tag);
create index pds_tag_digest on pds_tag (owner, repository, digest);
create index pds_tag_manifest on pds_tag (owner, manifest_rkey);
-- Which hold a blob lies in: by a manifest that names it, or (manifest empty) by an upload.
create table pds_layer (
  owner text not null,
  repository text not null,
  digest text not null,
  manifest text not null,
  hold text not null,
  size bigint not null,
  seen bigint not null,
  primary key (owner, repository, digest, manifest)
);
create index pds_layer_manifest on pds_layer (owner, repository, manifest);
create table pds_bytes (
  digest text not null primary key,
  media_type text not null,
  body bytea not null,
  size bigint not null,
  used bigint not null
);
create index pds_bytes_used on pds_bytes (used);
create table pds_upload (
  id text not null primary key,
  owner text not null,
  actor text not null,
  session text not null,
  repository text not null,
  hold text not null,
  upload_id text not null,
  size bigint not null,
  parts text not null,
  touched bigint not null
);
create index pds_upload_touched on pds_upload (touched);
create table pds_intent (
  id text not null primary key,
  kind text not null,
  owner text not null,
  session text not null,
  repository text not null,
  digest text not null,
  tags text not null,
  hold text not null,
  created bigint not null,
  next_try bigint not null,
  tries integer not null,
  state text not null,
  reason text not null
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
