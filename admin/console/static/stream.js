// Hub events as they happen: server-sent events, read by fetch, as EventSource
// cannot send the token.

import { request } from "./api.js";

// silence is how long nothing may come before the connection counts as dead;
// the server sends something every 15 s.
const silence = 45_000;
const longestWait = 15_000;

// follow reads the events of one hub (all hubs, without one) until the signal
// aborts: first the last ones of the past, if asked for, then what happens. Each
// event is passed on once, in order, also across reconnections. on has
// event(event, isNew), gap(lost), state("connecting" | "live" | "waiting", seconds),
// reset() after which all has to be read anew, and failed(error), after which
// it gives up.
export async function follow({ hub, last = 0 }, on, signal) {
  let cursor = "";
  let past = last > 0;
  let failures = 0;
  while (!signal.aborted) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener("abort", stop);
    let watchdog = setTimeout(stop, silence);
    try {
      on.state("connecting");
      const response = await request("GET", ["events"], {
        query: past ? { hub, last, follow: "false" } : { hub },
        headers: cursor ? { "Last-Event-ID": cursor } : {},
        signal: attempt.signal,
      });
      if (!past) on.state("live");
      for await (const message of messages(response.body, () => {
        clearTimeout(watchdog);
        watchdog = setTimeout(stop, silence);
        failures = 0;
      })) {
        if (message.id) cursor = message.id;
        if (message.event === "gap") on.gap(JSON.parse(message.data).lost);
        else if (message.event === "message") on.event(JSON.parse(message.data), !past);
      }
      if (past) {
        past = false;
        continue;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.code === "cursor_ahead") {
        cursor = "";
        past = last > 0;
        on.reset();
      } else if ([400, 401, 403, 404].includes(error.status)) {
        on.failed(error);
        return;
      }
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener("abort", stop);
      attempt.abort(); // what may still be open
    }
    await wait(failures++, on, signal);
  }
}

// wait grows from one second, and is spread, so that the consoles of a restarted
// server do not come back at once. The network's return ends it.
function wait(failures, on, signal) {
  if (signal.aborted) return Promise.resolve();
  const pause = Math.min(longestWait, 1000 * 2 ** failures) * (0.5 + Math.random() / 2);
  on.state("waiting", Math.ceil(pause / 1000));
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, pause);
    addEventListener("online", done);
    signal.addEventListener("abort", done);
  });
}

// messages parses an event stream (HTML Standard, 9.2.6); heard is called for
// whatever came, comments included.
async function* messages(body, heard) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = "";
  let message = { id: "", event: "message", data: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (message.data.length > 0) yield { ...message, data: message.data.join("\n") };
        message = { id: "", event: "message", data: [] };
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue; // a comment
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "id") message.id = value;
      else if (name === "event") message.event = value;
      else if (name === "data") message.data.push(value);
    }
  }
}
