// The native API, /v1/ of the server that the page came from.

// The token lives as long as the browser's tab.
const key = "hubgate.token";
export const token = {
  get: () => sessionStorage.getItem(key),
  set: (value) => sessionStorage.setItem(key, value),
  clear: () => sessionStorage.removeItem(key),
};

// APIError is an answer that is no success; its message is the server's.
export class APIError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// unauthorized is called when the token is refused: it was withdrawn, or
// rotated. The page sets it.
let unauthorized = () => {};
export const onUnauthorized = (f) => { unauthorized = f; };

// address is that of a path of the API, relative to the page: it works behind a
// proxy that adds a prefix.
function address(parts, query) {
  const url = new URL("v1/" + parts.map(encodeURIComponent).join("/"), document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "" && value !== null) url.searchParams.set(name, value);
  }
  url.hash = "";
  return url;
}

// request sends a request and returns the response of a success.
export async function request(method, parts, { query = {}, body, headers = {}, signal, as } = {}) {
  const sent = as ?? token.get();
  const options = { method, signal, cache: "no-store", credentials: "omit", headers: { ...headers, Authorization: "Bearer " + sent } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(address(parts, query), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new APIError(0, "unreachable", "hubgate does not answer: is it running, and the network up?");
  }
  if (response.ok) return response;
  const failure = await failureOf(response);
  // A later log-in may have another token by now.
  if (failure.status === 401 && as === undefined && token.get() === sent) unauthorized(failure);
  throw failure;
}

async function failureOf(response) {
  try {
    const { error, message } = await response.json();
    return new APIError(response.status, error, message || error);
  } catch {
    return new APIError(response.status, "unknown", `hubgate, or a proxy before it, answered ${response.status} ${response.statusText}`);
  }
}

async function json(method, parts, options) {
  const response = await request(method, parts, options);
  return response.status === 204 ? null : response.json();
}

export const get = (parts, query, signal) => json("GET", parts, { query, signal });
export const post = (parts, body) => json("POST", parts, { body });
export const patch = (parts, body) => json("PATCH", parts, { body });
export const remove = (parts, query) => json("DELETE", parts, { query });

// me is who the token is; whoami asks.
export let me = null;
export async function whoami(as) {
  const response = await request("GET", ["whoami"], { as });
  me = await response.json();
  return me;
}

const roles = ["viewer", "operator", "admin"];

// may tells whether the token's role is enough. The server decides in the end;
// this spares people a button that would be refused.
export const may = (role) => me !== null && roles.indexOf(me.role) >= roles.indexOf(role);
