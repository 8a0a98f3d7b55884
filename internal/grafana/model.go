package main

import "fmt"

// board is a dashboard in Grafana's JSON model, as far as it is used here.
// https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
type board struct {
	UID           string     `json:"uid"` // links are made of it: it never changes
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	Editable      bool       `json:"editable"`
	GraphTooltip  int        `json:"graphTooltip"` // 1: the crosshair is shared by all panels
	SchemaVersion int        `json:"schemaVersion"`
	Refresh       string     `json:"refresh"`
	Time          timeRange  `json:"time"`
	Timezone      string     `json:"timezone"`
	Annotations   list[mark] `json:"annotations"`
	Templating    list[vari] `json:"templating"`
	Links         []link     `json:"links"`
	Panels        []panel    `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type list[T any] struct {
	List []T `json:"list"`
}

// source names a data source.
type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

var prometheus = source{"prometheus", "${datasource}"}

// mark is a query whose results are drawn into all charts.
type mark struct {
	Name        string `json:"name"`
	Datasource  source `json:"datasource"`
	Enable      bool   `json:"enable"`
	IconColor   string `json:"iconColor"`
	Expr        string `json:"expr"`
	TitleFormat string `json:"titleFormat"`
	TextFormat  string `json:"textFormat"`
	Step        string `json:"step"`
}

// vari is a variable that the viewer chooses.
type vari struct {
	Name       string  `json:"name"`
	Label      string  `json:"label"`
	Type       string  `json:"type"`
	Query      any     `json:"query"`
	Datasource *source `json:"datasource,omitempty"`
	Definition string  `json:"definition,omitempty"`
	Current    *choice `json:"current,omitempty"`
	Refresh    int     `json:"refresh,omitempty"` // 2: whenever the time range changes
	Sort       int     `json:"sort,omitempty"`    // 1: by alphabet
	Multi      bool    `json:"multi,omitempty"`
	IncludeAll bool    `json:"includeAll,omitempty"`
	AllValue   string  `json:"allValue,omitempty"`
}

type choice struct {
	Text  string `json:"text"`
	Value string `json:"value"`
}

// link is one above the panels: to other dashboards by their tags, or to a URL.
type link struct {
	Title       string   `json:"title"`
	Type        string   `json:"type"`
	Icon        string   `json:"icon"`
	Tooltip     string   `json:"tooltip"`
	Tags        []string `json:"tags"`
	URL         string   `json:"url,omitempty"`
	AsDropdown  bool     `json:"asDropdown"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
	TargetBlank bool     `json:"targetBlank"`
}

// dataLink is one of a value.
type dataLink struct {
	Title string `json:"title"`
	URL   string `json:"url"`
}

type panel struct {
	ID              int              `json:"id"`
	Type            string           `json:"type"`
	Title           string           `json:"title"`
	Description     string           `json:"description,omitempty"`
	Datasource      *source          `json:"datasource,omitempty"`
	GridPos         gridPos          `json:"gridPos"`
	Targets         []target         `json:"targets,omitempty"`
	FieldConfig     *fieldConfig     `json:"fieldConfig,omitempty"`
	Options         map[string]any   `json:"options,omitempty"`
	Transformations []transformation `json:"transformations,omitempty"`
	Repeat          string           `json:"repeat,omitempty"`
	RepeatDirection string           `json:"repeatDirection,omitempty"`
	MaxPerRow       int              `json:"maxPerRow,omitempty"`
	Interval        string           `json:"interval,omitempty"`
	Collapsed       *bool            `json:"collapsed,omitempty"` // of rows
	Panels          []panel          `json:"panels,omitzero"`     // of collapsed rows
}

// gridPos is where a panel is, in 24 columns.
type gridPos struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

type target struct {
	RefID        string `json:"refId"`
	Datasource   source `json:"datasource"`
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat,omitempty"`
	Instant      bool   `json:"instant,omitempty"`
	Range        bool   `json:"range,omitempty"`
	Format       string `json:"format,omitempty"`
}

type fieldConfig struct {
	Defaults  field      `json:"defaults"`
	Overrides []override `json:"overrides"`
}

type field struct {
	Unit       string         `json:"unit,omitempty"`
	Min        *float64       `json:"min,omitempty"`
	Decimals   *int           `json:"decimals,omitempty"`
	Color      map[string]any `json:"color,omitempty"`
	Custom     map[string]any `json:"custom,omitempty"`
	Thresholds *thresholds    `json:"thresholds,omitempty"`
	Links      []dataLink     `json:"links,omitempty"`
	NoValue    string         `json:"noValue,omitempty"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"` // null is where all begins
}

type override struct {
	Matcher    map[string]any   `json:"matcher"`
	Properties []map[string]any `json:"properties"`
}

type transformation struct {
	ID      string         `json:"id"`
	Options map[string]any `json:"options"`
}

// query is an expression and what its series are called.
type query struct{ expr, legend string }

// layout places panels from left to right and top to bottom.
type layout struct {
	panels    []panel
	x, y, row int // row is the height of the row that is being filled
}

func (l *layout) add(w, h int, p panel) {
	if l.x+w > 24 {
		l.x, l.y, l.row = 0, l.y+l.row, 0
	}
	p.ID = len(l.panels) + 1
	p.GridPos = gridPos{X: l.x, Y: l.y, W: w, H: h}
	l.panels = append(l.panels, p)
	l.x += w
	l.row = max(l.row, h)
}

// heading begins a new section.
func (l *layout) heading(title string) {
	l.x = 24
	open := false
	l.add(24, 1, panel{Type: "row", Title: title, Collapsed: &open, Panels: []panel{}})
}

// chart is a chart over time.
func chart(title, description, unit string, queries ...query) panel {
	p := panel{
		Type: "timeseries", Title: title, Description: description, Datasource: &prometheus,
		FieldConfig: &fieldConfig{
			Defaults: field{
				Unit: unit, Min: new(float64),
				Color:  map[string]any{"mode": "palette-classic-by-name"},
				Custom: map[string]any{"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"},
			},
			Overrides: []override{},
		},
		Options: map[string]any{
			"legend":  map[string]any{"calcs": []string{}, "displayMode": "list", "placement": "bottom", "showLegend": true},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		},
	}
	for i, q := range queries {
		p.Targets = append(p.Targets, target{RefID: refID(i), Datasource: prometheus, Expr: q.expr, LegendFormat: q.legend, Range: true})
	}
	return p
}

// stacked puts a chart's series on top of each other.
func stacked(p panel) panel {
	custom := p.FieldConfig.Defaults.Custom
	custom["stacking"] = map[string]any{"mode": "normal", "group": "A"}
	custom["fillOpacity"] = 60
	custom["lineWidth"] = 0
	return p
}

// colored gives the series of outcomes their colours.
func colored(p panel) panel {
	for _, c := range []struct{ name, color string }{
		{"delivered", "green"}, {"deferred", "yellow"}, {"bounced", "red"}, {"expired", "dark-red"},
	} {
		p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override{
			Matcher:    map[string]any{"id": "byName", "options": c.name},
			Properties: []map[string]any{{"id": "color", "value": map[string]any{"mode": "fixed", "fixedColor": c.color}}},
		})
	}
	return p
}

// stat is one number with its recent course. It turns orange from warn and red
// from bad on; 0 for both leaves it as it is.
func stat(title, description, unit string, warn, bad float64, expr string) panel {
	p := chart(title, description, unit, query{expr, ""})
	p.Type = "stat"
	p.FieldConfig.Defaults.Custom = nil
	p.FieldConfig.Defaults.Min = nil
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "thresholds"}
	steps := []step{{Color: "green"}}
	if bad > 0 {
		steps = append(steps, step{"orange", &warn}, step{"red", &bad})
	} else {
		steps[0].Color = "text"
	}
	p.FieldConfig.Defaults.Thresholds = &thresholds{Mode: "absolute", Steps: steps}
	p.Options = map[string]any{
		"colorMode": "value", "graphMode": "area", "textMode": "value", "justifyMode": "auto", "orientation": "auto", "wideLayout": true,
		"showPercentChange": false, "percentChangeColorMode": "standard",
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	}
	return p
}

// table shows labels and values at the end of the time range. The columns that
// hold values are those of columns, in order of the queries.
func table(title, description, unit string, columns []string, exprs ...string) panel {
	p := panel{
		Type: "table", Title: title, Description: description, Datasource: &prometheus,
		FieldConfig: &fieldConfig{Defaults: field{Unit: unit, Custom: map[string]any{"align": "auto", "filterable": true, "inspect": false}}, Overrides: []override{}},
		Options:     map[string]any{"frameIndex": 0, "showHeader": true, "cellHeight": "sm", "sortBy": []map[string]any{{"displayName": columns[0], "desc": true}}},
	}
	rename := map[string]any{}
	for i, expr := range exprs {
		p.Targets = append(p.Targets, target{RefID: refID(i), Datasource: prometheus, Expr: expr, Instant: true, Format: "table"})
		name := "Value"
		if len(exprs) > 1 {
			name += " #" + refID(i)
		}
		rename[name] = columns[i]
	}
	p.Transformations = []transformation{
		{"merge", map[string]any{}},
		{"organize", map[string]any{"excludeByName": map[string]any{"Time": true}, "renameByName": rename}},
	}
	return p
}

// rows shows each series as a row of slots over time whose colour is the value.
func rows(title, description, unit string, q query) panel {
	p := chart(title, description, unit, q)
	p.Type = "status-history"
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "continuous-YlRd"}
	p.FieldConfig.Defaults.Custom = map[string]any{"fillOpacity": 90, "lineWidth": 0}
	p.Options = map[string]any{
		"showValue": "never", "rowHeight": 0.9, "colWidth": 1,
		"legend":  map[string]any{"calcs": []string{}, "showLegend": false, "displayMode": "list", "placement": "bottom"},
		"tooltip": map[string]any{"mode": "single", "sort": "none"},
	}
	p.Interval = "1m"
	return p
}

// linked makes the cells of a column links.
func linked(p panel, column, title, url string) panel {
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override{
		Matcher:    map[string]any{"id": "byName", "options": column},
		Properties: []map[string]any{{"id": "links", "value": []dataLink{{Title: title, URL: url}}}},
	})
	return p
}

// band fills the space between two series, and draws no lines around it.
func band(p panel, upper, lower string) panel {
	quiet := []map[string]any{
		{"id": "custom.lineWidth", "value": 0}, {"id": "custom.hideFrom", "value": map[string]any{"legend": true, "tooltip": false, "viz": false}},
		{"id": "color", "value": map[string]any{"mode": "fixed", "fixedColor": "text"}},
	}
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides,
		override{
			Matcher:    map[string]any{"id": "byName", "options": upper},
			Properties: append(quiet[:3:3], map[string]any{"id": "custom.fillBelowTo", "value": lower}, map[string]any{"id": "custom.fillOpacity", "value": 15}),
		},
		override{
			Matcher:    map[string]any{"id": "byName", "options": lower},
			Properties: append(quiet[:3:3], map[string]any{"id": "custom.fillOpacity", "value": 0}),
		})
	return p
}

func refID(i int) string { return string(rune('A' + i)) }

// choose is a variable with the values of a label.
func choose(name, label, metric string, all bool) vari {
	definition := fmt.Sprintf("label_values(%s, %s)", metric, name)
	v := vari{
		Name: name, Label: label, Type: "query", Datasource: &prometheus, Definition: definition,
		Query:   map[string]any{"query": definition, "refId": name},
		Refresh: 2, Sort: 1,
	}
	if all {
		v.Multi, v.IncludeAll, v.AllValue = true, true, ".*"
		v.Current = &choice{"All", "$__all"}
	}
	return v
}

// newBoard returns a dashboard with the variables that all have, and more.
func newBoard(name, title, description string, l *layout, more ...vari) board {
	variables := append([]vari{
		{Name: "datasource", Label: "Prometheus", Type: "datasource", Query: "prometheus"},
		choose("instance", "bouncemeter", "bouncemeter_build_info", true),
	}, more...)
	variables = append(variables, vari{
		Name: "page", Label: "Page", Type: "textbox", Query: "http://127.0.0.1:9725",
		Current: &choice{"http://127.0.0.1:9725", "http://127.0.0.1:9725"},
	})
	return board{
		UID: "bouncemeter-" + name, Title: "bouncemeter / " + title, Description: description, Tags: []string{"bouncemeter", "mail"},
		Editable: true, GraphTooltip: 1, SchemaVersion: 39, Refresh: "30s", Time: timeRange{"now-6h", "now"}, Timezone: "browser",
		Annotations: list[mark]{[]mark{{
			Name: "Alerts", Datasource: prometheus, Enable: true, IconColor: "red", Step: "60s",
			Expr:        `ALERTS{alertname=~"Bouncemeter.+",alertstate="firing"}`,
			TitleFormat: "{{alertname}}", TextFormat: "{{provider}} {{sender_domain}} {{source}}",
		}}},
		Templating: list[vari]{variables},
		Links: []link{
			{Title: "bouncemeter", Type: "dashboards", Icon: "external link", Tags: []string{"bouncemeter"}, IncludeVars: true, KeepTime: true},
			{Title: "Page", Type: "link", Icon: "external link", Tags: []string{}, URL: "${page}/", TargetBlank: true},
			{Title: "Alerts", Type: "link", Icon: "external link", Tags: []string{}, URL: "${page}/alerts", TargetBlank: true},
		},
		Panels: l.panels,
	}
}
