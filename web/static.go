package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the files
	"encoding/hex"
	"net/http"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/chart"
	"github.com/bouncemeter/bouncemeter/internal/report"
)

//go:embed static/page.css
var pageStyle string

//go:embed static/page.js
var pageScript string

//go:embed static/icon.svg
var pageIcon string

// asset is a file that pages are made of.
type asset struct{ kind, body, hash string }

var assets = func() map[string]asset {
	all := map[string]asset{
		"page.css": {kind: "text/css; charset=utf-8", body: report.Style + chart.Style + pageStyle},
		"page.js":  {kind: "text/javascript; charset=utf-8", body: pageScript},
		"icon.svg": {kind: "image/svg+xml", body: pageIcon},
	}
	for name, a := range all {
		sum := sha256.Sum256([]byte(a.body))
		a.hash = hex.EncodeToString(sum[:6])
		all[name] = a
	}
	return all
}()

// assetURL returns the address of a file, which is another one for each content:
// browsers may keep it for ever.
func assetURL(name string) string { return "/static/" + name + "?v=" + assets[name].hash }

func static(w http.ResponseWriter, r *http.Request) {
	a, ok := assets[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("ETag", `"`+a.hash+`"`)
	if r.URL.Query().Get("v") == a.hash {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		w.Header().Set("Cache-Control", "no-cache")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader([]byte(a.body)))
}
