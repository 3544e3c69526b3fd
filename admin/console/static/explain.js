// Explain: what would become of a device that presents this chain, and why.
// Nothing is created, learned or counted for it.

import { may, me, post } from "./api.js";
import { badge, busy, date, field, fill, h, link, marked, notice, place, problem } from "./dom.js";

export function showExplain(panel, frame, signal) {
  const chain = h("textarea", { rows: 8, spellcheck: "false", autocomplete: "off", id: "explain-chain", placeholder: "-----BEGIN CERTIFICATE-----" });
  const sni = h("input", { type: "text", autocomplete: "off", spellcheck: "false", id: "explain-sni", placeholder: me.domain ? `${frame.hub.name}.${me.domain}` : null });
  const source = h("input", { type: "text", autocomplete: "off", spellcheck: "false", id: "explain-source" });
  const protocol = h("select", { id: "explain-protocol" }, [["tcp", "MQTT"], ["http", "HTTPS"]].map(([value, text]) => h("option", { value }, text)));
  const allowed = may("operator");
  const button = h("button", { type: "submit", class: "primary", id: "explain-submit", disabled: !allowed }, "Explain");
  const answer = h("div", { class: "answer", role: "status", tabindex: -1 });
  fill(panel, h("div", { class: "split" },
    h("form", {
      class: "panel",
      onsubmit: async (e) => {
        e.preventDefault();
        await busy(button, async () => {
          try {
            if (chain.value.includes("PRIVATE KEY")) throw new Error("That holds a private key. It is not needed here, was not sent, and should not be pasted anywhere.");
            const explained = await post(["explain"], { chain: chain.value, sni: sni.value.trim(), source: source.value.trim(), protocol: protocol.value });
            if (!signal.aborted) draw(explained);
          } catch (error) {
            if (!signal.aborted) fill(answer, problem(error));
          }
        });
      },
    },
    field("Chain (PEM, the device's certificate first)", chain, "What the device presents. hubgate decides as if it connected now, and changes nothing."),
    h("div", { class: "fields" },
      field("Server name it asks for", sni, "Empty: the CA decides which hub it is."),
      field("Protocol", protocol),
      field("From address", source)),
    h("div", { class: "actions" }, !allowed && h("span", { class: "muted" }, `Explaining needs the role operator; this token is ${me.role}.`), button)),
    answer));

  function draw(e) {
    const allow = e.decision === "allow";
    fill(answer, h("div", { class: "panel verdict " + e.decision },
      h("div", { class: "row" }, h("h2", {}, { allow: "It gets in", deny: "It is refused" }[e.decision] ?? "hubgate or its set-up failed"), badge(allow ? "ok" : "error", e.reason)),
      h("p", {}, "The device sees: ", h("em", {}, e.message)),
      e.detail && h("p", { class: "detail" }, e.detail),
      e.remedy && notice("info", h("strong", {}, "What to do: "), marked(e.remedy)),
      (e.hub_name || e.device_name) && h("dl", { class: "pairs" },
        e.hub_name && [h("dt", {}, "Hub"), h("dd", {}, link(place("hubs", e.hub_name), {}, e.hub_name), e.hub_id !== frame.hub.id && badge("warn", "another hub"))],
        e.device_name && [h("dt", {}, "Device"), h("dd", {}, e.device_name)]),
      e.certificate && h("dl", { class: "pairs" },
        [h("dt", {}, "At fault"), h("dd", {}, e.certificate.subject || "(no subject)")],
        [h("dt", {}, "Signed by"), h("dd", {}, e.certificate.issuer || "(no name)")],
        [h("dt", {}, "Valid"), h("dd", {}, date(e.certificate.not_before), " to ", date(e.certificate.not_after))]),
      h("ol", { class: "steps" }, (e.steps ?? []).map((s) => h("li", { class: s.ok ? "ok" : "failed" },
        h("span", { class: "mark", "aria-hidden": "true" }, s.ok ? "✓" : "✗"),
        h("span", { class: "name" }, s.name, h("span", { class: "visually-hidden" }, s.ok ? ": passed" : ": failed")),
        h("span", { class: "muted" }, s.detail))))));
    answer.focus({ preventScroll: false });
  }
}
