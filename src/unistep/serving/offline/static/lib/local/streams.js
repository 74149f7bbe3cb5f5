// Streams of models: a state for each, of which every chunk is made, under the newest of what the player does.

import { conditionOf, given } from "./conditions.js";
import { bitmap, pcm } from "./files.js";
import { loaded } from "./models.js";
import { Generator, derivedSeed } from "./random.js";

const AHEAD = { video: 0, audio: 2 }; // chunks before they are due: none that answers to keys, some of sound without gaps

const size = (shape) => shape.reduce((product, each) => product * each, 1);
const zeros = ({ shape }) => ({ type: "float32", data: new Float32Array(size(shape)), dims: [1, ...shape] });

/** The state before the first chunk. */
function start(model) {
  const { past, tail } = model.inputs;
  return { number: 0, past: zeros(past), tail: tail ? zeros(tail) : null };
}

/** The next chunk, and the state after it. */
async function step(model, session, seed, state, condition) {
  const generator = new Generator(derivedSeed("chunk", seed, state.number));
  const normal = ({ shape }) => ({ type: "float32", data: generator.normal(size(shape)), dims: [1, ...shape] });
  const feeds = {
    noise: normal(model.inputs.noise),
    context_noise: normal(model.inputs.context_noise),
    number: { type: "int64", data: BigInt64Array.of(BigInt(state.number)), dims: [1] },
    past: state.past,
    ...(state.tail ? { tail: state.tail } : {}),
    ...(await conditionOf(model, condition, [[seed, state.number]], model.stream.changing)),
  };
  const { chunk, next_past: past, next_tail: tail } = await session.run(feeds);
  const kept = ({ data, dims }) => ({ type: "float32", data, dims });
  return [chunk.data, { number: state.number + 1, past: kept(past), tail: tail ? kept(tail) : null }];
}

/** The first chunks of a stream, one after the other. */
export async function firstChunks(model, seed, condition, count, session) {
  let state = start(model);
  const found = [];
  for (let number = 0; number < count; number += 1) {
    const [chunk, after] = await step(model, session, seed, state, condition);
    found.push(...chunk);
    state = after;
  }
  return Float32Array.from(found);
}

export class Stream {
  constructor(asked) {
    this.asked = asked;
    this.condition = { ...asked.condition };
    this.interactions = 0;
    this.model = null;
    this.due = Infinity; // until its model is here
  }

  interact({ type, condition = {} }) {
    if (type !== "session.interaction") return;
    this.interactions += 1;
    Object.assign(this.condition, condition);
  }

  async begin() {
    const model = await loaded.get(this.asked.model);
    const { modality, shape, rate, chunk_seconds: seconds } = model.unistep;
    this.seed = this.asked.seed ?? Math.floor(Math.random() * 2 ** 31);
    this.state = start(model);
    this.media = modality;
    this.period = 1000 * (modality === "video" && this.asked.fps ? 1 / this.asked.fps : seconds);
    this.began = performance.now();
    this.model = model;
    const about = { type: `${modality}.start`, seed: this.seed, model: model.id };
    if (modality === "audio") return { ...about, sample_rate: rate, channels: shape[0], chunk_seconds: seconds };
    const [height, width] = shape.slice(-2);
    return { ...about, width, height, fps: 1000 / this.period };
  }

  /** What is to be said now; `due` is when there will be more. */
  async next() {
    if (!this.model) return [{ about: await this.begin() }];
    const { model, state, interactions } = this;
    const since = performance.now();
    const [chunk, after] = await step(model, model.session, this.seed, state, given(this, model));
    const took = performance.now() - since;
    const bytes = this.media === "video" ? bitmap(chunk, model.unistep.shape) : pcm(chunk, model.unistep.shape[0]);
    const about = {
      type: `${this.media}.chunk_metadata`,
      sequence: state.number,
      pts: (state.number * this.period) / 1000,
      gen_ms: took,
      late: since - this.due > this.period,
      interaction: interactions,
      bytes: bytes.byteLength,
    };
    this.state = after;
    // A picture that comes late moves all that follow: frames are never made faster than they are shown.
    if (this.media === "video") this.due = Math.max(this.due + this.period, since);
    else this.due = this.began + (after.number - AHEAD.audio) * this.period;
    return [{ about, bytes }];
  }
}
