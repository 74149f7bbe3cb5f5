// Files of this folder. The server is asked for each anew: one that a browser kept of an earlier export would not fit the rest.

const COPY = "copy the whole folder.";

/** Files that came damaged: a server may take the whole one, with an older date, for what the browser has already. */
const damaged = new Set();

function broken(url, how) {
  damaged.add(url.href);
  return new Error(`${url.pathname} is ${how}: ${COPY}`);
}

/** The response for a file. */
export async function fetched(url) {
  let response = null;
  try {
    response = await fetch(url, { cache: damaged.has(url.href) ? "reload" : "no-cache" });
  } catch {
    throw lost(url);
  }
  if (!response.ok) throw new Error(`${url.pathname} is missing: ${COPY}`);
  return response;
}

const lost = ({ pathname }) => new Error(`${pathname} does not arrive. Is the server of this page still there?`);

/** What a file of JSON holds. */
export async function json(url) {
  const text = await (await fetched(url)).text().catch(() => Promise.reject(lost(url)));
  try {
    return JSON.parse(text);
  } catch {
    throw broken(url, "not complete");
  }
}

/** The bytes of a file of a known size; `progress(count)` for those that came last. */
export async function download(url, size, progress = () => {}) {
  const response = await fetched(url);
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read().catch(() => Promise.reject(lost(url)));
    if (done) break;
    if (at + value.length > size) throw broken(url, "longer than the page expects");
    bytes.set(value, at);
    at += value.length;
    progress(value.length);
  }
  if (at !== size) throw broken(url, "shorter than the page expects");
  return bytes;
}
