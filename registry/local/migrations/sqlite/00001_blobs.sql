-- +goose Up
create table local_blob (
	digest     text not null,
	repository text not null,
	size       bigint not null,
	primary key (digest, repository)
);

-- +goose Down
drop table local_blob;
