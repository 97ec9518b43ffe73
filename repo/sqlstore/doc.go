// Package sqlstore keeps a repository in SQLite: it is the repo.Store that programs use.
//
// Five tables: repo_head (one row), repo_record by path, repo_node by place, repo_event, repo_blob with repo_blob_ref.
// Paths sort bytewise. Old nodes and records are deleted in the transaction that replaces them; only events keep copies.
package sqlstore
