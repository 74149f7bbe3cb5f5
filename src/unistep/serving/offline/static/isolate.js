// WebAssembly has threads only in pages that are isolated from others, which takes two headers. Where the server of this
// folder does not send them, a service worker adds them, and the page is loaded once more.

if (location.protocol === "file:") {
  // Browsers load no modules from files, so nothing else of the page will say this.
  addEventListener("DOMContentLoaded", () => {
    const line = document.createElement("p");
    line.className = "notice";
    line.textContent = "Browsers run this page from a web server only: python -m http.server --directory THIS_FOLDER, then http://localhost:8000";
    document.getElementById("main").prepend(line);
  });
}

window.unistepIsolated = (async () => {
  const tried = "unistep.isolated";
  if (window.crossOriginIsolated || !navigator.serviceWorker || sessionStorage.getItem(tried)) return;
  await navigator.serviceWorker.register("sw.js", { scope: "./", updateViaCache: "none" });
  await navigator.serviceWorker.ready;
  sessionStorage.setItem(tried, "yes");
  location.reload();
  await new Promise(() => {}); // what waits for this is about to be left
})().catch(() => {}); // not allowed here: one thread, then
