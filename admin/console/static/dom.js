// The page's elements. Text goes in as text: nothing here makes HTML of a
// string, as names and certificate subjects are chosen by devices.

// h makes an element: attributes and listeners (on…) by name, then children,
// which are nodes or text. What is null, undefined or false is left out.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
}

const present = (children) => children.flat(2).filter((c) => c !== null && c !== undefined && c !== false);

// fill replaces what an element holds.
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

// link leads to a place in the console.
export const link = (place, attributes, ...children) => h("a", { ...attributes, href: place }, ...children);

// place is the address of a view: its parts may hold anything.
export const place = (...parts) => "#/" + parts.map(encodeURIComponent).join("/");

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
// brief is for tables: the year, if it is needed, is in the title.
const brief = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const localDate = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const number = new Intl.NumberFormat();

export const count = (n) => number.format(n);

// plural is "1 device", "2 devices".
export const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;

// time shows a moment in the reader's zone, and in UTC on pointing at it.
export function time(iso, style = local) {
  if (!iso) return h("span", { class: "muted" }, "–");
  const at = new Date(iso);
  const utc = at.toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
  return h("time", { datetime: iso, title: utc }, style.format(at));
}

export const briefTime = (iso) => time(iso, brief);

export const date = (iso) => time(iso, localDate);

// marked shows what stands between backquotes as code.
export const marked = (text) => text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));

export const badge = (kind, text, title) => h("span", { class: "badge " + kind, title }, text);

// copyable is text with a button that copies it.
export function copyable(text, label, attributes = {}) {
  const button = h("button", {
    class: "copy", type: "button", "aria-label": `Copy ${label}`,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        announce(`${label} copied`);
      } catch {
        getSelection().selectAllChildren(shown); // no right to the clipboard: leave one key to press
        button.textContent = "Press Ctrl+C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    },
  }, "Copy");
  const shown = h("code", attributes, text);
  return h("span", { class: "copyable" }, shown, button);
}

// notice is a message in a box; kind is info, warn, error or ok.
export const notice = (kind, ...children) => h("div", { class: "notice " + kind, role: kind === "error" ? "alert" : null }, ...children);

// problem shows what went wrong.
export const problem = (error) => notice("error", error.message);

// announce tells screen readers what appeared without being asked for. What
// comes in quick succession is said at once, so that a flood stays one sentence.
const said = [];
let saying = 0;
export function announce(text) {
  said.push(text);
  saying ||= setTimeout(() => {
    const more = said.length - 3;
    document.getElementById("announcer").textContent =
      said.slice(0, 3).join(". ") + (more > 0 ? `. And ${count(more)} more` : "");
    said.length = saying = 0;
  }, 500);
}

// field is a labelled input; its element is field.input.
let fields = 0;
export function field(label, input, hint) {
  input.id ||= `field-${++fields}`;
  if (hint) input.setAttribute("aria-describedby", `${input.id}-hint`);
  const element = h("div", { class: "field" },
    h("label", { for: input.id }, label), input,
    hint && h("p", { class: "hint", id: `${input.id}-hint` }, hint));
  return element;
}

// busy keeps a button from being pressed twice while its work is done.
export async function busy(button, work) {
  if (button.getAttribute("aria-busy") === "true") return undefined;
  button.setAttribute("aria-busy", "true");
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-busy");
  }
}

// dialog opens a modal dialog; the browser traps focus in it and gives it back
// when it closes. Its promise settles when it has closed. Its heading has focus
// first, not a button, so that a key that is still held presses none.
export function dialog(title, attributes, ...children) {
  const heading = `dialog-${++fields}`;
  const element = h("dialog", { "aria-labelledby": heading, ...attributes },
    h("header", {}, h("h2", { id: heading, tabindex: -1, autofocus: true }, title),
      h("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => element.close() }, "×")),
    h("div", { class: "body" }, ...children));
  const closed = new Promise((resolve) => element.addEventListener("close", () => {
    element.remove();
    resolve();
  }));
  // A press on the backdrop closes it.
  element.addEventListener("pointerdown", (e) => { if (e.target === element) element.close(); });
  document.body.append(element);
  element.showModal();
  return { element, closed, close: () => element.close() };
}

// confirm asks before an act: what it does, and a button that says it. The act
// runs with the dialog open, so that its failure is shown where it was asked
// for. It resolves to whether the act was done.
export async function confirm(title, consequences, label, act, { danger = false, word = "" } = {}) {
  let done = false;
  const trouble = h("div");
  const typed = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const go = h("button", { type: "submit", class: danger ? "danger solid" : "primary" }, label);
  const open = dialog(title, { class: "small" },
    h("form", {
      onsubmit: async (e) => {
        e.preventDefault();
        if (word && typed.value !== word) {
          fill(trouble, notice("error", `Type ${word} to go on.`));
          typed.focus();
          return;
        }
        await busy(go, async () => {
          try {
            await act();
            done = true;
            open.close();
          } catch (error) {
            fill(trouble, problem(error));
          }
        });
      },
    },
    consequences.map((c) => h("p", {}, c)),
    word && field(`Type ${word} to confirm`, typed),
    trouble,
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => open.close() }, "Cancel"), go)));
  if (word) typed.focus();
  await open.closed;
  return done;
}
