-- +goose Up
create table repo_head (
	id      integer primary key check (id = 1),
	cid     bytea   not null,
	rev     bigint  not null,
	root    bytea   not null,
	height  integer not null,
	records bigint  not null,
	seq     bigint  not null,
	block   bytea   not null
);

-- path is collection/rkey: the tree sorts by the whole of it, which two columns would not.
create table repo_record (
	path  text collate "C" primary key,
	cid   bytea  not null,
	rev   bigint not null,
	value bytea  not null
);

-- A node by its place: ordered by fence and falling height, the table is the specification's streaming order. The second index
-- answers all nodes on the way to a key in one query. Room is left in the pages, since with it the rows that each commit replaces
-- need no change of an index. Hashes and signatures don't compress.
create table repo_node (
	fence  text collate "C" not null,
	height integer not null,
	cid    bytea   not null,
	rev    bigint  not null,
	data   bytea   not null
) with (fillfactor = 80);

alter table repo_node alter column data set storage external;

create unique index repo_node_place on repo_node (fence, height desc);
create index repo_node_path on repo_node (height, fence);

create table repo_event (
	seq  bigint primary key,
	rev  bigint not null,
	body bytea  not null
);

alter table repo_event alter column body set storage external;

create table repo_blob (
	cid        bytea  primary key,
	media_type text   not null,
	size       bigint not null,
	created    bigint not null,
	data       bytea  not null
);

create table repo_blob_ref (
	path text collate "C" not null,
	cid  bytea  not null,
	rev  bigint not null,
	primary key (path, cid)
);

create index repo_blob_ref_cid on repo_blob_ref (cid, rev);

-- +goose Down
drop table repo_blob_ref;
drop table repo_blob;
drop table repo_event;
drop table repo_node;
drop table repo_record;
drop table repo_head;
