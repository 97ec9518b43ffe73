package webui

import (
	"html/template"
	"strings"
	"time"
)

// functions are for the templates of pages.
var functions = template.FuncMap{
	"day":     func(t time.Time) string { return t.UTC().Format("2 Jan 2006") },
	"minute":  func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") },
	"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"join":    strings.Join,
	"browser": Browser,
}

// Browser names a browser by its User-Agent, as far as that says: "Firefox on Linux".
func Browser(agent string) string {
	first := func(names ...string) string {
		for i := 0; i < len(names); i += 2 {
			if strings.Contains(agent, names[i]) {
				return names[i+1]
			}
		}
		return ""
	}
	what := first("Edg/", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "Chromium/", "Chromium", "Chrome/", "Chrome", "Safari/", "Safari",
		"curl/", "curl")
	where := first("Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "Windows", "Windows", "Mac OS", "macOS", "CrOS", "ChromeOS",
		"Linux", "Linux")
	switch {
	case what == "":
		return "A browser"
	case where == "":
		return what
	}
	return what + " on " + where
}
