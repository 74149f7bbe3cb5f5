// The server's API: requests, their errors, and sockets. Everything goes to the server that the page came from.

import { ApiError } from "./error.js";
import { floats } from "./pcm.js";

const SERVER = new URL("../../", import.meta.url);

/** The key, from the address (`#key=...`), then for as long as the tab lives from its session storage. */
export const apiKey = { value: takeKey() };

function takeKey() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  try {
    if (key) sessionStorage.setItem("unistep.key", key);
    if (key) history.replaceState(null, "", location.pathname + location.search);
    return key || sessionStorage.getItem("unistep.key") || "";
  } catch {
    return key || "";
  }
}

export function setKey(key) {
  apiKey.value = key;
  try {
    sessionStorage.setItem("unistep.key", key);
  } catch {
    // Without storage the key holds for this page alone.
  }
}

window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#key=")) location.reload();
});

async function failure(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // Not JSON: a proxy's page, say.
  }
  const seconds = Number(response.headers.get("Retry-After"));
  const retryAfter = seconds > 0 ? seconds : null;
  return new ApiError(response.status, error.message || `The server answered ${response.status}.`, { ...error, retryAfter });
}

async function request(path, { body, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  if (apiKey.value) headers.Authorization = `Bearer ${apiKey.value}`;
  const isForm = body instanceof FormData;
  if (body && !isForm) headers["Content-Type"] = "application/json";
  const response = await fetch(new URL(path, SERVER), {
    method: body ? "POST" : "GET",
    headers,
    body: body && !isForm ? JSON.stringify(body) : body,
    signal,
    credentials: "omit",
  });
  if (!response.ok) throw await failure(response);
  return response;
}

/** The models that the server has: `[{id, unistep: {...}}]`. */
export async function models(signal) {
  return (await (await request("v1/models", { signal })).json()).data;
}

const number = (response, name) => {
  const text = response.headers.get(name);
  return text === null ? null : Number(text);
};

async function picture(response) {
  const blob = await response.blob();
  return { blob, seed: number(response, "X-Seed"), generationMs: number(response, "X-Generation-Ms") };
}

/** One picture as quickly as it goes: `{blob, seed, generationMs}`. */
export async function image(body, signal) {
  return picture(await request("v1/images/generations", { body: { ...body, n: 1 }, accept: "image/*", signal }));
}

/** Several pictures in one request: `[{blob, seed, generationMs}]`. */
export async function images(body, signal) {
  const response = await request("v1/images/generations", { body: { ...body, response_format: "b64_json" }, signal });
  const { data, output_format: format = "png", usage = {} } = await response.json();
  return data.map(({ b64_json: text, seed }) => ({
    blob: new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], { type: `image/${format}` }),
    seed,
    generationMs: usage.generation_ms ?? null,
  }));
}

/** An edited picture: `{blob, seed, generationMs}`. `fields` are those of the form; missing ones are left out. */
export async function edit(fields, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || value === null) continue;
    if (value instanceof Blob) form.append(name, value, `${name}.png`);
    else form.append(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  }
  return picture(await request("v1/images/edits", { body: form, accept: "image/*", signal }));
}

/** A sound as float samples of one channel: `{samples, rate, seed, generationMs}`. */
export async function sound(body, signal) {
  const response = await request("v1/audio/generate", { body: { ...body, response_format: "pcm" }, accept: "*/*", signal });
  const rate = number(response, "X-Sample-Rate");
  const samples = floats(await response.arrayBuffer(), number(response, "X-Channels") ?? 1);
  return { samples, rate, seed: number(response, "X-Seed"), generationMs: number(response, "X-Generation-Ms") };
}

/** A web socket of the server, with the key in its address, since browsers send no headers there. */
export function socket(path) {
  const url = new URL(path, SERVER);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (apiKey.value) url.searchParams.set("key", apiKey.value);
  const connection = new WebSocket(url);
  connection.binaryType = "arraybuffer";
  return connection;
}
