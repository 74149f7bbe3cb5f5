// What a tab remembers while you move between pages. It lies in the tab's own session storage, so that two tabs never
// see each other's pictures; only tastes (theme, upscaling) are shared, in local storage.

const PREFIX = "unistep.";
const MOST_KEPT = 48;

/** `storage` is the name of one, since even asking for it fails where it is forbidden. */
function read(storage, name, otherwise) {
  try {
    const text = window[storage].getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

function write(storage, name, value) {
  try {
    if (value === undefined || value === null) window[storage].removeItem(PREFIX + name);
    else window[storage].setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false; // full, or forbidden
  }
}

export const remembered = (name, otherwise = null) => read("sessionStorage", name, otherwise);
export const remember = (name, value) => write("sessionStorage", name, value);
export const taste = (name, otherwise = null) => read("localStorage", name, otherwise);
export const setTaste = (name, value) => write("localStorage", name, value);

/** A blob as a data URL, which session storage can hold. */
export function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** The blob of a data URL, without a request. */
export function blobOf(url) {
  const [head, body] = url.split(",", 2);
  const type = /^data:([^;]*)/.exec(head)[1];
  return new Blob([Uint8Array.from(atob(body), (c) => c.charCodeAt(0))], { type });
}

/** The pictures that were kept in this tab, newest first: `{url, title, model, seed}`. */
export const keptPictures = () => remembered("kept", []);

/** Keeps a picture; false where there is no room. */
export function keep(picture) {
  const others = keptPictures().filter((kept) => kept.url !== picture.url);
  return remember("kept", [picture, ...others].slice(0, MOST_KEPT));
}

export function forget(picture) {
  remember("kept", keptPictures().filter((kept) => kept.url !== picture.url));
}

/** Hands a picture to the Brush, which takes it once. */
export const handOver = (picture) => remember("handed", picture);
export function takeHanded() {
  const picture = remembered("handed");
  remember("handed", null);
  return picture;
}
