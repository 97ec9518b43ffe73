// Package sqlstore keeps a repository in SQLite or PostgreSQL: it is the repo.Store that programs use.
//
// Five tables: repo_head (one row), repo_record by path, repo_node by place, repo_event, repo_blob with repo_blob_ref.
// Paths sort bytewise. Old nodes and records are deleted in the transaction that replaces them; only events keep copies.
//
// On PostgreSQL a change takes the row of the head first, so that several processes may write one repository: each [repo.Repo] goes on
// from what the others committed and tells its followers of it within a second. What a commit writes goes in one piece.
package sqlstore
