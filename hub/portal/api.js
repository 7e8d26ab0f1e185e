// The hub's API with the session in cookies: renewed when it has run out, problems turned into messages.

/** An answer that is not what was asked for; `status` is 0 where the hub did not answer. */
export class Failure extends Error {
  constructor(status, message, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const TIMEOUT_MS = 15000;
const CLOCK_TOLERANCE_MS = 2000;
let renewal = null;
let clockOffset = 0;

/** The hub's time in milliseconds, as far as its answers tell. */
export function hubNow() {
  return Date.now() + clockOffset;
}

/** The JSON answer (null where there is none). Throws Failure. */
export async function call(path, { method = "GET", body, renew = true } = {}) {
  const answer = await send(path, method, body);
  if (answer.status === 401 && renew && mayBeSignedIn() && (await renewSession())) return call(path, { method, body, renew: false });
  if (!answer.ok) throw await failure(answer);
  return answer.status === 204 ? null : answer.json();
}

/** All entries of a paged list. */
export async function all(path, plural) {
  const found = [];
  for (let page = 1; ; page += 1) {
    const separator = path.includes("?") ? "&" : "?";
    const answer = await call(`${path}${separator}page=${page}&page_size=100`);
    found.push(...answer[plural]);
    if (answer[plural].length === 0 || found.length >= (answer.total ?? 0)) return found;
  }
}

/** Whether there is a session, or one that may be renewed. */
export function mayBeSignedIn() {
  return cookie("csrf_token") !== "";
}

/** A new session for the refresh cookie; false where that is no longer good. */
function renewSession() {
  renewal ??= alone(async () => {
    if ((await send("/auth/me", "GET")).ok) return true; // another tab was quicker
    return (await send("/auth/refresh", "POST", {})).ok;
  }).finally(() => { renewal = null; });
  return renewal;
}

/** One tab at a time, as a refresh token that is used twice ends the whole sign-in. */
function alone(work) {
  return navigator.locks ? navigator.locks.request("labrelay-session", work) : work();
}

async function send(path, method, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRF-Token"] = cookie("csrf_token");
  try {
    const answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    learnClock(answer.headers.get("Date"));
    return answer;
  } catch {
    throw new Failure(0, "The hub does not answer. Is it running? This page goes on by itself when it does.");
  }
}

function learnClock(date) {
  const offset = Date.parse(date ?? "") - Date.now();
  if (!Number.isNaN(offset)) clockOffset = Math.abs(offset) > CLOCK_TOLERANCE_MS ? offset : 0;
}

async function failure(answer) {
  try {
    const problem = await answer.json();
    return new Failure(answer.status, problem.detail ?? answer.statusText, problem.code);
  } catch {
    return new Failure(answer.status, `The hub answered ${answer.status} ${answer.statusText}.`);
  }
}

function cookie(name) {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}
