// The models of this folder: what they are, and their sessions of ONNX Runtime, loaded when they are first used.

import { download, fetched, json } from "./fetched.js";
import { openRuntime } from "./runtime.js";
import { TextEncoder as Encoder } from "./texts.js";

const HERE = new URL("../../models/", import.meta.url);
const TOLERANCE = 1e-3; // of what ONNX Runtime in Python computed, relative to the largest value

let options = null;
const known = new Map();

async function described(place) {
  const folder = new URL(`${place}/`, HERE);
  return { ...(await json(new URL("model.json", folder))), folder };
}

/** What `make()` promises, which is asked for once; after a failure, the next request tries again. */
function once(make) {
  let found = null;
  return () => {
    if (found) return found;
    const promise = make();
    found = promise;
    promise.catch(() => (found = null));
    return promise;
  };
}

const all = once(async () => Promise.all((await json(new URL("models.json", HERE))).map(described)));

/** The models as a server lists them. */
export const allModels = async () => (await all()).map(({ id, unistep }) => ({ id, unistep }));

class Model {
  constructor(about) {
    Object.assign(this, about);
    this.texts = about.text ? new Encoder(this) : null;
    this.forget();
    this.ready = once(() => this.reported(() => this.open()));
  }

  forget() {
    this.files = once(() => this.reported(() => this.fetch()));
  }

  /** Brings what sessions are made of, where there is none yet. */
  async arrived() {
    if (!this.session) await this.files();
  }

  say(text, figures) {
    options.say({ model: this.id, text: `${this.id}: ${text}`, figures });
  }

  /** What `work()` promises; a failure is said at the foot of the page, too. */
  async reported(work) {
    try {
      return await work();
    } catch (error) {
      this.say("not loaded");
      throw error;
    }
  }

  /** Brings the files. */
  async fetch() {
    const size = this.bytes + (this.text?.bytes ?? 0);
    let [done, said] = [0, -1];
    const progress = (count) => {
      done += count;
      const share = Math.floor((100 * done) / size);
      if (share !== said) this.say(`loading, ${share} %`);
      said = share;
    };
    const check = new URL("check.bin", this.folder);
    const expected = await (await fetched(check)).arrayBuffer();
    if (expected.byteLength % 4) throw new Error(`${check.pathname} is not complete: copy the whole folder.`);
    const bytes = await download(new URL("model.onnx", this.folder), this.bytes, progress);
    return { bytes, expected: new Float32Array(expected), texts: await this.texts?.fetch(progress) };
  }

  /** Makes sessions of the files. */
  async open() {
    const { bytes, expected, texts } = await this.files();
    const runtime = await openRuntime(options);
    this.say("starting");
    await this.texts?.open(runtime, texts);
    try {
      this.session = await runtime.session(bytes, (session) => this.trial(session, expected));
    } finally {
      this.forget(); // the sessions have them; if there are none, they are brought anew
    }
    const { where, milliseconds, difference } = this.session;
    const license = this.license ? `, licence ${this.license}` : "";
    const figures = `${where}, ${milliseconds.toFixed(0)} ms, agrees to ${difference.toExponential(0)}`;
    this.say(`${figures}${license}`, { engine: where, difference, milliseconds });
    return this;
  }

  /** How far a session is from what Python found, and how long it took. */
  async trial(session, expected) {
    const { first } = await import("./samples.js");
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

/** The model of a name; the first where none is asked for. */
async function named(name) {
  const found = await all();
  const about = found.find(({ id }) => id === name) ?? (name ? null : found[0]);
  if (!about) throw new Error(`There is no model ${name} here; there are ${found.map(({ id }) => id).join(", ")}.`);
  if (!known.has(about.id)) known.set(about.id, new Model(about));
  return known.get(about.id);
}

export const loaded = {
  begin(given) {
    options = given;
  },

  /** Brings the files of a model. */
  arrived: async (name) => (await named(name)).arrived(),

  /** A model that is ready. */
  get: async (name) => (await named(name)).ready(),
};
