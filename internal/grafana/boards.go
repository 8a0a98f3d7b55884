package main

import "strings"

// Parts of queries. Attempts to deliver are all outcomes but expired, which
// counts messages that were given up.
const (
	here     = `instance=~"$instance"`
	attempts = `bouncemeter_attempts_total{` + here + `,outcome!="expired"}`
	failures = `bouncemeter_attempts_total{` + here + `,outcome=~"deferred|bounced"}`
	expired  = `bouncemeter_attempts_total{` + here + `,outcome="expired"}`
	all      = `bouncemeter_attempts_total{` + here + `}`
	auth     = `category=~"spf_failed|dkim_failed|dmarc_failed|auth_failed|sender_unverified"`
)

// Links from the cells of tables.
const (
	toProvider = "/d/bouncemeter-provider?${datasource:queryparam}&${page:queryparam}&${__url_time_range}&var-provider=${__data.fields.provider}"
	toDomain   = "/d/bouncemeter-domain?${datasource:queryparam}&${page:queryparam}&${__url_time_range}&var-sender_domain=${__data.fields.sender_domain}"
	toReason   = "${page}/reason/${__data.fields.category}"
)

// rate is the pace of counters now.
func rate(selector string) string { return "rate(" + selector + "[$__rate_interval])" }

func sum(of string) string { return "sum(" + of + ")" }

func sumBy(labels, of string) string { return "sum by (" + labels + ") (" + of + ")" }

// grown is how much counters grew in the time range shown.
func grown(selector string) string { return "increase(" + selector + "[$__range])" }

// where narrows the selector of a metric down.
func where(selector, more string) string { return strings.TrimSuffix(selector, "}") + "," + more + "}" }

// quantile of the delay of the attempts that more selects.
func quantile(q, more string) string {
	return "histogram_quantile(" + q + ", " + sumBy("le", rate(`bouncemeter_delay_seconds_bucket{`+here+more+`}`)) + ")"
}

func boards() []board { return []board{overview(), provider(), domain(), self()} }

func overview() board {
	var l layout
	l.add(4, 4, stat("Attempts", "Tries to deliver, retries included.", "reqps", 0, 0, sum(rate(attempts))))
	l.add(4, 4, stat("Failed attempts", "Share of the attempts that did not deliver: deferred or bounced.", "percentunit", 0.1, 0.25,
		sum(rate(failures))+" / "+sum(rate(attempts))))
	l.add(4, 4, stat("Bounced", "Share of the attempts that were refused for good.", "percentunit", 0.02, 0.05,
		sum(rate(where(all, `outcome="bounced"`)))+" / "+sum(rate(attempts))))
	l.add(4, 4, stat("Authentication failures", "Attempts refused for SPF, DKIM, DMARC or authentication in general, as a share of all.", "percentunit", 0.01, 0.05,
		sum(rate(where(failures, auth)))+" / "+sum(rate(attempts))))
	l.add(4, 4, stat("Unclassified", "Share of the failures that no rule explains. The page groups them by wording.", "percentunit", 0.05, 0.2,
		"("+sum(rate(where(failures, `category="unclassified"`)))+" or vector(0)) / "+sum(rate(failures))))
	l.add(4, 4, stat("Alerts firing", "Rules of Prometheus that fire. The daemon's own alerts are on its page.", "none", 1, 3,
		`count(ALERTS{alertname=~"Bouncemeter.+",alertstate="firing"}) or vector(0)`))
	l.add(12, 8, colored(stacked(chart("Outcomes", "What became of the attempts, and messages given up (expired).", "reqps",
		query{sumBy("outcome", rate(all)), "{{outcome}}"}))))
	l.add(12, 8, stacked(chart("Reasons", "Why attempts failed.", "reqps",
		query{sumBy("category", rate(failures)), "{{category}}"})))
	l.add(12, 8, chart("Failed attempts by provider", "Share of the attempts that failed, of the providers with most failures.", "percentunit",
		query{sumBy("provider", rate(failures)) + " / " + sumBy("provider", rate(attempts)) + " and topk(8, " + sumBy("provider", rate(failures)) + ")", "{{provider}}"}))
	l.add(12, 8, chart("Delay", "How long messages had been under way at the attempt that delivered them, as the MTA says.", "s",
		query{quantile("0.5", `,outcome="delivered"`), "median"}, query{quantile("0.95", `,outcome="delivered"`), "95 %"}))
	l.add(24, 9, linked(linked(table("Worst sender domains at providers", "Those whose share of failures rose most, with at least 20 attempts in the time shown. Usual is the mean of the last week, by the recording rules.",
		"percentunit", []string{"now", "usual"},
		"topk(10, "+sumBy("sender_domain, provider", grown(failures))+" / ("+sumBy("sender_domain, provider", grown(attempts))+" >= 20))",
		"avg by (sender_domain, provider) (avg_over_time(sender_domain_provider:bouncemeter_failures:ratio_rate10m{"+here+"}[1w]))"+
			" and on (sender_domain, provider) topk(10, "+sumBy("sender_domain, provider", grown(failures))+" / ("+sumBy("sender_domain, provider", grown(attempts))+" >= 20))"),
		"provider", "Provider", toProvider), "sender_domain", "Sender domain", toDomain))
	l.add(12, 8, linked(table("Reasons in the time shown", "Attempts that failed.", "none", []string{"attempts"},
		sumBy("category", grown(failures))), "category", "This reason on the page", toReason))
	l.add(12, 8, chart("Given up, bounced later, complaints", "Messages that expired in the queue, and news that came after a delivery.", "reqps",
		query{sum(rate(expired)) + " or vector(0)", "given up"}, query{sumBy("outcome", rate(`bouncemeter_notices_total{`+here+`}`)), "{{outcome}}"}))
	return newBoard("overview", "Overview", "What became of outbound mail, and why it failed.", &l)
}

func provider() board {
	const at = `provider="$provider"`
	var l layout
	l.add(6, 4, stat("Attempts", "Tries to deliver to this provider, retries included.", "reqps", 0, 0, sum(rate(where(attempts, at)))))
	l.add(6, 4, stat("Failed attempts", "Share of the attempts that did not deliver.", "percentunit", 0.1, 0.25,
		sum(rate(where(failures, at)))+" / "+sum(rate(where(attempts, at)))))
	l.add(6, 4, stat("Usual", "The mean of the last week, by the recording rules.", "percentunit", 0, 0,
		"avg(avg_over_time(provider:bouncemeter_failures:ratio_rate10m{"+here+","+at+"}[1w]))"))
	l.add(6, 4, stat("Median delay", "Of the attempts that delivered.", "s", 0, 0, quantile("0.5", `,outcome="delivered",`+at)))
	l.add(12, 8, colored(stacked(chart("Outcomes", "What became of the attempts.", "reqps",
		query{sumBy("outcome", rate(where(all, at))), "{{outcome}}"}))))
	l.add(12, 8, band(chart("Failed attempts beside the usual", "The grey band is where four fifths of the last week were, by the recording rules.", "percentunit",
		query{"avg(provider:bouncemeter_failures:ratio_rate10m{" + here + "," + at + "})", "now"},
		query{"avg(quantile_over_time(0.9, provider:bouncemeter_failures:ratio_rate10m{" + here + "," + at + "}[1w]))", "usual, upper"},
		query{"avg(quantile_over_time(0.1, provider:bouncemeter_failures:ratio_rate10m{" + here + "," + at + "}[1w]))", "usual, lower"}),
		"usual, upper", "usual, lower"))
	l.add(24, 10, rows("Reasons over time", "Failed attempts; the darker, the more.", "none",
		query{sumBy("category", "increase("+where(failures, at)+"[$__rate_interval])"), "{{category}}"}))
	l.add(12, 9, linked(table("Reasons", "Failed attempts in the time shown, and the first ones of their recipients: retries left out.", "none",
		[]string{"attempts", "first attempts"},
		sumBy("category, outcome", grown(where(failures, at))),
		sumBy("category, outcome", grown(where(`bouncemeter_first_outcomes_total{`+here+`,outcome=~"deferred|bounced"}`, at)))),
		"category", "This reason on the page", toReason))
	l.add(12, 9, linked(table("Sender domains", "Share of the attempts of the time shown that failed, with at least 20 of them.", "percentunit",
		[]string{"failed"},
		"topk(20, "+sumBy("sender_domain", grown(where(failures, at)))+" / ("+sumBy("sender_domain", grown(where(attempts, at)))+" >= 20))"),
		"sender_domain", "Sender domain", toDomain))
	l.add(24, 8, chart("Delay", "How long messages had been under way at the attempt that delivered them.", "s",
		query{quantile("0.5", `,outcome="delivered",`+at), "median"}, query{quantile("0.95", `,outcome="delivered",`+at), "95 %"}))
	b := newBoard("provider", "Provider", "One receiving provider: what it accepts, what it refuses and why.", &l,
		choose("provider", "Provider", "bouncemeter_attempts_total", false))
	b.Links = append(b.Links, link{Title: "What it says", Type: "link", Icon: "external link", Tags: []string{}, URL: "${page}/provider/${provider:percentencode}", TargetBlank: true})
	return b
}

func domain() board {
	const of = `sender_domain="$sender_domain"`
	ratio := func(function, provider string) string {
		m := "sender_domain_provider:bouncemeter_failures:ratio_rate10m{" + here + "," + of + provider + "}"
		if function == "" {
			return "avg by (provider) (" + m + ")"
		}
		return "avg by (provider) (" + function + m + "[1w]))"
	}
	var l layout
	l.add(6, 4, stat("Attempts", "Tries to deliver mail of this sender domain.", "reqps", 0, 0, sum(rate(where(attempts, of)))))
	l.add(6, 4, stat("Failed attempts", "Share of the attempts that did not deliver.", "percentunit", 0.1, 0.25,
		sum(rate(where(failures, of)))+" / "+sum(rate(where(attempts, of)))))
	l.add(6, 4, stat("Authentication failures", "Refused for SPF, DKIM, DMARC or authentication in general, as a share of the attempts.", "percentunit", 0.01, 0.05,
		"("+sum(rate(where(where(failures, auth), of)))+" or vector(0)) / "+sum(rate(where(attempts, of)))))
	l.add(6, 4, stat("Attempts for each recipient", "All attempts by first ones: above 1 is work for retries.", "none", 0, 0,
		sum(rate(where(attempts, of)))+" / "+sum(rate(`bouncemeter_first_outcomes_total{`+here+`,outcome!="expired",`+of+`}`))))
	l.add(12, 8, colored(stacked(chart("Outcomes", "What became of the attempts.", "reqps",
		query{sumBy("outcome", rate(where(all, of))), "{{outcome}}"}))))
	l.add(12, 8, chart("Authentication failures", "Attempts that servers refused and blamed on SPF, DKIM, DMARC or authentication, as a share of the attempts at the provider.", "percentunit",
		query{sumBy("category, provider", rate(where(where(failures, auth), of))) + " / on (provider) group_left " + sumBy("provider", rate(where(attempts, of))), "{{category}} at {{provider}}"}))
	l.add(12, 8, stacked(chart("Reasons", "Why attempts failed.", "reqps",
		query{sumBy("category", rate(where(failures, of))), "{{category}}"})))
	l.add(12, 8, chart("Attempts and retries", "First attempts are one for each recipient of a message.", "reqps",
		query{sum(rate(where(attempts, of))), "attempts"},
		query{sum(rate(`bouncemeter_first_outcomes_total{` + here + `,outcome!="expired",` + of + `}`)), "first attempts"}))
	l.add(24, 9, linked(table("Providers", "Share of the attempts of the time shown that failed, beside the mean of the last week by the recording rules.", "percentunit",
		[]string{"failed", "usual"},
		sumBy("provider", grown(where(failures, of)))+" / ("+sumBy("provider", grown(where(attempts, of)))+" > 0)",
		ratio("avg_over_time(", "")), "provider", "Provider", toProvider))
	l.heading("Failed attempts at each provider, beside the usual of the last week")
	each := band(chart("$provider", "The grey band is where four fifths of the last week were, by the recording rules.", "percentunit",
		query{ratio("", `,provider=~"$provider"`), "now"},
		query{ratio("quantile_over_time(0.9, ", `,provider=~"$provider"`), "usual, upper"},
		query{ratio("quantile_over_time(0.1, ", `,provider=~"$provider"`), "usual, lower"}),
		"usual, upper", "usual, lower")
	each.Repeat, each.RepeatDirection, each.MaxPerRow = "provider", "h", 4
	l.add(6, 7, each)
	domains := choose("sender_domain", "Sender domain", "bouncemeter_attempts_total", false)
	providers := choose("provider", "Providers", "bouncemeter_attempts_total", true)
	providers.Definition = `label_values(bouncemeter_attempts_total{sender_domain="$sender_domain"}, provider)`
	providers.Query = map[string]any{"query": providers.Definition, "refId": "provider"}
	b := newBoard("domain", "Sender domain", "One sender domain: where its mail fails and what receivers say of its authentication.", &l, domains, providers)
	b.Links = append(b.Links, link{Title: "What servers say", Type: "link", Icon: "external link", Tags: []string{}, URL: "${page}/domain/${sender_domain:percentencode}", TargetBlank: true})
	return b
}

func self() board {
	of := func(metric string) string { return "bouncemeter_" + metric + "{" + here + "}" }
	// lost are the counters that stay at 0 as long as all is well.
	lost := func(what string) query {
		return query{sum("increase(" + of(what+"_total") + "[$__rate_interval])"), strings.ReplaceAll(what, "_", " ")}
	}
	var l layout
	l.add(4, 4, stat("Up", "Daemons that answer.", "none", 0, 0, "count("+of("build_info")+")"))
	l.add(4, 4, stat("Lines", "Lines or records read.", "reqps", 0, 0, sum(rate(of("lines_total")))))
	l.add(4, 4, stat("Unreadable lines", "Share of the lines that should have been records. They are in the dead-letter file.", "percentunit", 0.001, 0.01,
		sum(rate(of("malformed_lines_total")))+" / ("+sum(rate(of("lines_total")))+" > 0)"))
	l.add(4, 4, stat("Waiting", "What is known to wait to be read: bytes of logs, records of partitions.", "none", 0, 0, sum(of("lane_lag"))))
	l.add(4, 4, stat("Failing lanes", "Logs or partitions whose counts cannot be stored at present.", "none", 1, 1, sum(of("lane_failing"))))
	l.add(4, 4, stat("Configuration", "0 after a reload that failed: the old configuration is in force.", "none", 0, 0, "min("+of("config_last_reload_successful")+")"))
	l.heading("Reading")
	l.add(12, 8, chart("Lines by source", "", "reqps", query{sumBy("source", rate(of("lines_total"))), "{{source}}"}))
	l.add(12, 8, chart("Waiting by lane", "Bytes of a log, records of a partition.", "none", query{"max by (source, lane) (" + of("lane_lag") + ")", "{{source}} {{lane}}"}))
	l.add(12, 8, chart("Time since a lane was read", "Grows if a log is gone or its disk hangs.", "s",
		query{"time() - max by (source, lane) (" + of("lane_last_read_timestamp_seconds") + " > 0)", "{{source}} {{lane}}"}))
	l.add(12, 8, chart("Time since the last event", "Grows if no mail is sent, or the log does not grow.", "s",
		query{"time() - max by (source, lane) (" + of("lane_last_event_timestamp_seconds") + " > 0)", "{{source}} {{lane}}"}))
	l.add(12, 8, chart("What should be 0", "Lines that were unreadable or cut, bytes that were gone before they were read, events from the future.", "none",
		lost("malformed_lines"), lost("truncated_lines"), lost("lost_bytes"), lost("future_events")))
	l.add(12, 8, chart("Not attempts, and attempts without a sender", "Address probes, clients that our own server refused, attempts whose sender no line told.", "none",
		lost("probes"), lost("rejected_clients"), lost("unmatched_attempts")))
	l.heading("Memory and limits")
	l.add(8, 8, chart("Names", "How full each dimension is: at 1 further names are folded into (other).", "percentunit",
		query{"max by (dimension) (" + of("names") + " / " + of("names_limit") + ")", "{{dimension}}"}))
	l.add(8, 8, chart("Beyond a limit", "Attempts folded into (other), queue ids forgotten.", "none", lost("folded_attempts"), lost("forgotten_queue_ids")))
	l.add(8, 8, chart("Memory", "", "bytes",
		query{"process_resident_memory_bytes{" + here + "} and on (instance, job) bouncemeter_build_info", "{{instance}} resident"},
		query{"go_memstats_heap_inuse_bytes{" + here + "} and on (instance, job) bouncemeter_build_info", "{{instance}} heap"}))
	l.heading("Ledger")
	l.add(8, 8, chart("Commits", "How long they take.", "s",
		query{"histogram_quantile(0.5, " + sumBy("le", rate(of("ledger_commit_duration_seconds_bucket"))) + ")", "median"},
		query{"histogram_quantile(0.99, " + sumBy("le", rate(of("ledger_commit_duration_seconds_bucket"))) + ")", "99 %"}))
	l.add(8, 8, chart("Commits that failed", "They are tried again, and reading waits meanwhile.", "none", lost("ledger_commit_failures")))
	l.add(8, 8, chart("Processor", "", "percentunit",
		query{"rate(process_cpu_seconds_total{" + here + "}[$__rate_interval]) and on (instance, job) bouncemeter_build_info", "{{instance}}"}))
	l.heading("Notifiers")
	l.add(8, 8, chart("Waiting", "Alerts, or changes of them, that are not delivered yet.", "none", query{"max by (notifier, kind) (" + of("notify_pending") + ")", "{{notifier}}"}))
	l.add(8, 8, chart("Deliveries", "", "reqps",
		query{sumBy("notifier", rate(of("notify_attempts_total"))), "{{notifier}} tried"},
		query{sumBy("notifier", rate(of("notify_failures_total"))), "{{notifier}} failed"},
		query{sumBy("notifier", rate(of("notify_refused_total"))), "{{notifier}} refused"}))
	l.add(8, 8, table("Versions", "", "none", []string{"daemons"}, "count by (version, goversion, instance) (bouncemeter_build_info{"+here+"})"))
	return newBoard("self", "Self", "The daemon itself: how far it has read, what it could not, what waits.", &l)
}
