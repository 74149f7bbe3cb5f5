// Conditions as the tensors that an exported model takes.

import { Generator, derivedSeed } from "./random.js";

const ARRAYS = { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array };

const position = (name, { names, numbers }, given) => {
  const known = names.length ? names.map((each) => each.toLowerCase()) : numbers.map(String);
  const exact = names.indexOf(String(given)); // two may differ in capitals alone
  const at = exact < 0 ? known.indexOf(String(given).toLowerCase()) : exact;
  if (at < 0) throw new Error(`${name} must be one of ${known.join(", ")}, got ${given}.`);
  return at;
};

function action(name, { names, low, high, presets }, given) {
  if (Array.isArray(given)) return given;
  const sums = names.map(() => 0);
  for (const word of String(given).split("+")) {
    if (word === "none" || word === "") continue;
    if (!presets[word]) throw new Error(`${name} must be one of ${Object.keys(presets).join(", ")}, got ${word}.`);
    presets[word].forEach((value, at) => (sums[at] += value));
  }
  return sums.map((value, at) => Math.min(high[at], Math.max(low[at], value)));
}

/** How a value of each kind of field is written, and how one is drawn where none is given; what is missing is null. */
const KINDS = {
  label: {
    write: (name, spec, given) => [BigInt(position(name, spec, given))],
    draw: (spec, generator) => [BigInt(generator().integer(spec.names.length || spec.numbers.length))],
  },
  scalar: {
    write: (name, { low, high }, given) => {
      if (!(given >= low && given <= high)) throw new Error(`${name} must be from ${low} to ${high}, got ${given}.`);
      return [given];
    },
    draw: ({ low, high, default: usual }, generator) => [usual ?? low + (high - low) * generator().uniform()],
  },
  action: { write: action },
};

/** An input of `rows`, one for each item. */
function tensor({ type, shape }, rows) {
  const data = new ARRAYS[type](rows.length * shape.reduce((product, size) => product * size, 1));
  rows.forEach((row, at) => data.set(row, (at * data.length) / rows.length));
  return { type, data, dims: [rows.length, ...shape] };
}

const nothing = ({ type, shape, fill }) => {
  const size = shape.reduce((product, each) => product * each, 1);
  return new ARRAYS[type](size).fill(type === "int64" ? BigInt(fill) : (fill ?? NaN));
};

/**
 * The condition of items. `keys` has the parts of each item's seed, and `changing` says which fields are drawn from all of
 * them; others are drawn from the first alone.
 */
export async function conditionOf(model, given, keys, changing = []) {
  const found = {};
  for (const [name, spec] of Object.entries(model.fields)) {
    const value = given[name];
    const isGiven = value !== undefined && value !== null && value !== "";
    const kind = KINDS[spec.kind];
    if (spec.kind === "text" && isGiven) {
      const parts = await model.texts.encode(name, String(value));
      spec.tensors.forEach((part) => (found[part] = tensor(model.inputs[part], keys.map(() => parts[part]))));
      continue;
    }
    for (const part of spec.tensors) {
      const rows = keys.map((key) => {
        if (isGiven && kind) return kind.write(name, spec, value);
        const seed = () => new Generator(derivedSeed(name, ...(changing.includes(name) ? key : key.slice(0, 1))));
        return kind?.draw ? kind.draw(spec, seed) : nothing(model.inputs[part]);
      });
      found[part] = tensor(model.inputs[part], rows);
    }
  }
  return found;
}

/** A request's condition, with its prompt in the field that takes words. */
export function given({ condition = {}, prompt }, { unistep }) {
  return prompt && unistep.prompt ? { [unistep.prompt]: prompt, ...condition } : condition;
}
