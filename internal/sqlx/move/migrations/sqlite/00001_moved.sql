-- +goose Up
-- Files whose rows were copied here. The row is written in the transaction that copies, so that who dies before the file is renamed
-- knows at the next start that it was done.
create table moved_file (
	digest text   not null primary key, -- of all rows of the file
	path   text   not null,
	copied bigint not null              -- how many rows
);

-- +goose Down
drop table moved_file;
