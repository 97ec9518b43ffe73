package browser

import (
	"fmt"
	"os"
	"strings"

	"github.com/chromedp/chromedp"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// views are what a page is looked at in.
var views = []struct {
	name, scheme  string
	width, height int64
}{
	{"light", "light", width, height},
	{"dark", "dark", width, height},
	{"phone", "light", phoneWidth, phoneHeight},
}

// Shoot leaves pictures of the page in the folder of ATCR_SHOTS; without it, it does nothing.
func (p *Page) Shoot(name string) {
	p.t.Helper()
	if shots() == "" {
		return
	}
	p.inEachView(func(view string) { p.shoot(name + "-" + view) })
}

func (p *Page) inEachView(f func(view string)) {
	p.t.Helper()
	for _, v := range views {
		p.setView(v.scheme, v.width, v.height)
		f(v.name)
	}
	p.setView("light", width, height)
}

func (p *Page) shoot(name string) {
	p.t.Helper()
	png, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = saveShot(name, png)
	}
	if err != nil {
		p.t.Errorf("browser: picture %s: %v", name, err)
	}
}

// Check fails the test when axe-core finds something in the page, light, dark or on a phone, when it is wider than a phone, or when the
// console has complaints; and leaves pictures as Shoot does. Scripts must be on.
func (p *Page) Check(name string) {
	p.t.Helper()
	for _, fault := range p.Faults(name) {
		p.t.Errorf("browser: page %s: %s", name, fault)
	}
}

// Faults are what Check finds.
func (p *Page) Faults(name string) (faults []string) {
	p.t.Helper()
	for _, c := range p.Complaints() {
		faults = append(faults, "console: "+c)
	}
	script, err := os.ReadFile(tools.Path(tools.Axe))
	if err != nil {
		p.t.Fatal(err)
	}
	p.Eval(string(script)+";0", nil)
	p.inEachView(func(view string) {
		var found []struct {
			ID, Impact, Help string
			Nodes            []struct {
				HTML           string `json:"html"`
				FailureSummary string
			}
		}
		p.Eval(`axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations)`, &found)
		for _, v := range found {
			var nodes strings.Builder
			for _, n := range v.Nodes {
				fmt.Fprintf(&nodes, "\n  %.200s\n    %s", n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", "\n    "))
			}
			faults = append(faults, fmt.Sprintf("%s: %s (%s, %s)%s", view, v.Help, v.ID, v.Impact, nodes.String()))
		}
		var wide []string
		p.Eval(`document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
			.filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 200))`, &wide)
		if len(wide) > 0 {
			faults = append(faults, fmt.Sprintf("%s: wider than the window: %q", view, wide[:min(3, len(wide))]))
		}
		if shots() != "" {
			p.shoot(name + "-" + view)
		}
	})
	return faults
}
