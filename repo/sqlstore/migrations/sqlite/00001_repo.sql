-- +goose Up
create table repo_head (
	id      integer primary key check (id = 1),
	cid     blob    not null,
	rev     integer not null,
	root    blob    not null,
	height  integer not null,
	records integer not null,
	seq     integer not null,
	block   blob    not null
);

-- path is collection/rkey: the tree sorts by the whole of it, which two columns would not.
create table repo_record (
	path  text    primary key,
	cid   blob    not null,
	rev   integer not null,
	value blob    not null
) without rowid;

-- A node by its place: ordered so, the table is the specification's streaming order.
create table repo_node (
	fence  text    not null,
	height integer not null,
	cid    blob    not null,
	rev    integer not null,
	data   blob    not null,
	primary key (fence, height desc)
) without rowid;

create table repo_event (
	seq  integer primary key,
	rev  integer not null,
	body blob    not null
);

create table repo_blob (
	cid        blob    primary key,
	media_type text    not null,
	size       integer not null,
	created    integer not null,
	data       blob    not null
);

create table repo_blob_ref (
	path text    not null,
	cid  blob    not null,
	rev  integer not null,
	primary key (path, cid)
) without rowid;

create index repo_blob_ref_cid on repo_blob_ref (cid, rev);

-- +goose Down
drop table repo_blob_ref;
drop table repo_blob;
drop table repo_event;
drop table repo_node;
drop table repo_record;
drop table repo_head;
