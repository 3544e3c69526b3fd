// A hub's trust anchors: the CAs that vouch for its devices.

import { get, may, me, post, remove } from "./api.js";
import { announce, badge, busy, confirm, copyable, date, field, fill, h, notice, plural, problem } from "./dom.js";
import { expiry } from "./expiry.js";

export function showAnchors(panel, frame, signal) {
  const list = h("div");
  const adding = h("div");
  const why = frame.hub.declared_in
    ? ["This hub is declared in ", h("code", {}, frame.hub.declared_in), ": its trust anchors are the files under ", h("code", {}, "trust_anchors"), " there."]
    : !may("admin") && [`Adding and retiring trust anchors needs the role admin; this token is ${me.role}.`];
  const add = h("button", { type: "button", class: "primary", id: "add-anchor", disabled: Boolean(why), "aria-expanded": "false", onclick: () => toggle() }, "Add trust anchor");
  fill(panel,
    h("div", { class: "toolbar" }, add, why && h("span", { class: "muted" }, why)),
    adding, list);

  function toggle(open = !adding.hasChildNodes()) {
    add.setAttribute("aria-expanded", String(open));
    fill(adding, open && addForm(frame, async () => {
      toggle(false);
      add.focus();
      await Promise.all([load(), frame.reload()]).catch(() => {});
    }, () => {
      toggle(false);
      add.focus();
    }));
    if (open) adding.querySelector("textarea").focus();
  }

  async function load() {
    try {
      const { anchors } = await get(["hubs", frame.hub.id, "anchors"], {}, signal);
      draw(anchors);
    } catch (error) {
      if (!signal.aborted && error.status !== 401) fill(list, problem(error));
    }
  }

  function draw(anchors) {
    if (anchors.length === 0) {
      fill(list, h("div", { class: "empty panel" }, h("h2", {}, "No trust anchor yet"),
        h("p", {}, "A trust anchor is the CA at the top of your devices' chains: the vendor's, or your own. Until the hub has one, no device can connect.")));
      if (!why) toggle(true);
      return;
    }
    fill(list, h("ul", { class: "cards" }, anchors.map((a) => h("li", { class: "panel anchor" },
      h("div", { class: "row" }, h("h2", {}, a.subject || "(no subject)"), expiry(a.not_after), a.waived && badge("warn", "Proof waived", a.waiver_reason)),
      h("dl", { class: "pairs" },
        pair("Valid", date(a.not_before), " to ", date(a.not_after)),
        pair("Devices", a.devices === undefined ? "–" : `${plural(a.devices, "device")} last admitted by it`),
        a.added_at && pair("Added", date(a.added_at)),
        a.waiver_reason && pair("Waiver", a.waiver_reason),
        pair("Fingerprint", copyable(a.fingerprint_sha256, "Fingerprint", { class: "hash" })),
        pair("Serial", h("code", { class: "hash" }, a.serial))),
      !why && h("div", { class: "actions" }, h("button", { type: "button", class: "danger", onclick: () => retire(a) }, "Retire…"))))));
  }

  const pair = (name, ...value) => [h("dt", {}, name), h("dd", {}, value)];

  async function retire(a) {
    const ends = a.devices > 0;
    const done = await confirm("Retire trust anchor", [
      ["The hub no longer trusts ", h("strong", {}, a.subject), "."],
      ends
        ? `${plural(a.devices, "device")} came in by it last: their connections end, and they are refused unless their chains lead to another trust anchor of this hub.`
        : "No device came in by it last.",
      "To replace a CA without an outage, add its successor first, and retire it when no device comes in by the old one any more.",
    ], ends ? `Retire, and end ${plural(a.devices, "device")}` : "Retire",
    () => remove(["hubs", frame.hub.id, "anchors", a.fingerprint_sha256], { end_devices: ends ? "true" : undefined }),
    { danger: true });
    if (!done) return;
    announce("Trust anchor retired");
    await Promise.all([load(), frame.reload()]).catch(() => {});
    add.focus();
  }

  load();
  return { event: (e, isNew) => { if (isNew && e["object-type"] === "hub") load(); }, reset: load };
}

// addForm takes a CA and the proof that whoever adds it has its key: a
// certificate that names this hub, signed by it.
function addForm(frame, added, cancelled) {
  const { hub } = frame;
  const pem = (id) => h("textarea", { id, rows: 6, spellcheck: "false", autocomplete: "off", placeholder: "-----BEGIN CERTIFICATE-----" });
  const certificate = pem("anchor-certificate");
  const challenge = pem("anchor-challenge");
  const waive = h("input", { type: "checkbox", id: "anchor-waive", onchange: () => show() });
  const reason = h("input", { type: "text", maxlength: 200, id: "anchor-waiver-reason" });
  const trouble = h("div");
  const button = h("button", { type: "submit", class: "primary", id: "anchor-submit" }, "Add trust anchor");
  const proof = h("div", {},
    h("p", { class: "hint" }, "Prove that you have the CA's key: let it sign a certificate whose common name is this hub's ID, valid for at most seven days. With hubgate:"),
    command(`hubgate pki challenge --hub ${hub.id} --ca ca.pem --key ca.key --out challenge.pem`, "hubgate command"),
    h("p", { class: "hint" }, "Or with openssl:"),
    command([
      `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout challenge.key -subj /CN=${hub.id} -out challenge.csr`,
      "openssl x509 -req -in challenge.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -out challenge.pem",
    ].join("\n"), "openssl commands"),
    field("Challenge certificate (PEM)", challenge, "What came out as challenge.pem. Never paste a private key."));
  const waiver = h("div", {},
    notice("warn", "Without the proof, hubgate takes your word that this CA's devices are yours. Whoever holds the CA's key can create devices on this hub. The waiver is kept in the audit log."),
    field("Why the proof is waived", reason, "Kept with the trust anchor."));
  const global = !me.project_id;

  function show() {
    proof.hidden = waive.checked;
    waiver.hidden = !waive.checked;
    reason.required = waive.checked;
  }
  show();

  return h("form", {
    class: "panel add", "aria-label": "Add trust anchor",
    onsubmit: async (e) => {
      e.preventDefault();
      await busy(button, async () => {
        try {
          if (`${certificate.value}${challenge.value}`.includes("PRIVATE KEY")) {
            throw new Error("That holds a private key. It is not needed here, was not sent, and should not be pasted anywhere.");
          }
          const body = { certificate: certificate.value };
          if (waive.checked) Object.assign(body, { waive_proof: true, waiver_reason: reason.value });
          else body.challenge = challenge.value;
          await post(["hubs", hub.id, "anchors"], body);
          announce("Trust anchor added");
          await added();
        } catch (error) {
          fill(trouble, problem(error));
        }
      });
    },
  },
  h("h2", {}, "Add trust anchor"),
  field("CA certificate (PEM)", certificate, "The root, or the intermediate, that the chains of this hub's devices lead to."),
  proof,
  global && h("div", { class: "check" }, waive, h("label", { for: "anchor-waive" }, "The CA is a vendor's, and I do not have its key")),
  waiver, trouble,
  h("div", { class: "actions" }, h("button", { type: "button", onclick: cancelled }, "Cancel"), button));
}

// command is what to type in a terminal, and a button that copies it.
function command(text, label) {
  const copy = copyable(text, label);
  copy.classList.add("command");
  return copy;
}
