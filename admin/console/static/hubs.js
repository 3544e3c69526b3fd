// The list of hubs.

import { get, may, me, post } from "./api.js";
import { announce, badge, busy, count, dialog, field, fill, h, link, notice, place, plural, problem } from "./dom.js";
import { expiry } from "./expiry.js";
import { follow } from "./stream.js";

// shown bounds the table; who has more hubs searches.
const shown = 500;
const refreshEvery = 15_000;

export function showHubs(root, signal) {
  document.title = "Hubs – hubgate";
  let hubs = [];
  const search = h("input", { type: "search", id: "hub-search", placeholder: "Name or ID", "aria-label": "Search hubs by name or ID", oninput: () => list() });
  const summary = h("div", { class: "muted summary", role: "status" });
  const body = h("div");
  const heading = h("h1", { tabindex: -1 }, "Hubs");
  fill(root,
    h("div", { class: "title" }, heading, h("div", { class: "actions" }, search,
      may("admin") && h("button", { type: "button", class: "primary", id: "create-hub", onclick: () => createHub() }, "Create hub"))),
    summary, body);
  heading.focus();

  function list() {
    const wanted = search.value.trim().toLowerCase();
    const found = hubs.filter((hub) => hub.name.toLowerCase().includes(wanted) || hub.id.startsWith(wanted));
    summary.textContent = hubs.length === 0 ? "" :
      (wanted ? `${count(found.length)} of ${plural(hubs.length, "hub")}` : plural(hubs.length, "hub")) +
      (found.length > shown ? `, the first ${shown} shown: search for others` : "");
    if (hubs.length === 0) {
      fill(body, h("div", { class: "empty panel" },
        h("h2", {}, "No hubs yet"),
        h("p", {}, "A hub is a fleet of devices that one CA vouches for. Create a hub, add the CA that signs your devices' certificates, and turn on auto-provisioning: devices then appear by themselves."),
        !may("admin") && h("p", { class: "muted" }, `Creating hubs needs the role admin; this token is ${me.role}.`)));
      return;
    }
    fill(body, h("div", { class: "panel scroll" }, h("table", { class: "hubs" },
      h("thead", {}, h("tr", {}, ["Name", "Auto-provisioning", "Devices", "Connected", "Trust anchors", "Kept in"].map((t, i) =>
        h("th", { scope: "col", class: i === 2 || i === 3 ? "number" : null }, t)))),
      h("tbody", {}, found.slice(0, shown).map((hub) => h("tr", {},
        h("th", { scope: "row" }, link(place("hubs", hub.name), {}, hub.name), " ", status(hub)),
        h("td", {}, hub.auto_provisioning ? badge("ok", "On") : badge("off", "Off")),
        h("td", { class: "number" }, count(hub.devices)),
        h("td", { class: "number" }, count(hub.connected_devices ?? 0)),
        h("td", {}, anchors(hub)),
        h("td", { class: "muted" }, hub.declared_in ? h("span", { title: hub.declared_in }, "file") : "store")))))));
  }

  async function load() {
    const all = [];
    let cursor;
    do {
      const page = await get(["hubs"], { cursor, limit: 200 }, signal);
      all.push(...page.hubs);
      cursor = page.next;
    } while (cursor);
    hubs = all;
    list();
  }

  // One reload at a time, and another only if something happened meanwhile.
  let loading = false;
  let again = false;
  async function reload() {
    if (loading) {
      again = true;
      return;
    }
    loading = true;
    try {
      await load();
    } catch (error) {
      if (!signal.aborted && error.status !== 401) fill(summary, problem(error));
    }
    loading = false;
    if (again && !signal.aborted) {
      again = false;
      setTimeout(reload, 1000);
    }
  }
  reload();
  const timer = setInterval(() => { if (!document.hidden) reload(); }, refreshEvery);
  signal.addEventListener("abort", () => clearInterval(timer));
  follow({}, { event: () => reload(), gap: () => {}, reset: () => reload(), state: () => {}, failed: () => {} }, signal);
}

export function status(hub) {
  if (hub.status === "deleting") return badge("warn", "Deleting", "Its devices are being deleted");
  return hub.enabled ? null : badge("error", "Disabled", "Every connection to it is refused");
}

function anchors(hub) {
  if (hub.trust_anchors.length === 0) return badge("warn", "None", "No device can connect before it has one");
  const first = hub.trust_anchors.reduce((a, b) => (a.not_after < b.not_after ? a : b));
  return [count(hub.trust_anchors.length), " ", expiry(first.not_after, true)];
}

async function createHub() {
  const name = h("input", {
    type: "text", required: true, maxlength: 63, pattern: "[a-z0-9]([a-z0-9\\-]*[a-z0-9])?", autocomplete: "off", spellcheck: "false",
    title: "lower-case letters, digits and hyphens, as in a host name",
  });
  const trouble = h("div");
  const button = h("button", { type: "submit", class: "primary" }, "Create hub");
  const open = dialog("Create hub", { class: "small" }, h("form", {
    onsubmit: async (e) => {
      e.preventDefault();
      await busy(button, async () => {
        try {
          const hub = await post(["hubs"], { name: name.value });
          announce(`Hub ${hub.name} created`);
          open.close();
          location.hash = place("hubs", hub.name, "anchors");
        } catch (error) {
          fill(trouble, problem(error));
        }
      });
    },
  },
  field("Name", name, `A DNS label, unique, part of the host name that devices may connect to: NAME.${me.domain || "DOMAIN"}`),
  notice("info", "The next step is its trust anchor: the CA that signs your devices' certificates."),
  trouble,
  h("div", { class: "actions" }, h("button", { type: "button", onclick: () => open.close() }, "Cancel"), button)));
  name.focus();
}
