// Adds the headers that isolate pages, without which WebAssembly has no threads. Nothing is stored, nothing else changed.
// It ends once something else is where its pages were: later pages at this address are none of its business.

const OWN = '<script src="isolate.js">'; // each page of an export has it
const ISOLATED = ["document", "iframe", "worker", "sharedworker"]; // all others need no headers

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

async function isolated(request) {
  const response = await fetch(request);
  if (response.status === 0) return response;
  if (request.mode === "navigate" && !(await response.clone().text()).includes(OWN)) {
    await self.registration.unregister();
    return response;
  }
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  const { status, statusText } = response;
  return new Response([204, 304].includes(status) ? null : response.body, { status, statusText, headers });
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const own = new URL(request.url).origin === self.location.origin && request.method === "GET";
  if (own && ISOLATED.includes(request.destination)) event.respondWith(isolated(request));
});
