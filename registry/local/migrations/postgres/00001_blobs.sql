-- +goose Up
-- As for SQLite, with text sorted by bytes whatever the locale of the database is.
create table local_blob (
	digest     text collate "C" not null,
	repository text collate "C" not null,
	size       bigint not null,
	primary key (digest, repository)
);

-- +goose Down
drop table local_blob;
