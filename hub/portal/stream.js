// One event stream: live values and committed readings, opened anew whenever it ends.
//
// It is closed and opened by us rather than by EventSource, which would resume: after a night's sleep a dashboard wants
// what is now, not eight hours of readings.

import { call } from "./api.js";

const RETRY_MS = 2000;

/** Follow the stream until `stop()`; handlers: onLive, onTelemetry, onState(state, message), onSignedOut(). */
export function follow({ onLive, onTelemetry, onState, onSignedOut }) {
  let source = null;
  let timer = 0;
  let stopped = false;

  function open() {
    if (stopped) return;
    source = new EventSource("/api/v1/telemetry/stream?live=true");
    source.addEventListener("open", () => onState("live"));
    source.addEventListener("live", (event) => onLive(JSON.parse(event.data)));
    source.addEventListener("telemetry", (event) => onTelemetry(JSON.parse(event.data)));
    source.addEventListener("error", (event) => {
      const problem = event.data ? JSON.parse(event.data) : null;
      again(problem ? problem.detail : "");
    });
  }

  async function again(message) {
    source.close();
    if (stopped) return;
    onState("lost", message);
    clearTimeout(timer);
    try {
      await call("/auth/me"); // renews the session if that is what ended the stream
    } catch (problem) {
      if (problem.status === 401) return onSignedOut();
    }
    if (!stopped) timer = setTimeout(open, RETRY_MS);
  }

  open();
  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
      source.close();
    },
  };
}
