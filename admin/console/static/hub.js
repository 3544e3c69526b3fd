// The page of one hub: its frame (name, switches, live state, tabs), which
// stays while the tabs change, and the one event stream that all of them hear.

import { get, may, me, patch } from "./api.js";
import { showAnchors } from "./anchors.js";
import { showDevices } from "./devices.js";
import { announce, busy, copyable, count, fill, h, link, notice, place, plural, problem } from "./dom.js";
import { showEvents } from "./events.js";
import { expiry } from "./expiry.js";
import { showExplain } from "./explain.js";
import { status } from "./hubs.js";
import { showSettings } from "./settings.js";
import { follow } from "./stream.js";

const tabs = [
  ["devices", "Devices", showDevices],
  ["events", "Events", showEvents],
  ["anchors", "Trust anchors", showAnchors],
  ["explain", "Explain", showExplain],
  ["settings", "Settings", showSettings],
];

// kept bounds the events that are remembered.
const kept = 500;
const refreshEvery = 10_000;

// showHub shows a hub, by name or ID, and returns what a new address within it
// is told to.
export function showHub(root, signal, name, rest) {
  document.title = `${name} – hubgate`;
  fill(root, h("p", { class: "muted loading" }, "Loading…"));
  const frame = {
    hub: null,
    events: [], // newest first: what the stream said
    signal,
    // reload reads the hub anew; the frame and the tab follow.
    reload,
    path: (...parts) => place("hubs", name, ...parts),
  };
  let parts = rest;
  let tab = { name: "", end: new AbortController(), heard: {} };
  const heading = h("h1", { tabindex: -1 }, name);
  const sub = h("div", { class: "sub" });
  const live = h("span", { class: "live", role: "status" });
  const provisioning = h("section", { class: "panel provisioning", "aria-labelledby": "provisioning-label" });
  const facts = h("dl", { class: "panel facts" });
  const nav = h("nav", { class: "tabs", "aria-label": "Hub" });
  const panel = h("div", { class: "tab" });
  signal.addEventListener("abort", () => tab.end.abort());

  async function reload() {
    frame.hub = await get(["hubs", name], {}, signal);
    draw();
    tab.heard.hub?.();
  }

  // Changes that come together are read once.
  let due = 0;
  function reloadSoon() {
    due ||= setTimeout(() => {
      due = 0;
      if (!signal.aborted) reload().catch(gone);
    }, 400);
  }

  function gone(error) {
    if (signal.aborted || error.status === 401) return;
    if (error.status === 404) {
      fill(root, h("h1", {}, name), notice("warn", error.message + ". ", link(place("hubs"), {}, "See the hubs")));
    }
    // Anything else passes, or the live state tells of it.
  }

  function draw() {
    const { hub } = frame;
    fill(heading, hub.name);
    fill(sub, status(hub), copyable(hub.id, "Hub ID", { id: "hub-id" }),
      me.domain && h("span", { class: "muted" }, "Server name ", h("code", {}, `${hub.name}.${me.domain}`)));
    drawProvisioning(provisioning, frame);
    const anchors = hub.trust_anchors;
    const first = anchors.length > 0 && anchors.reduce((a, b) => (a.not_after < b.not_after ? a : b));
    fill(facts,
      fact("Devices", count(hub.devices)),
      fact("Connected", count(hub.connected_devices ?? 0)),
      fact("Trust anchors", count(anchors.length), first && expiry(first.not_after, true)),
      fact("Intermediates", count(hub.intermediates.length)));
  }

  function showTab(rest) {
    const wanted = rest[0] ?? "devices";
    const row = tabs.find(([key]) => key === wanted) ?? tabs[0];
    if (tab.name === row[0]) {
      tab.heard.go?.(rest.slice(1));
      return;
    }
    tab.end.abort();
    tab = { name: row[0], end: new AbortController(), heard: {} };
    fill(nav, tabs.map(([key, text]) => link(frame.path(key), { "aria-current": key === row[0] ? "page" : null, id: `tab-${key}` }, text)));
    // Who went by keyboard stays where they were.
    document.getElementById(`tab-${row[0]}`)?.focus({ preventScroll: true });
    tab.heard = row[2](fill(panel), frame, tab.end.signal, rest.slice(1)) ?? {};
  }

  async function begin() {
    try {
      frame.hub = await get(["hubs", name], {}, signal);
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
      fill(root, h("h1", { tabindex: -1 }, name), problem(error), h("p", {}, link(place("hubs"), {}, "See the hubs")));
      return;
    }
    fill(root,
      h("nav", { class: "crumbs", "aria-label": "Where you are" }, link(place("hubs"), {}, "Hubs"), " / "),
      h("div", { class: "title" }, heading, live),
      sub, h("div", { class: "overview" }, provisioning, facts), nav, panel);
    draw();
    showTab(parts);
    heading.focus({ preventScroll: true });
    const timer = setInterval(() => { if (!document.hidden) reloadSoon(); }, refreshEvery);
    signal.addEventListener("abort", () => clearInterval(timer));
    follow({ hub: frame.hub.id, last: 200 }, {
      state(state, seconds) {
        live.className = "live " + state;
        live.textContent = { connecting: "Connecting…", live: "Live", waiting: `Reconnecting in ${seconds} s` }[state];
      },
      event(e, fresh) {
        frame.events.unshift(e);
        frame.events.length = Math.min(frame.events.length, kept);
        if (fresh) {
          announce(e["object-type"] === "device" ? e.msg.replace(/^device/, `device ${e["object-name"]}`) : e.msg);
          reloadSoon();
        }
        tab.heard.event?.(e, fresh);
      },
      gap(lost) {
        frame.events.unshift({ lost });
        tab.heard.event?.({ lost }, false);
      },
      reset() {
        frame.events.length = 0;
        tab.heard.reset?.();
        reloadSoon();
      },
      failed(error) {
        live.className = "live failed";
        live.textContent = "No live events";
        live.title = error.message;
        gone(error);
      },
    }, signal);
  }
  begin();
  return (rest) => {
    parts = rest;
    if (frame.hub) showTab(rest);
  };
}

const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

// drawProvisioning shows the switch that lets devices create themselves, and if
// it cannot be turned, why, and what to do.
function drawProvisioning(section, frame) {
  const { hub } = frame;
  const on = hub.auto_provisioning;
  const own = hub.has_own_ca ?? hub.trust_anchors.length > 0;
  let cannot = null;
  if (hub.declared_in) {
    cannot = ["This hub is declared in ", h("code", {}, hub.declared_in), ": change ", h("code", {}, "auto_provisioning"), " there. hubgate follows the file without a restart."];
  } else if (!may("operator")) {
    cannot = [`Turning it ${on ? "off" : "on"} needs the role operator; this token is ${me.role}.`];
  } else if (!own && !on) {
    cannot = ["This hub has no trust anchor yet. Add the CA that signed your devices' certificates: ",
      link(frame.path("anchors"), {}, "Trust anchors"), "."];
  }
  const focused = document.activeElement?.id === "provisioning";
  const trouble = section.trouble ??= h("div");
  const toggle = h("button", {
    type: "button", role: "switch", id: "provisioning", class: "switch", "aria-checked": String(on), "aria-disabled": cannot ? "true" : null,
    "aria-labelledby": "provisioning-label", "aria-describedby": "provisioning-text",
    onclick: () => {
      if (cannot) {
        announce(section.querySelector(".cannot").textContent);
        return;
      }
      busy(toggle, async () => {
        try {
          await patch(["hubs", hub.id], { auto_provisioning: !on });
          fill(trouble);
          announce(`Device auto-provisioning is ${on ? "off" : "on"}`);
        } catch (error) {
          fill(trouble, problem(error));
        }
        await frame.reload().catch(() => {});
      });
    },
  }, h("span", { class: "knob" }));
  fill(section,
    h("div", { class: "row" }, h("h2", { id: "provisioning-label" }, "Device Auto-Provisioning"),
      h("span", { class: "value" + (on ? " on" : "") }, on ? "On" : "Off"), toggle),
    h("p", { id: "provisioning-text" }, on
      ? `A device that nobody registered is created at its first connection, if its chain leads to ${hub.trust_anchors.length === 1 ? "this hub's trust anchor" : `one of this hub's ${plural(hub.trust_anchors.length, "trust anchor")}`}.`
      : "Only devices that are known connect. A valid chain of an unknown device is refused."),
    cannot && h("p", { class: "cannot" }, cannot),
    trouble);
  if (focused) toggle.focus({ preventScroll: true });
}

