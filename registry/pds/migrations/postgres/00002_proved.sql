-- +goose Up
-- Whether the owner's signed repository was seen to hold the record as it stands here.
alter table pds_manifest add column proved integer not null default 0;
alter table pds_tag add column proved integer not null default 0;

-- +goose Down
alter table pds_tag drop column proved;
alter table pds_manifest drop column proved;
