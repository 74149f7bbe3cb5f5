// The models of this folder: what they are, and their sessions of ONNX Runtime, loaded when they are first used.

import { openRuntime } from "./runtime.js";
import { TextEncoder as Encoder } from "./texts.js";

const HERE = new URL("../../models/", import.meta.url);
const TOLERANCE = 1e-3; // of what ONNX Runtime in Python computed, relative to the largest value

let options = null;
const known = new Map();

async function json(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} is missing: copy the whole folder.`);
  return response.json();
}

async function described(place) {
  const folder = new URL(`${place}/`, HERE);
  return { ...(await json(new URL("model.json", folder))), folder };
}

const all = (() => {
  let found = null;
  return () => {
    found ??= json(new URL("models.json", HERE)).then((places) => Promise.all(places.map(described)));
    return found;
  };
})();

/** The models as a server lists them. */
export const allModels = async () => (await all()).map(({ id, unistep }) => ({ id, unistep }));

class Model {
  constructor(about) {
    Object.assign(this, about);
    this.texts = about.text ? new Encoder(this) : null;
  }

  say(text, figures) {
    options.say({ model: this.id, text: `${this.id}: ${text}`, figures });
  }

  async open() {
    const runtime = await openRuntime(options);
    const progress = (share) => this.say(`loading, ${Math.round(100 * share)} %`);
    const bytes = await download(new URL("model.onnx", this.folder), this.bytes, progress);
    this.text && (await this.texts.open(runtime, progress));
    this.say("starting");
    this.session = await runtime.session(bytes, (session) => this.trial(session));
    const { where, milliseconds, difference } = this.session;
    const license = this.license ? `, licence ${this.license}` : "";
    const figures = `${where}, ${milliseconds.toFixed(0)} ms, agrees to ${difference.toExponential(0)}`;
    this.say(`${figures}${license}`, { engine: where, difference, milliseconds });
    return this;
  }

  /** How far a session is from what Python found, and how long it took. */
  async trial(session) {
    const { first } = await import("./samples.js");
    const expected = new Float32Array(await (await fetch(new URL("check.bin", this.folder))).arrayBuffer());
    let milliseconds = Infinity;
    let difference = 0;
    for (let round = 0; round < 3; round += 1) {
      const since = performance.now();
      const found = await first(this, session);
      milliseconds = Math.min(milliseconds, performance.now() - since);
      let [largest, apart] = [1e-6, found.length === expected.length ? 0 : Infinity];
      expected.forEach((value, at) => {
        largest = Math.max(largest, Math.abs(value));
        const here = Math.abs(found[at] - value);
        if (!(here <= apart)) apart = here; // not a number counts, too
      });
      difference = Math.max(difference, apart / largest);
    }
    return { milliseconds, difference, agrees: difference <= TOLERANCE };
  }

  run(feeds) {
    return this.session.run(feeds);
  }
}

export const loaded = {
  begin(given) {
    options = given;
  },

  /** A model that is ready. */
  get(name) {
    if (!known.has(name)) known.set(name, all().then((found) => opened(found, name)));
    const promise = known.get(name);
    promise.catch(() => known.delete(name)); // the next request tries again
    return promise;
  },
};

function opened(found, name) {
  const about = found.find(({ id }) => id === name) ?? (name ? null : found[0]);
  if (!about) throw new Error(`There is no model ${name} here; there are ${found.map(({ id }) => id).join(", ")}.`);
  return new Model(about).open();
}

/** The bytes of a file, with the share of them that has come. */
export async function download(url, size, progress) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} is missing: copy the whole folder.`);
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > size) throw new Error(`${url.pathname} is longer than the page expects: copy the whole folder.`);
    bytes.set(value, at);
    at += value.length;
    progress(at / size);
  }
  if (at !== size) throw new Error(`${url.pathname} is shorter than the page expects: copy the whole folder.`);
  return bytes;
}
