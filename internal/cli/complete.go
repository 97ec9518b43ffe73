package cli

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completeWord is the hidden verb that the shells' scripts call: the words so far come after it, the one to complete last. It prints a
// line for each candidate, a tab and a description; the line filesLine stands for files of the working directory.
const (
	completeWord = "__complete"
	filesLine    = ":files"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish. As in: source <(${name} completion bash)"`
}

func (c *completionCommand) Run(std *IO, p *Program) error {
	script := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell]
	_, err := strings.NewReplacer("PROGRAM", p.Name, "FUNC", "_"+strings.ReplaceAll(p.Name, "-", "_")).WriteString(std.Out, script)
	return err
}

const bashScript = `# Completion of PROGRAM for bash: put it into /etc/bash_completion.d/, or: source <(PROGRAM completion bash)
FUNC() {
    local cur=${COMP_WORDS[COMP_CWORD]} line
    [[ $cur == "=" ]] && cur=
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
        else
            COMPREPLY+=("${line%%$'\t'*}")
        fi
    done < <("$1" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F FUNC PROGRAM
`

const zshScript = `#compdef PROGRAM
# Completion of PROGRAM for zsh: put it as _PROGRAM into a folder of $fpath, or: source <(PROGRAM completion zsh)
FUNC() {
    local line ret=1
    local -a found
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            _files && ret=0
        else
            found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
        fi
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#found )) && _describe PROGRAM found && ret=0
    return ret
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    FUNC "$@"
else
    compdef FUNC PROGRAM
fi
`

const fishScript = `# Completion of PROGRAM for fish: put it into ~/.config/fish/completions/PROGRAM.fish, or:
# PROGRAM completion fish | source
function FUNC
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    for line in ($words[1] __complete $words[2..-1] "$cur" 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path "$cur"
        else
            echo $line
        end
    end
end
complete -c PROGRAM -f -a '(FUNC)'
`

// candidate is a word that may stand at the place to complete.
type candidate struct{ word, help string }

// complete prints what may come for the last of words.
func complete(w io.Writer, app *kong.Application, words []string) error {
	found, files := candidates(app.Node, words)
	out := bufio.NewWriter(w)
	for _, c := range found {
		help, _, _ := strings.Cut(c.help, "\n")
		fmt.Fprintf(out, "%s\t%s\n", c.word, help)
	}
	if files {
		fmt.Fprintln(out, filesLine)
	}
	return out.Flush()
}

func candidates(node *kong.Node, words []string) (found []candidate, files bool) {
	if len(words) == 0 {
		words = []string{""}
	}
	done, last, split := joined(words)
	var pending *kong.Flag // a flag that waits for its value
	args, noFlags := 0, false
	for _, word := range done {
		name, _, hasValue := strings.Cut(word, "=")
		switch {
		case pending != nil:
			pending = nil
		case !noFlags && word == "--":
			noFlags = true
		case !noFlags && strings.HasPrefix(word, "-") && word != "-":
			if f := flagOf(node, name); f != nil && !f.IsBool() && !hasValue {
				pending = f
			}
		default:
			if child := childOf(node, word); child != nil {
				node = child
			} else {
				args++
			}
		}
	}
	if name, value, ok := strings.Cut(last, "="); ok && !noFlags && strings.HasPrefix(last, "--") {
		if f := flagOf(node, name); f != nil {
			prefix := name + "="
			if split { // the shell takes the value for a word of its own
				prefix = ""
			}
			return values(f.Value, prefix, value)
		}
		return nil, false
	}
	if pending != nil {
		return values(pending.Value, "", last)
	}
	if strings.HasPrefix(last, "-") && !noFlags {
		return flags(node, last), false
	}
	for _, child := range node.Children {
		if !child.Hidden && strings.HasPrefix(child.Name, last) {
			found = append(found, candidate{child.Name, child.Help})
		}
	}
	positional := node.Positional
	if len(positional) == 0 && node.DefaultCmd != nil {
		positional = node.DefaultCmd.Positional
	}
	if len(positional) > 0 {
		more, f := values(positional[min(args, len(positional)-1)], "", last)
		found, files = append(found, more...), f
	}
	return found, files
}

// joined undoes what bash does to --flag=value: it makes three words of it.
func joined(words []string) (done []string, last string, split bool) {
	for _, word := range words {
		n := len(done)
		switch {
		case word == "=" && n > 0 && strings.HasPrefix(done[n-1], "--"):
			done[n-1] += "="
			split = true
		case n > 0 && split && strings.HasSuffix(done[n-1], "="):
			done[n-1] += word
		default:
			done = append(done, word)
			split = false
		}
	}
	return done[:len(done)-1], done[len(done)-1], split
}

// flags are those that a verb takes, its own first.
func flags(node *kong.Node, prefix string) (found []candidate) {
	for n := node; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			if f.Hidden {
				continue
			}
			for _, name := range flagNames(f) {
				if strings.HasPrefix(name, prefix) {
					found = append(found, candidate{name, f.Help})
				}
			}
		}
	}
	if node.DefaultCmd != nil {
		found = append(found, flags(&kong.Node{Flags: node.DefaultCmd.Flags}, prefix)...)
	}
	return found
}

func flagNames(f *kong.Flag) []string {
	names := []string{"--" + f.Name}
	if f.Tag.Negatable != "" {
		names = append(names, "--no-"+f.Name)
	}
	return names
}

func flagOf(node *kong.Node, name string) *kong.Flag {
	for n := node; n != nil; n = n.Parent {
		all := n.Flags
		if n.DefaultCmd != nil {
			all = slices.Concat(all, n.DefaultCmd.Flags)
		}
		for _, f := range all {
			if slices.Contains(flagNames(f), name) || f.Short != 0 && name == "-"+string(f.Short) {
				return f
			}
		}
	}
	return nil
}

func childOf(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

// values are those of a flag or argument: of a fixed set, or files where its name says so.
func values(v *kong.Value, prefix, begun string) (found []candidate, files bool) {
	for _, word := range v.EnumSlice() {
		if word != "" && strings.HasPrefix(word, begun) {
			found = append(found, candidate{prefix + word, ""})
		}
	}
	kind := v.Name
	if v.Flag != nil {
		kind = v.Flag.PlaceHolder
	}
	switch strings.ToLower(kind) {
	case "file", "file|did", "dir", "to", "from", "a", "b":
		files = prefix == ""
	}
	return found, files
}
