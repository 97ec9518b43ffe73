package cli

import (
	"encoding/json"
	"io"
)

// JSONFlag is embedded by verbs that show something.
type JSONFlag struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Print prints v as JSON, or calls text.
func (f JSONFlag) Print(std *IO, v any, text func() error) error {
	if f.JSON {
		return PrintJSON(std.Out, v)
	}
	return text()
}

// PrintJSON prints v, indented.
func PrintJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
