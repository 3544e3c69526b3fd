// One device, in a dialog over its list: what is known of it, and what can be
// done to it.

import { get, may, me, post, remove } from "./api.js";
import { badge, confirm, copyable, dialog, fill, h, notice, problem, time } from "./dom.js";
import { expiry } from "./expiry.js";

export function showDevice(frame, id, signal) {
  const body = h("div", {}, h("p", { class: "muted" }, "Loading…"));
  const open = dialog("Device", { class: "device" }, body);
  const heading = open.element.querySelector("h2");
  const path = ["hubs", frame.hub.id, "devices", id];
  let device = null;
  let drawn = "";

  async function load() {
    try {
      device = await get(path, {}, signal);
    } catch (error) {
      if (!signal.aborted && error.status !== 401) fill(body, problem(error));
      return;
    }
    // What is selected, or has focus, stays as it is while nothing changes.
    const text = JSON.stringify(device);
    if (text !== drawn) draw();
    drawn = text;
  }

  const operator = may("operator");
  const told = h("div");
  const button = (id, text, act, kind) => h("button", { type: "button", id, class: kind, disabled: true, onclick: act }, text);
  // The buttons stay the same while what is told above them changes: none is
  // taken away under a finger.
  const buttons = {
    disable: button("device-disable", "Disable…", () => disable()),
    enable: button("device-enable", "Enable…", () => enable()),
    approve: button("device-approve", "Approve key…", () => approve()),
    end: button("device-end", "End connections…", () => end()),
    erase: button("device-delete", "Delete…", () => erase(), "danger"),
  };

  function draw() {
    const d = device;
    heading.textContent = d.name;
    const row = (name, ...value) => [h("dt", {}, name), h("dd", {}, value)];
    const key = (hash, label) => (hash ? copyable(hash, label, { class: "hash" }) : h("span", { class: "muted" }, "none yet: bound at its first connection"));
    fill(told,
      h("p", { class: "states" }, d.enabled ? badge("ok", "Enabled") : badge("error", "Disabled"), " ",
        h("span", { class: d.is_connected ? "dot on" : "dot" }, d.is_connected ? "Connected" : "Not connected")),
      d.description && h("p", { class: "description" }, d.description),
      h("dl", { class: "pairs" },
        row("Device ID", copyable(d.id, "Device ID")),
        row("Created", time(d.created_at)),
        row("Last activity", d.is_connected ? time(d.last_activity_at) : h("span", { class: "muted" }, "–")),
        row("Provisioned from", d.provisioned_from ? h("code", {}, d.provisioned_from) : h("span", { class: "muted" }, "–")),
        row("Key", key(d.current_key_sha256, "Key hash")),
        d.first_key_sha256 && d.first_key_sha256 !== d.current_key_sha256 && row("First key", key(d.first_key_sha256, "First key's hash")),
        d.pending_key_sha256 && row("Key to approve", key(d.pending_key_sha256, "Hash of the key to approve")),
        d.custom_certificate && row("Custom certificate", expiry(d.custom_certificate.not_after), " ", key(d.custom_certificate.key_sha256, "Custom certificate's key hash")),
        row("Trust anchor's key", key(d.trust_anchor_key_sha256, "Trust anchor's key hash")),
        d.disabled_reason && row("Why it is disabled", d.disabled_reason),
        row("Connections at a time", d.allow_multiple_connections ? "several" : "one"),
        row("Without TLS", d.allow_insecure ? badge("warn", d.has_secret ? "allowed, by its secret" : "allowed, but it has no secret") : "refused"),
        row("Message filters", d.message_filters ? filters(d.message_filters) : "none: every topic")));
    const { disable, enable, approve, end, erase } = buttons;
    const held = document.activeElement;
    disable.hidden = !d.enabled;
    enable.hidden = d.enabled;
    approve.hidden = !d.pending_key_sha256;
    for (const b of [disable, enable, approve, erase]) b.disabled = !operator;
    end.disabled = !operator || !d.is_connected;
    if (told.parentNode !== body) {
      fill(body, told,
        h("div", { class: "actions" }, disable, enable, approve, end, erase),
        !operator && h("p", { class: "hint" }, `Changing devices needs the role operator; this token is ${me.role}.`));
    }
    // A button that had focus and is gone hands it on.
    if (Object.values(buttons).includes(held) && (held.hidden || held.disabled)) (d.enabled ? disable : enable).focus();
  }

  const name = () => h("strong", {}, device.name);
  // That it is done is for the event to tell, here as to everybody else.
  const act = async (what) => {
    await post([...path, what], undefined);
    await load();
  };
  const disable = () => confirm("Disable device",
    [["Disabling ", name(), " ends its connections and refuses new ones, until it is enabled again. This is how a device is banned."]],
    "Disable", () => act("disable"), { danger: true });
  const enable = () => confirm("Enable device", [[name(), " may connect again."]], "Enable", () => act("enable"));
  // The key is the one that was shown when the question was asked: a newer one
  // has to be looked at first.
  const approve = () => {
    const key = device.pending_key_sha256;
    return confirm("Approve key",
      [[name(), " came with the key ", h("code", { class: "hash" }, key), ". From now on it gets in with that, and no longer with the one before."]],
      "Approve", async () => {
        await post([...path, "approve"], { key_sha256: key });
        await load();
      });
  };
  const end = () => confirm("End connections",
    [["The connections that ", name(), " has now are ended. It may connect again at once; to keep it out, disable it."]],
    "End connections", () => act("end-sessions"));
  const erase = async () => {
    const gone = await confirm("Delete device",
      [["Deleting ", name(), " ends its connections and forgets its settings and keys."],
        frame.hub.auto_provisioning
          ? "It is no ban: as auto-provisioning is on, it is created anew when it connects again. To keep it out, disable it instead."
          : "As auto-provisioning is off, it cannot connect again until somebody creates it."],
      "Delete", () => remove(path), { danger: true });
    if (gone) open.close();
  };

  load();
  return {
    closed: open.closed,
    close: open.close,
    refresh: () => { if (device) load(); },
    event(e) {
      if (e["object-id"] !== device?.id) return;
      if (e.reason === "deleted") fill(body, notice("info", "This device was deleted."));
      else load();
    },
  };
}

const filters = (f) => h("span", {}, [["publish", f.publish], ["subscribe", f.subscribe]].map(([what, rule], i) =>
  [i > 0 && "; ", `${what}: ${rule.policy} `, rule.topics?.length ? h("code", {}, rule.topics.join(" ")) : "every topic"]));
