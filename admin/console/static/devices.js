// A hub's devices. The list holds what was loaded so far, page by page; the
// document holds only the rows in view, however long the list is.

import { get } from "./api.js";
import { badge, briefTime, count, fill, h, link, plural, problem } from "./dom.js";
import { showDevice } from "./device.js";

const pageSize = 200;
const rowHeight = 36; // as in console.css
const overscan = 10; // rows beyond the edges, for fast scrolling
const refreshEvery = 5_000;
// most bounds the devices that are pinned on top as they appear.
const most = 500;

export function showDevices(panel, frame, signal, rest) {
  const filters = { name_prefix: "", enabled: "", connected: "", sort: "name" };
  // arrived are devices that appeared while the list was open, newest first;
  // listed are those of the pages, in the server's order.
  let arrived = [];
  let listed = [];
  let byID = new Map();
  let pages = []; // {cursor, from, to}: which request gave which of listed
  let next = null; // cursor of the next page; "" at the end
  let generation = 0; // of the filters: answers to older ones are dropped
  let loading = false;
  let active = 0; // the row that Tab reaches
  const drawn = new Map(); // rows in the document, by device ID

  const search = h("input", { type: "search", id: "device-search", placeholder: "Name begins with…", "aria-label": "Search devices by the beginning of their name" });
  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => change("name_prefix", search.value), 200);
  });
  const choose = (id, label, name, options) => h("select", { id, "aria-label": label, onchange: (e) => change(name, e.target.value) },
    options.map(([value, text]) => h("option", { value }, text)));
  const summary = h("span", { class: "muted", role: "status", id: "device-summary" });
  const trouble = h("div");
  const above = h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
  const below = h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
  const body = h("tbody", {}, above, below);
  const table = h("table", { class: "devices", "aria-label": "Devices" },
    h("thead", {}, h("tr", {},
      h("th", { scope: "col" }, "Name"), h("th", { scope: "col" }, "State"), h("th", { scope: "col" }, "Connection"),
      h("th", { scope: "col", class: "wide" }, "Last activity"), h("th", { scope: "col", class: "wide" }, "Provisioned from"), h("th", { scope: "col", class: "wide" }, "Created"))),
    body);
  const scroller = h("div", { class: "panel scroll rows", onscroll: () => schedule(), onkeydown: (e) => move(e) }, table);
  const empty = h("div");
  fill(panel,
    h("div", { class: "toolbar" }, search,
      choose("device-state", "State", "enabled", [["", "Any state"], ["true", "Enabled"], ["false", "Disabled"]]),
      choose("device-connection", "Connection", "connected", [["", "Any connection"], ["true", "Connected"], ["false", "Not connected"]]),
      choose("device-sort", "Order", "sort", [["name", "By name"], ["created", "Oldest first"]]),
      summary),
    trouble, scroller, empty);

  const length = () => arrived.length + listed.length;
  const at = (i) => (i < arrived.length ? arrived[i] : listed[i - arrived.length]);

  function change(name, value) {
    if (filters[name] === value) return;
    filters[name] = value;
    reset();
  }

  // reset begins the list anew.
  function reset() {
    generation++;
    arrived = [];
    listed = [];
    byID = new Map();
    pages = [];
    next = null;
    active = 0;
    loading = false;
    scroller.scrollTop = 0;
    more();
  }

  const query = (cursor) => ({ ...filters, cursor, limit: pageSize });

  async function more() {
    if (loading || next === "") return;
    loading = true;
    const mine = generation;
    try {
      const page = await get(["hubs", frame.hub.id, "devices"], query(next ?? undefined), signal);
      if (mine !== generation) return;
      const from = listed.length;
      for (const d of page.devices) {
        if (byID.has(d.id)) continue;
        byID.set(d.id, d);
        listed.push(d);
      }
      pages.push({ cursor: next ?? undefined, from, to: listed.length });
      next = page.next ?? "";
      fill(trouble);
    } catch (error) {
      if (signal.aborted || mine !== generation) return;
      fill(trouble, problem(error), h("button", { type: "button", onclick: () => more() }, "Try again"));
      return; // scrolling tries again, too
    } finally {
      if (mine === generation) loading = false;
    }
    schedule();
  }

  let scheduled = false;
  function schedule() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      if (!signal.aborted) draw();
    });
  }

  const inView = () => {
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - overscan);
    return [first, Math.min(length(), Math.ceil((scroller.scrollTop + scroller.clientHeight) / rowHeight) + overscan)];
  };

  function draw() {
    const total = length();
    active = Math.max(0, Math.min(active, total - 1));
    scroller.hidden = total === 0;
    const [first, last] = inView();
    const wanted = new Set();
    for (let i = first; i < last; i++) wanted.add(at(i).id);
    for (const [id, row] of drawn) {
      if (wanted.has(id)) continue;
      if (row.element.contains(document.activeElement)) scroller.focus({ preventScroll: true });
      row.element.remove();
      drawn.delete(id);
    }
    let here = above.nextSibling;
    for (let i = first; i < last; i++) {
      const d = at(i);
      let row = drawn.get(d.id);
      if (!row) {
        row = makeRow(d);
        drawn.set(d.id, row);
      }
      row.update(d, i, i < arrived.length);
      if (row.element === here) here = here.nextSibling;
      else body.insertBefore(row.element, here);
    }
    above.firstChild.style.height = `${first * rowHeight}px`;
    below.firstChild.style.height = `${(total - last) * rowHeight}px`;
    above.hidden = first === 0;
    below.hidden = last === total;
    table.setAttribute("aria-rowcount", next === "" ? total + 1 : -1);
    summarize(total);
    if (last + overscan >= listed.length + arrived.length && next) more();
  }

  function summarize(total) {
    const filtered = filters.name_prefix || filters.enabled || filters.connected;
    const loaded = next === "";
    if (next === null) summary.textContent = "Loading…";
    else if (loaded) summary.textContent = filtered ? `${plural(total, "device")} found` : plural(total, "device");
    else if (filtered) summary.textContent = `The first ${count(total)} found; scroll for more`;
    else summary.textContent = `${count(total)} of ${plural(Math.max(frame.hub.devices, total), "device")} loaded; scroll for more, or search`;
    if (total > 0 || !loaded) fill(empty);
    else if (filtered) fill(empty, h("div", { class: "empty panel" }, h("p", {}, "No device matches. The search is by the beginning of the name, and minds case.")));
    else fill(empty, h("div", { class: "empty panel" }, h("h2", {}, "No devices yet"), h("p", {}, frame.hub.auto_provisioning
      ? "Connect one: it appears here by itself."
      : "Turn on auto-provisioning, and devices with a valid chain appear here at their first connection.")));
  }

  function makeRow(d) {
    const name = link(frame.path("devices", d.id), {}, d.name);
    const fresh = h("span", { class: "badge fresh" }, "new");
    const [state, connection, activity] = [h("td"), h("td"), h("td", { class: "wide" })];
    const element = h("tr", { "data-device": d.id }, h("th", { scope: "row" }, name, fresh), state, connection, activity,
      h("td", { class: "wide" }, d.provisioned_from ? h("code", {}, d.provisioned_from) : h("span", { class: "muted" }, "–")),
      h("td", { class: "wide" }, briefTime(d.created_at)));
    let was = "";
    return {
      element,
      update(d, i, isFresh) {
        element.setAttribute("aria-rowindex", i + 2);
        name.tabIndex = i === active ? 0 : -1;
        fresh.hidden = !isFresh;
        element.classList.toggle("fresh", isFresh);
        const now = [d.enabled, d.is_connected, d.last_activity_at].join();
        if (now === was) return;
        was = now;
        fill(state, d.enabled ? h("span", { class: "muted" }, "Enabled") : badge("error", "Disabled"));
        fill(connection, h("span", { class: d.is_connected ? "dot on" : "dot" }, d.is_connected ? "Connected" : "–"));
        fill(activity, d.is_connected ? briefTime(d.last_activity_at) : h("span", { class: "muted" }, "–"));
      },
    };
  }

  // move goes through the list by keys: one stop of Tab, whatever its length.
  function move(e) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -Infinity, End: Infinity }[e.key];
    if (step === undefined || e.ctrlKey || e.altKey || e.metaKey || length() === 0) return;
    e.preventDefault();
    const focused = document.activeElement?.closest?.("tr");
    if (!focused) active = Math.max(0, Math.ceil(scroller.scrollTop / rowHeight) - (step > 0 ? 1 : 0));
    active = Math.max(0, Math.min(length() - 1, active + step));
    const top = active * rowHeight;
    const room = scroller.clientHeight - 2 * rowHeight; // without the heading
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top > scroller.scrollTop + room) scroller.scrollTop = top - room;
    draw();
    drawn.get(at(active).id)?.element.querySelector("a").focus({ preventScroll: true });
  }
  body.addEventListener("focusin", (e) => {
    const row = e.target.closest("tr");
    if (row) active = row.getAttribute("aria-rowindex") - 2;
  });
  body.addEventListener("click", (e) => {
    if (e.target.closest("a, button") || getSelection().toString()) return;
    e.target.closest("tr[data-device]")?.querySelector("a").click();
  });

  function merge(d) {
    const known = byID.get(d.id);
    if (known) Object.assign(known, d);
  }

  function forget(id) {
    byID.delete(id);
    arrived = arrived.filter((d) => d.id !== id);
    const i = listed.findIndex((d) => d.id === id);
    if (i >= 0) {
      listed.splice(i, 1);
      for (const p of pages) {
        if (p.from > i) p.from--;
        if (p.to > i) p.to--;
      }
    }
    schedule();
  }

  // appear puts a device on top that was created while the list is open.
  function appear(e) {
    const matches = e["object-name"].startsWith(filters.name_prefix) && filters.enabled !== "false" && filters.connected === "";
    if (byID.has(e["object-id"]) || !matches) return;
    const d = { id: e["object-id"], name: e["object-name"], enabled: true, is_connected: false, provisioned_from: e["source-address"], created_at: e.time };
    byID.set(d.id, d);
    arrived.unshift(d);
    for (const old of arrived.splice(most)) byID.delete(old.id);
    // Who reads further down keeps their place.
    if (scroller.scrollTop > 0) scroller.scrollTop += rowHeight;
    if (document.activeElement?.closest?.("tr")) active++;
    schedule();
  }

  // refresh reads again what is in view: connections come and go without events.
  let refreshing = false;
  async function refresh() {
    if (refreshing || document.hidden || loading) return;
    refreshing = true;
    const mine = generation;
    try {
      const [first, last] = inView();
      const fresh = arrived.slice(first, Math.min(last, arrived.length));
      const [from, to] = [first - arrived.length, last - arrived.length];
      const asked = [
        ...pages.filter((p) => p.from < to && p.to > from).map((p) => get(["hubs", frame.hub.id, "devices"], query(p.cursor), signal).then((page) => page.devices)),
        ...fresh.map((d) => get(["hubs", frame.hub.id, "devices", d.id], {}, signal).then((one) => [one], () => [])),
      ];
      for (const devices of await Promise.all(asked)) {
        if (mine === generation) devices.forEach(merge);
      }
      schedule();
    } catch {
      // The next round tries again; the live state tells of trouble.
    } finally {
      refreshing = false;
    }
  }
  const timer = setInterval(() => {
    if (!document.hidden) open?.refresh();
    refresh();
  }, refreshEvery);
  let soon = 0;
  const refreshSoon = () => {
    soon ||= setTimeout(() => {
      soon = 0;
      if (!signal.aborted) refresh();
    }, 300);
  };
  addEventListener("resize", schedule, { signal });

  // The address may name a device: it is shown over the list.
  let open = null;
  function go([id]) {
    if (open?.id === id) return;
    open?.close();
    open = null;
    if (!id) return;
    const mine = { id, ...showDevice(frame, id, signal) };
    open = mine;
    mine.closed.then(() => {
      if (open !== mine) return;
      open = null;
      // Unless somebody went elsewhere meanwhile.
      if (location.hash === frame.path("devices", mine.id)) location.hash = frame.path("devices");
      drawn.get(mine.id)?.element.querySelector("a").focus();
      refreshSoon();
    });
  }

  signal.addEventListener("abort", () => {
    clearInterval(timer);
    open?.close();
  });
  reset();
  go(rest);
  return {
    go,
    hub: () => schedule(),
    reset,
    event(e, isFresh) {
      if (!isFresh || e["object-type"] !== "device") return;
      if (e.reason === "device_provisioned" || e.reason === "created") appear(e);
      else if (e.reason === "deleted") forget(e["object-id"]);
      else if (e.reason === "enabled" || e.reason === "disabled") merge({ id: e["object-id"], enabled: e.reason === "enabled" });
      open?.event(e);
      refreshSoon();
      schedule();
    },
  };
}
