// Samples of models: noise and conditions in, pictures and sounds out.

import { conditionOf, given } from "./conditions.js";
import { markedPng } from "./files.js";
import { loaded } from "./models.js";
import { Generator } from "./random.js";
import { firstChunks } from "./streams.js";

const size = (shape) => shape.reduce((product, each) => product * each, 1);

/** A point of the great circle between two noises (Shoemake 1985, section 3.3). */
function slerp(a, b, share) {
  let [product, one, two] = [0, 0, 0];
  a.forEach((value, at) => {
    product += value * b[at];
    one += value * value;
    two += b[at] * b[at];
  });
  const angle = Math.acos(Math.min(1, Math.max(-1, product / Math.sqrt(one * two))));
  const sine = Math.sin(angle);
  const [first, second] = sine < 1e-2 ? [1 - share, share] : [Math.sin((1 - share) * angle) / sine, Math.sin(share * angle) / sine];
  return a.map((value, at) => first * value + second * b[at]);
}

function noise(model, seeds, toward) {
  const each = size(model.inputs.noise.shape);
  const data = new Float32Array(each * seeds.length);
  seeds.forEach((seed, at) => {
    let row = new Generator(seed).normal(each);
    if (toward) row = slerp(row, new Generator(toward.seed).normal(each), toward.share);
    data.set(row, at * each);
  });
  return { type: "float32", data, dims: [seeds.length, ...model.inputs.noise.shape] };
}

/** Samples as numbers in [-1, 1], one array for each seed. */
async function samples(model, body, seeds, session) {
  const feeds = { noise: noise(model, seeds, body.toward), ...(await conditionOf(model, given(body, model), seeds.map((seed) => [seed]))) };
  const { sample } = await session.run(feeds);
  const each = sample.data.length / seeds.length;
  return seeds.map((_, at) => sample.data.slice(at * each, (at + 1) * each));
}

/** What the check of a file compares: its first sample, or the first chunks of a stream. */
export async function first(model, session) {
  const { seed, condition, chunks } = model.check;
  return model.stream ? firstChunks(model, seed, condition, chunks, session) : (await samples(model, { condition }, [seed], session))[0];
}

const seedsOf = ({ seed = 0, n = 1 }) => Array.from({ length: n }, (_, index) => seed + index);

/** Requests for pictures: `[{blob, seed, generationMs}]`. */
export async function pictures(body) {
  const model = await loaded.get(body.model);
  const seeds = seedsOf(body);
  const since = performance.now();
  const found = await samples(model, body, seeds, model.session);
  const generationMs = performance.now() - since;
  const condition = given(body, model);
  return Promise.all(
    found.map(async (x, at) => ({ blob: await markedPng(x, model.unistep.shape, { model, seed: seeds[at], condition }), seed: seeds[at], generationMs })),
  );
}

/** A request for a sound: `{samples, rate, seed, generationMs}`. */
export async function sound(body) {
  const model = await loaded.get(body.model);
  const { seed = 0 } = body;
  const since = performance.now();
  const [x] = await samples(model, body, [seed], model.session);
  const generationMs = performance.now() - since;
  const { rate, shape } = model.unistep;
  return { samples: x.slice(0, x.length / shape[0]), rate, seed, generationMs };
}
