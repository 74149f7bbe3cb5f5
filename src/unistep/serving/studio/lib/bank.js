// Sounds that were made before: the same strike with the same seed sounds the same, so it need not be made again.

import { sound } from "./api.js";
import { bufferOf } from "./audio.js";

const MOST = 600;
const BAND = 12; // velocities that share a sound

/** The middle of a velocity's band. */
export const banded = (velocity, { low, high }) =>
  Math.min(high, Math.max(low, low + (Math.floor((velocity - low) / BAND) + 0.5) * BAND));

export class Bank {
  constructor() {
    this.sounds = new Map();
    this.wanted = [];
    this.working = false;
    this.generation = 0;
  }

  static name(body) {
    return JSON.stringify([body.model, body.seed, body.num_inference_steps, body.condition]);
  }

  has(body) {
    return this.sounds.get(Bank.name(body))?.ready === true;
  }

  /** The sound of a request, `{buffer, samples, rate}`: from before, on its way already, or made now. */
  get(body, signal) {
    const name = Bank.name(body);
    const known = this.sounds.get(name);
    if (known) return known.promise;
    const entry = { ready: false, promise: Bank.make(body, signal) };
    this.sounds.set(name, entry);
    entry.promise.then(
      () => (entry.ready = true),
      () => this.sounds.delete(name),
    );
    if (this.sounds.size > MOST) this.sounds.delete(this.sounds.keys().next().value);
    return entry.promise;
  }

  /** A sound that is always made anew. */
  static async make(body, signal) {
    const made = await sound(body, signal);
    return { ...made, buffer: bufferOf(made.samples, made.rate) };
  }

  /** Makes sounds beforehand, one after the other, in their order; `progress(ready, of)` after each. */
  prefetch(all, progress = () => {}) {
    const bodies = [...new Map(all.map((body) => [Bank.name(body), body])).values()];
    this.wanted = bodies.filter((body) => !this.has(body)); // those on their way are waited for, too
    this.generation += 1;
    const generation = this.generation;
    const count = () => progress(bodies.filter((body) => this.has(body)).length, bodies.length);
    const work = async () => {
      while (this.wanted.length && generation === this.generation) {
        try {
          await this.get(this.wanted.shift());
        } catch {
          return; // the server is busy or gone; a strike will say so
        }
        if (generation === this.generation) count();
      }
    };
    count();
    return work();
  }
}
