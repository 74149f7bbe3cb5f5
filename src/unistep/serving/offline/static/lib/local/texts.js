// Texts: to numbers by WordPiece with BERT's rules, and from these to vectors by the encoder's network.

import { download, json } from "./fetched.js";

const MOST_KEPT = 200;
const LONGEST = 1000; // characters, as in Python
const CHINESE = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b820}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;
const NO_TEXT = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\ufffd]/gu;
const PUNCTUATION = /([!-/:-@[-`{-~]|\p{P})/u;

/** Words and marks, in the small letters without accents that the encoder has learned. */
function wordsOf(text, lowercase) {
  let clean = text.replace(/[\t\n\r]/g, " ").replace(NO_TEXT, "").replace(CHINESE, " $& ");
  if (lowercase) clean = clean.normalize("NFD").replace(/\p{Mn}/gu, "").toLowerCase();
  return clean
    .split(/\s+/u)
    .flatMap((part) => part.split(PUNCTUATION))
    .filter(Boolean);
}

export class Tokenizer {
  constructor(rules) {
    Object.assign(this, rules);
    this.known = new Map(rules.vocabulary.map((piece, index) => [piece, index]));
  }

  /** The longest known pieces of a word from its start on; the unknown one where there are none. */
  pieces(word) {
    const letters = [...word];
    if (letters.length > this.longest_word) return [this.unknown];
    const found = [];
    for (let start = 0; start < letters.length; ) {
      let end = letters.length;
      const piece = () => (start ? this.continuing : "") + letters.slice(start, end).join("");
      while (end > start && !this.known.has(piece())) end -= 1;
      if (end === start) return [this.unknown];
      found.push(this.known.get(piece()));
      start = end;
    }
    return found;
  }

  /** The numbers of a text, between the two marks. */
  encode(text) {
    const [first, last] = this.marks;
    return [first, ...wordsOf(text, this.lowercase).flatMap((word) => this.pieces(word)), last];
  }
}

export class TextEncoder {
  constructor(model) {
    this.model = model;
    this.kept = new Map();
  }

  /** Brings the files. */
  async fetch(progress) {
    const { folder, text } = this.model;
    const rules = await json(new URL(text.tokenizer, folder));
    return { rules, bytes: await download(new URL(text.network, folder), text.bytes, progress) };
  }

  /** Makes a session of them. */
  async open(runtime, { rules, bytes }) {
    this.tokenizer = new Tokenizer(rules);
    this.session = await runtime.session(bytes);
  }

  /** The tensors of a text, as rows of the model's inputs. */
  async encode(name, text) {
    const known = this.kept.get(text);
    if (known) return known;
    const letters = [...text];
    if (letters.length > LONGEST) {
      const most = `${name} must have at most ${LONGEST.toLocaleString("en")} characters`;
      throw new Error(`${most}, got ${letters.length.toLocaleString("en")}: ${letters.slice(0, 30).join("")}…`);
    }
    const ids = this.tokenizer.encode(text);
    const { unknown, longest } = this.tokenizer;
    if (ids.slice(1, -1).every((id) => id === unknown)) throw new Error(`${name} has no word that the model knows: ${letters.slice(0, 60).join("")}`);
    const numbers = [...ids.slice(0, Math.min(ids.length, longest) - 1), ids.at(-1)];
    const feeds = { ids: { type: "int64", data: BigInt64Array.from(numbers, BigInt), dims: [numbers.length] } };
    const { vectors } = await this.session.run(feeds);
    const [tokens, mask] = this.model.fields[name].tensors;
    const [length, dim] = this.model.inputs[tokens].shape;
    const count = Math.min(length, vectors.dims[0] - 1); // without the closing mark
    const row = new Float32Array(length * dim);
    row.set(vectors.data.subarray(0, count * dim));
    const found = { [tokens]: row, [mask]: Uint8Array.from({ length }, (_, at) => Number(at < count)) };
    if (this.kept.size >= MOST_KEPT) this.kept.delete(this.kept.keys().next().value);
    this.kept.set(text, found);
    return found;
  }
}
