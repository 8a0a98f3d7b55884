package page

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/bouncemeter/bouncemeter/internal/hostile"
)

// browser is a tab of a real Chromium.
type browser struct {
	context.Context
	t *testing.T

	// mu guards faults: what the page or the browser complained of since they
	// were last taken.
	mu     sync.Mutex
	faults []string
	site   string // what requests may go to
}

// patience is how long one step in the browser may take.
const patience = 20 * time.Second

func newBrowser(t *testing.T) *browser {
	t.Helper()
	program := os.Getenv("CHROMIUM")
	if program == "" {
		t.Skip("needs a Chromium: test/page/run.sh")
	}
	o := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), o...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{Context: ctx, t: t}
	if err := chromedp.Listen(ctx, b.heard); err != nil {
		t.Fatal(err)
	}
	// A violation of the policy is an event of the document, too.
	const watch = `addEventListener("securitypolicyviolation", (e) => console.error("policy violated: " + e.violatedDirective + " " + e.blockedURI))`
	tell(b, log.Enable, cdp.Empty{})
	tell(b, network.Enable, network.EnableParams{})
	tell(b, runtime.Enable, cdp.Empty{})
	tell(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch})
	return b
}

// heard notes what must not happen on any page.
func (b *browser) heard(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fault := func(format string, args ...any) { b.faults = append(b.faults, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		fault("exception: %s %s", e.ExceptionDetails.Text, e.ExceptionDetails.Exception.Description)
	case *runtime.EventConsoleAPICalled:
		var text []string
		for _, a := range e.Args {
			text = append(text, string(a.Value))
		}
		fault("console %s: %s", e.Type, strings.Join(text, " "))
	case *log.EventEntryAdded:
		if e.Entry.Level != log.EntryLevelVerbose && e.Entry.Level != log.EntryLevelInfo {
			fault("log: %s (%s)", e.Entry.Text, e.Entry.URL)
		}
	case *page.EventJavascriptDialogOpening:
		fault("a dialog: %s", e.Message)
		go func() {
			_, _ = chromedp.Call(b, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{}) // else everything waits for an answer
		}()
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, b.site) && !strings.HasPrefix(u, "about:") && !strings.HasPrefix(u, "data:") {
			fault("a request to %s", u)
		}
	}
}

// take returns what was heard since the last time.
func (b *browser) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.faults
	b.faults = nil
	return all
}

// do runs actions, which have to work.
func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%v; heard: %v; on %.1000s", err, b.take(), b.text())
	}
}

// tell sends the browser a command, which has to work.
func tell[P, R any](b *browser, command cdp.Command[P, R], parameters P) {
	b.t.Helper()
	if _, err := chromedp.Call(b, command, parameters); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns the value of an expression, or of its promise.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%v: %.300s", err, expression)
	}
	return value
}

// screen is how somebody looks at a page.
type screen struct {
	name   string
	width  int64
	scheme string
}

var (
	desk  = screen{"light", 1200, "light"}
	night = screen{"dark", 1200, "dark"}
	phone = screen{"phone", 390, "light"}
	bed   = screen{"phone-dark", 390, "dark"}
)

func (b *browser) look(s screen) {
	b.t.Helper()
	tell(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: s.width, Height: 844, DeviceScaleFactor: 1, Mobile: s.width < 500})
	tell(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: s.scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// open goes to a page.
func (b *browser) open(url string) {
	b.t.Helper()
	b.leave("", func() { b.do(chromedp.Navigate(url)) })
}

// follow goes where a link leads, and returns that.
func (b *browser) follow(link string) string {
	b.t.Helper()
	b.leave("document.querySelector('"+link+"').click()", func() {})
	return eval[string](b, `location.pathname + location.search`)
}

// leave waits until a script or an action has led to another page, and that is
// there as a whole.
func (b *browser) leave(script string, action func()) {
	b.t.Helper()
	eval[chromedp.Void](b, "document.documentElement.dataset.old = 1; "+script)
	action()
	b.until("another page", `document.documentElement.dataset.old === undefined && document.readyState === "complete" && document.body !== null`, patience)
}

// text is what the page says.
func (b *browser) text() string {
	b.t.Helper()
	return eval[string](b, `document.body.innerText`)
}

// quiet checks that nothing has gone wrong on the page, and that no script ran
// that is not ours.
func (b *browser) quiet(name string) {
	b.t.Helper()
	for _, f := range b.take() {
		b.t.Errorf("%s: %s", name, f)
	}
	if eval[bool](b, `"`+hostile.Mark+`" in window`) {
		b.t.Errorf("%s: a remote server's script has run", name)
	}
}

// fits checks that nobody has to scroll sideways.
func (b *browser) fits(name string) {
	b.t.Helper()
	wide := eval[struct {
		Width, Screen int
		Who           []string
	}](b, `({Width: document.documentElement.scrollWidth, Screen: document.documentElement.clientWidth,
		Who: [...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest("pre, svg, nav")).slice(0, 3).map((e) => e.outerHTML.slice(0, 100))})`)
	if wide.Width > wide.Screen || len(wide.Who) > 0 {
		b.t.Errorf("%s: %d pixels wide on a screen of %d: %q", name, wide.Width, wide.Screen, wide.Who)
	}
}

// accessible has axe-core look at the page: names and labels, contrast, order,
// landmarks.
func (b *browser) accessible(name string) {
	b.t.Helper()
	axe, err := os.ReadFile(os.Getenv("AXE"))
	if err != nil {
		b.t.Fatalf("%v; run test/page/run.sh", err)
	}
	eval[int](b, string(axe)+";0")
	for _, fault := range eval[[]string](b, `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations.flatMap((v) =>
		v.nodes.slice(0, 3).map((n) => v.id + ", " + v.nodes.length + " times: " + n.target + " " + n.html.slice(0, 150) + " " + n.failureSummary)))`) {
		b.t.Errorf("%s: %s", name, fault)
	}
	b.take() // axe has tried out styles
}

// focus is where the keyboard is.
type focus struct {
	Index        int // among the elements of the page
	What         string
	Visible, End bool
}

// where tells what has the focus, and whether one sees that.
func (b *browser) where() focus {
	b.t.Helper()
	return eval[focus](b, `(() => {
		const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
		return {Index: [...document.querySelectorAll("*")].indexOf(e), What: e.outerHTML.slice(0, 120), End: e === document.body,
			Visible: s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 1 && r.width > 0 && r.right > 0 && r.left < innerWidth && r.bottom > 0 && r.top < innerHeight};
	})()`)
}

// keyboard goes through the page by the tabulator: every link, button and field
// is reached, in the order in which they are read, and one sees where one is.
func (b *browser) keyboard(name string) {
	b.t.Helper()
	reachable := eval[int](b, `[...document.querySelectorAll("a[href], button, input:not([type=hidden]), textarea, select, summary, [tabindex='0']")].filter((e) => e.checkVisibility()).length`)
	b.do(chromedp.KeyEvent(kb.Tab))
	first := b.where()
	skip := eval[bool](b, `document.querySelector("nav") !== null`) // past what every page leads to
	if skip && !strings.Contains(first.What, `class="skip"`) || !first.Visible {
		b.t.Errorf("%s: the first stop is %+v, not the link to the content", name, first)
	}
	reached := 1
	for last := first; reached < min(reachable, 40); reached++ {
		b.do(chromedp.KeyEvent(kb.Tab))
		at := b.where()
		if at.End || at.Index <= last.Index {
			b.t.Errorf("%s: after %d of %d stops the keyboard is at %+v, behind %+v", name, reached, reachable, at, last)
			return
		}
		if !at.Visible {
			b.t.Errorf("%s: one does not see the focus at %s", name, at.What)
		}
		last = at
	}
	if !skip {
		return
	}
	eval[chromedp.Void](b, `document.querySelector(".skip").focus()`)
	b.do(chromedp.KeyEvent(kb.Enter))
	if at := b.where(); !strings.Contains(at.What, `id="content"`) {
		b.t.Errorf("%s: the link to the content leads to %+v", name, at)
	}
}

// picture keeps a picture of the whole page if SCREENSHOTS names a folder.
func (b *browser) picture(name string) {
	b.t.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	png, err := chromedp.Run(b, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644); err != nil {
		b.t.Error(err)
	}
}

// until waits until a condition holds in the page.
func (b *browser) until(what, condition string, most time.Duration) {
	b.t.Helper()
	for deadline := time.Now().Add(most); ; time.Sleep(100 * time.Millisecond) {
		// What is asked while one page gives way to another may get no answer.
		ctx, cancel := context.WithTimeout(b, 2*time.Second)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](condition))
		if cancel(); err == nil && ok {
			return
		}
		if time.Now().After(deadline) {
			b.t.Errorf("%s: not in %v: %.1000s", what, most, b.text())
			return
		}
	}
}
