// Calls to the worker that runs the models, and what it says of itself at the foot of the page.

import { ApiError } from "../error.js";

let worker = null;
let count = 0;
const waiting = new Map();
const streams = new Map();

const words = (loaded) => Object.values(loaded).join(" · ");
const known = {};

function say(model, text) {
  known[model] = text;
  let line = document.getElementById("engine");
  if (!line) {
    line = document.createElement("footer");
    line.id = "engine";
    line.setAttribute("role", "status");
    line.className = "soft";
    document.body.append(line);
  }
  line.textContent = words(known);
}

/** Gives up the worker, and all that it was asked for; the next call starts another. */
function lost(message) {
  worker?.terminate();
  worker = null;
  const given = [...waiting.values()];
  const open = [...streams.values()];
  waiting.clear();
  streams.clear();
  given.forEach(({ reject }) => reject(new ApiError(500, message)));
  open.forEach((on) => on({ about: { type: "error", error: { message } } }));
}

function received({ data }) {
  if (data.status) {
    say(data.status.model, data.status.text);
    Object.assign(document.documentElement.dataset, data.status.figures ?? {});
    return;
  }
  if (data.fatal) {
    lost(data.error ?? data.message.about.error.message);
    return;
  }
  if (data.stream) {
    streams.get(data.stream)?.(data.message);
    return;
  }
  const { resolve, reject } = waiting.get(data.id) ?? {};
  waiting.delete(data.id);
  if (data.error) reject?.(new ApiError(400, data.error));
  else resolve?.(data.result);
}

async function started() {
  await window.unistepIsolated; // the page may be loaded once more
  if (!worker) {
    worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    worker.onmessage = received;
    worker.onerror = (event) => {
      event.preventDefault();
      lost(event.message || "The models cannot be run: this browser has no module workers, or a file of the page is missing.");
    };
    worker.postMessage({ kind: "begin", search: location.search, isolated: window.crossOriginIsolated });
  }
  return worker;
}

/** What the worker makes of a request; an error of the worker is an `ApiError`. */
export async function call(kind, body, signal) {
  const to = await started();
  signal?.throwIfAborted();
  count += 1;
  const id = count;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    signal?.addEventListener("abort", () => {
      if (!waiting.delete(id)) return;
      to.postMessage({ kind: "cancel", id });
      reject(signal.reason);
    });
    to.postMessage({ kind, id, body });
  });
}

/** Opens a stream; `on(message)` gets what the worker says of it. Returns what sends messages to it. */
export function stream(on) {
  count += 1;
  const id = count;
  streams.set(id, on);
  return {
    send: async (body) => {
      const to = await started();
      if (streams.has(id)) to.postMessage({ kind: "stream", id, body });
    },
    close: () => {
      streams.delete(id);
      worker?.postMessage({ kind: "stream", id, body: { type: "session.stop" } });
    },
  };
}
