// A hub's events, newest first, as they come.

import { briefTime, count, fill, h, link, notice } from "./dom.js";

// drawn bounds the rows in the document.
const drawn = 200;

export function showEvents(panel, frame, signal) {
  let severity = "";
  let held = null; // what was there when "Hold" was pressed
  const choose = h("select", { id: "event-severity", "aria-label": "Severity", onchange: (e) => { severity = e.target.value; draw(); } },
    [["", "Any severity"], ["info", "Info"], ["error", "Errors"]].map(([value, text]) => h("option", { value }, text)));
  const hold = h("button", {
    type: "button", "aria-pressed": "false", onclick: () => {
      held = held ? null : [...frame.events];
      hold.setAttribute("aria-pressed", String(held !== null));
      draw();
    },
  }, "Hold");
  const summary = h("span", { class: "muted", role: "status" });
  const body = h("tbody");
  const table = h("div", { class: "panel scroll" }, h("table", { class: "events", "aria-label": "Events" },
    h("thead", {}, h("tr", {}, ["Time", "Severity", "What", "Message", "Source", "Reason"].map((t, i) =>
      h("th", { scope: "col", class: i > 3 ? "wide" : null }, t)))), body));
  const empty = h("div");
  fill(panel, h("div", { class: "toolbar" }, choose, hold, summary), table, empty);

  const rows = new Map(); // by event: a row is made once
  function draw() {
    const all = held ?? frame.events;
    const wanted = all.filter((e) => !severity || e.severity === severity).slice(0, drawn);
    const used = new Set(wanted);
    for (const [e, row] of rows) {
      if (used.has(e)) continue;
      row.remove();
      rows.delete(e);
    }
    let here = body.firstChild;
    for (const e of wanted) {
      if (!rows.has(e)) rows.set(e, makeRow(e));
      const row = rows.get(e);
      if (row === here) here = here.nextSibling;
      else body.insertBefore(row, here);
    }
    table.hidden = wanted.length === 0;
    summary.textContent = held
      ? `Held${frame.events[0] !== held[0] ? "; more came meanwhile" : ""}`
      : wanted.length === drawn ? `The newest ${count(drawn)}` : "";
    fill(empty, wanted.length === 0 && notice("info", severity === "error" ? "No errors so far." : "Nothing has happened here yet. Events come as they happen."));
  }

  function makeRow(e) {
    if (e.lost) {
      return h("tr", {}, h("td", { colspan: 6, class: "muted" }, `${count(e.lost)} events before this are gone: the store keeps only the newest.`));
    }
    const device = e["object-type"] === "device";
    const what = device && e.reason !== "deleted" && e["object-id"]
      ? link(frame.path("devices", e["object-id"]), {}, e["object-name"] || e["object-id"])
      : device ? e["object-name"] || "–" : "hub";
    return h("tr", { class: e.severity === "error" ? "error" : null },
      h("td", { class: "when" }, briefTime(e.time)),
      h("td", {}, h("span", { class: "severity " + (e.severity === "error" ? "error" : "info") }, e.severity)),
      h("td", { class: "object" }, what),
      h("td", { class: "message" }, e.msg, e.count > 1 && h("span", { class: "badge off" }, `× ${count(e.count)}`)),
      h("td", { class: "wide" }, e["source-address"] ? h("code", {}, e["source-address"]) : h("span", { class: "muted" }, "–")),
      h("td", { class: "wide" }, h("code", { class: "muted", title: e["decision-id"] ? `decision ${e["decision-id"]}` : null }, e.reason)));
  }

  // A burst is drawn once per frame.
  let due = false;
  const soon = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      if (!signal.aborted) draw();
    });
  };
  draw();
  return { event: soon, reset: soon };
}
