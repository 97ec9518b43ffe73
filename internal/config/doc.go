// Package config reads the configuration of the programs: defaults, below a file, below the environment.
//
//	c, warnings, err := config.LoadHold("config.yaml", os.Environ())
//
// [AppView] and [Hold] are the documentation: each field carries its key and its comment as struct tags, and [Write] prints
// them as a commented file, which is what `config init` does and what the example files at the root of the module are.
//
// A file is YAML, or TOML when its name ends in .toml. A key that nothing here has is an error that names the line and the
// nearest key that exists. An environment variable is the program's prefix and the key's path, in capitals with '_': server.addr
// of the hold is HOLD_SERVER_ADDR. An empty variable counts as unset; a list of texts is separated by commas, a list of
// objects is written as YAML ([{member: alice.example.com}]). Variables under the prefix that are no key are
// left alone, except that one which looks like a misspelt key gives a warning.
//
// Keys of features that are not built yet are read, and named in one warning where they ask for something, so that a file
// written for a later version, or for another implementation, works. Values never stand in messages where a field is marked
// as secret, nor does text of the file around a mistake.
//
// # Tags
//
//	key     the name in the file
//	doc     the comment, wrapped when printed; lines after a "\n" stay as they are
//	also    another path that sets the same field
//	secret  "true": the value is not shown
//	toml    lines for TOML in place of those after a "\n" of doc
//	unbuilt "true": a value other than the default is named in the warning; on a section, that of any key in it
package config
