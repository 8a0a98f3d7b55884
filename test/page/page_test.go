// Package page tests the daemon's pages in a real Chromium.
package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/bouncemeter/bouncemeter/internal/hostile"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// build makes the program.
func build(t *testing.T) string {
	t.Helper()
	if os.Getenv("CHROMIUM") == "" {
		t.Skip("needs a Chromium: test/page/run.sh")
	}
	return rig.Build(t, "")
}

// start runs the program until the end of the test and returns where its page
// is, which it says by itself.
func start(t *testing.T, binary string, args ...string) (site string) {
	t.Helper()
	p := rig.Start(t, exec.Command(binary, args...))
	t.Cleanup(func() { p.End(t, syscall.SIGINT, time.Minute) }) // the demonstration removes its folder
	address := regexp.MustCompile(`(http://127\.0\.0\.1:[1-9][0-9]*)\b.*\n`)
	p.Until(t, "it says where its page is", time.Minute, func() bool {
		m := address.FindStringSubmatch(p.Output())
		if m != nil {
			site = m[1]
		}
		return m != nil
	})
	return site
}

// openAlert waits for an alert and returns its id.
func openAlert(t *testing.T, site string, most time.Duration) string {
	t.Helper()
	for deadline := time.Now().Add(most); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		r, err := http.Get(site + "/api/v1/alerts?open=true")
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Alerts []struct{ ID string } }
		err = json.NewDecoder(r.Body).Decode(&answer)
		r.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(answer.Alerts) > 0 {
			return answer.Alerts[0].ID
		}
	}
	t.Fatalf("no alert in %v", most)
	return ""
}

// view is a page and what it has to say.
type view struct {
	name, path string
	says       []string
}

// TestDemo walks through the pages of the demonstration, before its incident
// and after.
func TestDemo(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	b.site = start(t, build(t), "demo", "--listen", "127.0.0.1:0", "--for", "10m")

	b.look(desk)
	b.open(b.site + "/")
	b.until("the history is read", `document.querySelectorAll("table.wide tbody tr").length > 10`, 30*time.Second)
	b.quiet("now")
	// It is live: what is shown changes, and it is still the same document.
	eval[string](b, `window.same = document.querySelector(".cards").innerText`)
	b.until("live", `window.same !== undefined && document.querySelector(".cards").innerText !== window.same`, 30*time.Second)
	// A chart's slot says what it holds.
	at := eval[struct{ X, Y float64 }](b, `(() => { const r = document.querySelector(".chart").querySelectorAll(".hit")[20].getBoundingClientRect(); return {X: r.x + r.width / 2, Y: r.y + r.height / 2}; })()`)
	b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at.X, at.Y))
	b.until("a slot's numbers", `/\d\d:\d\d[^]*delivered/.test(document.querySelector(".tip:not([hidden])")?.innerText)`, 5*time.Second)
	b.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 1, 1))

	try(t, b)
	b.see(view{"unclassified", "/unclassified", []string{"Unclassified replies", "550 Requested action not taken", "Draft of a rule"}})
	b.see(view{"sources", "/sources", []string{"mail.log", "demo", "Dead letters"}})
	b.see(view{"providers", "/providers", []string{"gmail", "microsoft", "Failures each 5 minutes"}})
	b.see(view{"domains", "/domains", []string{"shop.example", "usual"}})
	b.see(view{"nothing there", "/provider/nobody", []string{"Take a longer time"}})
	b.see(view{"no such page", "/nowhere", []string{"There is no such page"}})
	ranges(t, b)

	id := openAlert(t, b.site, 3*time.Minute)
	b.see(view{"alert", "/alerts/" + id, []string{"SPF failed for shop.example at gmail", "What to do", "dig +short TXT", "The numbers", "Where it is", "What servers say", "Timeline", "firing"}})
	silence(t, b, id)
	b.see(view{"alerts", "/alerts", []string{"Open", "SPF failed for shop.example at gmail"}})
	b.see(view{"now", "/", []string{"Open alerts", "failure ratio", "Why mail failed", "spf_failed", "last half-hour", "Providers", "Sender domains"}})
	b.see(view{"reason", "/reason/spf_failed", []string{"spf_failed", "What to do", "By provider", "shop.example", "What servers say"}})
	b.see(view{"provider", "/provider/gmail", []string{"gmail provider", "Outcomes", "Why mail failed", "What servers say"}})
	b.see(view{"domain", "/domain/shop.example", []string{"Authentication", "spf_failed", "Failure ratio by provider", "usual"}})
	b.see(view{"report", "/report", []string{"Mail deliveries", "spf_failed"}})

	// Without script everything is there, too.
	tell(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.open(b.site + "/")
	if text := b.text(); !strings.Contains(text, "Why mail failed") {
		t.Errorf("without script: %.500s", text)
	}
	tell(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: false})
	b.quiet("without script")
}

// see looks at a page in both schemes and both layouts.
func (b *browser) see(v view) {
	b.t.Helper()
	screens := []screen{night, desk, phone}
	if os.Getenv("SCREENSHOTS") != "" {
		screens = append(screens, bed)
	}
	for _, s := range screens {
		name := v.name + ", " + s.name
		b.look(s)
		b.open(b.site + v.path)
		text := b.text()
		for _, want := range v.says {
			if !strings.Contains(text, want) {
				b.t.Errorf("%s: there is no %q in %s", name, want, text[max(0, len(text)-3000):])
			}
		}
		if what, found := hostile.Acting(strings.ReplaceAll(text, "\t", " ")); found {
			b.t.Errorf("%s: there is %s", name, what)
		}
		if v.name == "no such page" { // which the browser finds worth a message
			b.take()
		}
		b.quiet(name)
		b.fits(name)
		if s == desk {
			b.keyboard(name)
		}
		b.picture(strings.ReplaceAll(v.name, " ", "-") + "-" + s.name)
		if s == night || s == phone {
			b.accessible(name)
		}
	}
}

// try pastes a reply.
func try(t *testing.T, b *browser) {
	t.Helper()
	b.open(b.site + "/try")
	b.do(
		chromedp.SendKeys(chromedp.CSS("#text"), "550-5.7.26 This mail has been blocked because the sender is unauthenticated."),
		chromedp.SendKeys(chromedp.CSS("#mx"), "gmail-smtp-in.l.google.com"),
		chromedp.Click(chromedp.CSS(`form.try button`)),
		chromedp.WaitVisible(chromedp.CSS("mark")),
	)
	text := b.text()
	for _, want := range []string{"How it is known", "gmail", "known by the relay", "550 5.7.26"} {
		if !strings.Contains(text, want) {
			t.Errorf("try: there is no %q in %s", want, text)
		}
	}
	b.quiet("try")
	for _, s := range []screen{desk, bed} {
		b.look(s)
		b.fits("try " + s.name)
		b.picture("try-" + s.name)
		b.accessible("try " + s.name)
	}
}

// silence silences an alert and ends that again.
func silence(t *testing.T, b *browser, id string) {
	t.Helper()
	b.look(desk)
	b.open(b.site + "/alerts/" + id)
	b.do(
		chromedp.SendKeys(chromedp.CSS(".silence input"), "the record is being moved, Ann"),
		chromedp.SetValue(chromedp.CSS(".silence select"), "4h"),
		chromedp.Click(chromedp.CSS(".silence button")),
		chromedp.WaitVisible(chromedp.CSS(".silences")),
	)
	if text := b.text(); !strings.Contains(text, "the record is being moved, Ann") || !strings.Contains(text, "sender domain shop.example") {
		t.Errorf("silenced: %.3000s", text)
	}
	b.quiet("silence")
	b.see(view{"silences", "/alerts", []string{"silenced", "the record is being moved, Ann", "End it"}})
	b.look(desk)
	b.do(chromedp.Click(chromedp.CSS(".silences button")), chromedp.WaitNotPresent(chromedp.CSS(".silences")))
	b.quiet("the end of a silence")
}

// ranges chooses times, which links keep.
func ranges(t *testing.T, b *browser) {
	t.Helper()
	b.look(desk)
	b.open(b.site + "/?provider=gmail")
	b.follow(`.ranges a[href*="last=1h"]`)
	if at := b.follow(`nav a[href^="/domains"]`); at != "/domains?last=1h&provider=gmail" {
		t.Errorf("the links lead to %s", at)
	}
	b.do(chromedp.Click(chromedp.CSS("#custom summary")), chromedp.WaitVisible(chromedp.CSS("#custom input[name=from]")))
	b.picture("custom-range")
	b.look(bed)
	b.fits("a time of one's own")
	b.accessible("a time of one's own")
	eval[chromedp.Void](b, `(() => { const day = new Date(Date.now() - 2 * 3600e3).toISOString().slice(0, 16); document.querySelector("#custom input[name=from]").value = day; })()`)
	if at := b.follow("#custom button"); !strings.Contains(at, "from=20") || !strings.Contains(at, "provider=gmail") {
		t.Errorf("a time of one's own leads to %s", at)
	}
	// However many pages one has been to, the next one comes: those that are kept
	// for the way back hold no connection.
	for range 8 {
		b.follow(`nav a[href^="/domains"]`)
		b.follow(`nav a[href^="/?"]`)
	}
	b.quiet("ranges")
}

// TestLiveAgain has a proxy answer with errors for a while, as one does while the
// daemon is started anew: the page that is open lives on.
func TestLiveAgain(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	site, err := url.Parse(start(t, build(t), "demo", "--listen", "127.0.0.1:0", "--for", "10m"))
	if err != nil {
		t.Fatal(err)
	}
	daemon := httputil.NewSingleHostReverseProxy(site)
	daemon.ErrorLog = log.New(io.Discard, "", 0) // connections are cut
	var away atomic.Bool
	var refused atomic.Int64 // requests for the stream of events
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !away.Load() {
			daemon.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
		if r.URL.Path == "/live" {
			refused.Add(1)
		}
	}))
	t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close()
	})

	b.look(desk)
	b.open(proxy.URL + "/")
	const change = `document.querySelector(".cards") && document.querySelector(".cards").innerText !== window.shown`
	eval[string](b, `window.shown = document.querySelector(".cards")?.innerText ?? ""`)
	b.until("live", change, 30*time.Second)
	away.Store(true)
	proxy.CloseClientConnections()
	for deadline := time.Now().Add(time.Minute); refused.Load() == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the page did not ask again")
		}
	}
	eval[string](b, `window.shown = document.querySelector(".cards").innerText`)
	away.Store(false)
	b.until("live again", change, 30*time.Second)
	b.take() // of the errors the browser tells
}

// TestHostile looks at the pages of a daemon whose log is one attack.
func TestHostile(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	folder := t.TempDir()
	var log bytes.Buffer
	if err := hostile.PostfixLog(&log, time.Now()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "mail.log")
	if err := os.WriteFile(path, log.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(folder, "bouncemeter.yaml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf("sources: [{name: mta, kind: tail, paths: [%q]}]\nledger: {sqlite: %q}\nhttp: {listen: '127.0.0.1:0'}\n", path, filepath.Join(folder, "ledger.db"))), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := build(t)
	b.site = start(t, binary, "run", "-c", config)
	id := openAlert(t, b.site, time.Minute)
	const shown = "<script>window." + hostile.Mark + "=1</script>"
	b.see(view{"hostile now", "/", []string{"Open alerts", shown}})
	b.see(view{"hostile alert", "/alerts/" + id, []string{shown}})
	b.see(view{"hostile reason", "/reason/spf_failed", []string{shown, "DROP TABLE", "{{.}}", "onerror=", `"} or vector(1)`}})
	b.see(view{"hostile unclassified", "/unclassified", []string{"moon is in the wrong house"}})
	b.see(view{"hostile sources", "/sources", []string{"status=", `\u202egnp.exe`, "DROP TABLE"}})
	b.see(view{"hostile report", "/report", []string{shown}})
	b.open(b.site + "/domains")
	link := eval[string](b, `[...document.querySelectorAll("tbody th a")].find((a) => a.textContent.includes("script")).getAttribute("href")`)
	b.see(view{"hostile domain", link, []string{"Authentication", shown}})

	// The same as a file that is sent around.
	file := filepath.Join(folder, "report.html")
	out, err := exec.Command(binary, "report", "-o", "html", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	b.site = "file://"
	b.see(view{"hostile file", file, []string{"Why mail failed", shown}})
}
