// Package webui is what all pages share: one layout, one style sheet, the headers that keep a page harmless whatever stands in it, the
// check that a form comes from one of these pages, and pages for errors.
//
//	ui, err := webui.New(webui.Options{Name: "Registry"})
//	pages, err := ui.Parse(files, "pages")         // each pages/NAME.html defines "main"
//	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
//		pages.Show(w, r, http.StatusOK, "home", webui.Page{Title: "Home", Data: …})
//	})
//	http.ListenAndServe(addr, ui.Handler(mux))
//
// Pages work without scripts, and none would run: the policy allows neither scripts nor styles in a page, nor anything from elsewhere.
// Templates are of html/template, which escapes whatever is untrusted by where it stands.
//
// A form that is posted is answered by a page of this host or by a redirect to one. A redirect to another host after a POST is blocked
// by browsers, since form-action 'self' holds for it, too: lead there by a page that is got, with [Page].Onward.
package webui
