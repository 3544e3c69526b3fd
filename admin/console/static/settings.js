// What else can be set on a hub: whether it takes connections at all, and its
// end.

import { may, me, patch, remove } from "./api.js";
import { announce, confirm, fill, h, place, plural } from "./dom.js";

export function showSettings(panel, frame) {
  function draw() {
    const { hub } = frame;
    const declared = hub.declared_in && ["This hub is declared in ", h("code", {}, hub.declared_in), ": change it there."];
    const operator = declared || !may("operator") && [`This needs the role operator; this token is ${me.role}.`];
    const admin = declared || !may("admin") && [`This needs the role admin; this token is ${me.role}.`];
    fill(panel,
      setting(hub.enabled ? "The hub is enabled" : "The hub is disabled",
        hub.enabled ? "Disabling it ends every connection and refuses new ones, until it is enabled again. Nothing is deleted." : "Every connection to it is refused.",
        operator,
        h("button", { type: "button", id: "hub-enabled", class: hub.enabled ? "danger" : "primary", disabled: Boolean(operator), onclick: flip }, hub.enabled ? "Disable hub…" : "Enable hub…")),
      setting("How its devices find it",
        hub.sni_only ? "By server name only: devices have to ask for it in the TLS handshake." : "By server name, or by the CA at the top of their chain.", null),
      setting("Device names",
        hub.unicode_names ? "1 to 64 characters of Unicode." : "1 to 64 printable ASCII characters.", null),
      setting("Delete the hub",
        `It goes with its trust anchors and ${plural(hub.devices, "device")}. This cannot be undone.`,
        admin,
        h("button", { type: "button", id: "hub-delete", class: "danger", disabled: Boolean(admin), onclick: erase }, "Delete hub…")));
  }

  const setting = (title, text, cannot, button) => h("section", { class: "panel setting" },
    h("div", {}, h("h2", {}, title), h("p", { class: "muted" }, text), cannot && h("p", { class: "cannot" }, cannot)), button);

  async function flip() {
    const { hub } = frame;
    const done = await confirm(hub.enabled ? "Disable hub" : "Enable hub",
      [["Every device of ", h("strong", {}, hub.name), hub.enabled ? " is disconnected, and refused until the hub is enabled again." : " may connect again."]],
      hub.enabled ? "Disable hub" : "Enable hub",
      () => patch(["hubs", hub.id], { enabled: !hub.enabled }), { danger: hub.enabled });
    if (!done) return;
    announce(`Hub ${hub.name} ${hub.enabled ? "disabled" : "enabled"}`);
    await frame.reload().catch(() => {});
    document.getElementById("hub-enabled")?.focus();
  }

  async function erase() {
    const { hub } = frame;
    const done = await confirm("Delete hub",
      [["Deleting ", h("strong", {}, hub.name), ` deletes its trust anchors and ${plural(hub.devices, "device")}, and ends their connections. This cannot be undone.`]],
      "Delete hub", () => remove(["hubs", hub.id], { with_devices: hub.devices > 0 ? "true" : undefined }), { danger: true, word: hub.name });
    if (!done) return;
    announce(`Hub ${hub.name} deleted`);
    location.hash = place("hubs");
  }

  draw();
  return { hub: draw };
}
