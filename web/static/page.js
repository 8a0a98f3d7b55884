// Keeps the page live and shows at once what a slot of a chart holds. The page
// works without it.
"use strict";
(() => {
  document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);

  const text = (el) => {
    const title = el.querySelector("title");
    if (title) { // else the browser would show it a second time
      el.dataset.tip = title.textContent;
      title.remove();
    }
    return el.dataset.tip;
  };
  const hide = () => { tip.hidden = true; };
  document.addEventListener("pointermove", (e) => {
    const el = e.target.closest && e.target.closest(".hit, .mark");
    if (!el) { hide(); return; }
    tip.textContent = text(el);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = e.clientX + 14 + box.width > innerWidth ? e.clientX - box.width - 14 : e.clientX + 14;
    const top = Math.min(e.clientY + 12, innerHeight - box.height - 8);
    // Through the object model, which the policy for styles allows.
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.max(4, top) + "px";
  });
  document.addEventListener("pointerdown", (e) => { if (!e.target.closest(".hit, .mark")) hide(); });
  addEventListener("scroll", hide, { passive: true });

  if (!("live" in document.body.dataset) || !window.EventSource) return;
  let waiting = false, loading = false;
  const busy = () => {
    const open = document.querySelector("#custom[open]");
    const typed = [...document.querySelectorAll("#content input:not([type=hidden]), #content textarea")].some((e) => e.value !== e.defaultValue);
    const field = document.activeElement?.matches("input, textarea, select");
    return document.hidden || loading || open || typed || field || !tip.hidden || !getSelection().isCollapsed;
  };
  const refresh = async () => {
    waiting = true;
    if (busy()) return;
    waiting = false;
    loading = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const from = fresh.getElementById("content"), to = document.getElementById("content");
      if (!from || from.innerHTML === to.innerHTML) return;
      // What has the focus keeps it. The same link may be there more than once.
      const key = (e) => e.tagName + (e.getAttribute("href") ?? e.textContent);
      const focused = document.activeElement ? key(document.activeElement) : "";
      const same = (all) => [...all.querySelectorAll("a[href], summary, button")].filter((e) => key(e) === focused);
      const nth = same(to).indexOf(document.activeElement);
      for (const d of to.querySelectorAll("details[id]")) {
        const same = from.querySelector("#" + CSS.escape(d.id));
        if (same) same.open = d.open;
      }
      to.replaceChildren(...from.childNodes);
      document.title = fresh.title;
      if (nth >= 0) (same(to)[nth] ?? same(to)[0])?.focus({ preventScroll: true });
    } catch {
      // The daemon may be restarting; the next change tries again.
    } finally {
      loading = false;
    }
  };
  // Browsers have six connections for a site: one that nobody looks at, such as a
  // page that is kept for the way back, must hold none of them.
  let events = null, missed = false;
  const deaf = () => { events?.close(); events = null; };
  const listen = () => {
    if (document.hidden || events) return;
    const stream = events = new EventSource("/live");
    stream.addEventListener("change", refresh);
    stream.addEventListener("open", () => {
      if (missed) refresh();
      missed = false;
    });
    stream.addEventListener("error", () => {
      missed = true;
      // A browser tries again by itself, unless the answer is an error: that of a
      // proxy, or of a daemon that waits for its ledger.
      if (stream !== events || stream.readyState !== EventSource.CLOSED) return;
      deaf();
      setTimeout(listen, 10000);
    });
  };
  listen();
  setInterval(() => { if (waiting) refresh(); }, 1000);
  addEventListener("pagehide", deaf);
  addEventListener("pageshow", (e) => { if (e.persisted) { refresh(); listen(); } });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { deaf(); return; }
    refresh();
    listen();
  });
})();
