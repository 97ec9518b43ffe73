-- +goose Up
-- What the registry keeps for itself, such as the key that ties uploads to repositories.
create table local_meta (
	name  text collate "C" not null primary key,
	value text collate "C" not null
);

-- +goose Down
drop table local_meta;
