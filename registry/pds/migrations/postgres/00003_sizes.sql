-- +goose Up
-- What an owner's copy takes, so that it can be bounded, and when it was last used.
alter table pds_owner add column records bigint not null default 0;
alter table pds_owner add column bytes bigint not null default 0;
alter table pds_owner add column list_records bigint not null default 0;
alter table pds_owner add column list_bytes bigint not null default 0;
alter table pds_owner add column layers integer not null default 0;
alter table pds_owner add column layer_bytes bigint not null default 0;
alter table pds_owner add column touched bigint not null default 0;
alter table pds_owner add column refused text collate "C" not null default '';
alter table pds_owner add column refused_at bigint not null default 0;
update pds_owner set touched = checked, layers = complete,
  records = (select count(*) from pds_manifest where owner = did) + (select count(*) from pds_tag where owner = did),
  layer_bytes = 400 * (select count(*) from pds_layer where owner = did);
update pds_owner set bytes = 1000 * records;
create index pds_owner_touched on pds_owner (touched);
create index pds_name_seen on pds_name (seen);

-- +goose Down
drop index pds_name_seen;
drop index pds_owner_touched;
alter table pds_owner drop column refused_at;
alter table pds_owner drop column refused;
alter table pds_owner drop column touched;
alter table pds_owner drop column layer_bytes;
alter table pds_owner drop column layers;
alter table pds_owner drop column list_bytes;
alter table pds_owner drop column list_records;
alter table pds_owner drop column bytes;
alter table pds_owner drop column records;
