// Log in: a token is pasted, and tried.

import { token, whoami } from "./api.js";
import { busy, field, fill, h, notice, problem } from "./dom.js";

export function showLogin(root, signal, message, then) {
  document.title = "Log in – hubgate";
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true, id: "token" });
  const trouble = h("div", {}, message && notice("warn", message));
  const button = h("button", { type: "submit", class: "primary" }, "Log in");
  const form = h("form", {
    onsubmit: async (e) => {
      e.preventDefault();
      const value = input.value.trim();
      await busy(button, async () => {
        try {
          // A header cannot hold what is outside of Latin-1, and no token does.
          if (!/^[\x21-\x7e]+$/.test(value)) throw new Error("That is no token: it is one word, a UUID.");
          await whoami(value);
        } catch (error) {
          if (signal.aborted) return;
          fill(trouble, problem(error));
          input.select();
          return;
        }
        token.set(value);
        then();
      });
    },
  },
  field("Token", input, "It stays in this browser tab, and is forgotten when the tab closes."),
  trouble,
  h("div", { class: "actions" }, button));
  fill(root, h("section", { class: "login panel" },
    h("h1", {}, "Log in to hubgate"),
    form,
    h("details", {},
      h("summary", {}, "Where do I find a token?"),
      h("p", {}, "At its first start hubgate writes an admin token into ", h("code", {}, "hubgate.token"), " beside its store, or where ", h("code", {}, "admin.token_file"), " says; its log names the file. More are made with:"),
      h("pre", {}, "hubgate token create NAME --role operator"))));
  input.focus();
}
