-- +goose Up
-- Where an upload was begun from, and how many bytes of its tail file count.
alter table pds_upload add column client text not null default '';
alter table pds_upload add column tail bigint not null default 0;
create index pds_upload_actor on pds_upload (actor, touched);
create index pds_upload_client on pds_upload (client, touched);

-- +goose Down
drop index pds_upload_client;
drop index pds_upload_actor;
alter table pds_upload drop column tail;
alter table pds_upload drop column client;
