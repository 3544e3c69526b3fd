// The frame: who is logged in, which view the address names, and what happens
// to keyboard focus between them.

import { me, onUnauthorized, token, whoami } from "./api.js";
import { badge, fill, h, link, notice, place } from "./dom.js";
import { showHub } from "./hub.js";
import { showHubs } from "./hubs.js";
import { showLogin } from "./login.js";

const top = document.getElementById("top");
const main = document.getElementById("main");

// view is what is shown: it ends by its AbortController, and may take a new
// address itself (a tab of the same hub).
let view = { name: "", end: new AbortController(), go: null };

function show(name, render) {
  view.end.abort();
  for (const open of document.querySelectorAll("dialog")) open.close();
  view = { name, end: new AbortController(), go: null };
  const { signal } = view.end;
  view.go = render(main, signal) ?? null;
}

function header() {
  fill(top,
    link(place("hubs"), { class: "brand" }, h("img", { src: "console/icon.svg", alt: "", width: 20, height: 20 }), "hubgate"),
    me && h("span", { class: "where", title: `hubgate ${me.version ?? ""}` }, [me.domain, me.region].filter(Boolean).join(" · ")),
    me && h("span", { class: "who" },
      h("span", { class: "name", title: me.project_id ? `sees project ${me.project_id}` : "sees every project" }, me.name),
      badge("role", me.role),
      h("button", { type: "button", id: "logout", onclick: () => logout() }, "Log out")));
}

function logout(message) {
  token.clear();
  show("login", (root, signal) => showLogin(root, signal, message, start));
  fill(top, h("span", { class: "brand" }, h("img", { src: "console/icon.svg", alt: "", width: 20, height: 20 }), "hubgate"));
}

// route shows what the address after # names.
function route() {
  if (!token.get()) return;
  let parts;
  try {
    parts = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    parts = ["?"];
  }
  const [kind, hub, ...rest] = parts;
  if (kind === undefined || (kind === "hubs" && hub === undefined)) {
    show("hubs", showHubs);
  } else if (kind === "hubs") {
    const name = "hub " + hub;
    if (view.name === name) view.go(rest);
    else show(name, (root, signal) => showHub(root, signal, hub, rest));
  } else {
    show("lost", (root) => {
      fill(root, h("h1", {}, "Nothing here"), notice("info", "There is no such page. ", link(place("hubs"), {}, "See the hubs")));
    });
  }
}

// start begins with the token that is kept.
async function start() {
  try {
    await whoami();
  } catch (error) {
    if (error.status !== 401) logout(error.message);
    return;
  }
  header();
  route();
}

onUnauthorized(() => logout("The token is no longer accepted: log in again."));
addEventListener("hashchange", () => route());
document.getElementById("skip").addEventListener("click", (e) => {
  e.preventDefault(); // the part after # is the view's
  main.focus();
});

if (token.get()) start();
else logout();
