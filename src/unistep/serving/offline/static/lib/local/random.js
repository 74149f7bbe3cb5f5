// Random numbers as Unistep draws them in Python, from PyTorch's generator on CPUs: the same seeds give the same samples.

import { blake2b } from "./blake2b.js";

const SIZE = 624;
const AHEAD = 397;
const MASK = 0xffffff; // of the 32 bits, those that a float takes
const BLOCK = 16; // normal numbers that are made together

/** A seed that depends on all of its parts and on nothing else. */
export const derivedSeed = (...parts) => blake2b(new TextEncoder().encode(parts.join("/"))) >> 1n;

/** The Mersenne Twister (Matsumoto and Nishimura 1998), of which PyTorch takes the lower 32 bits of a seed. */
export class Generator {
  constructor(seed) {
    this.state = new Uint32Array(SIZE);
    this.state[0] = Number(BigInt(seed) & 0xffffffffn);
    for (let i = 1; i < SIZE; i += 1) {
      const before = this.state[i - 1];
      this.state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
    }
    this.at = SIZE;
    this.spare = null;
  }

  refill() {
    const { state } = this;
    for (let i = 0; i < SIZE; i += 1) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
      state[i] = state[(i + AHEAD) % SIZE] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.at = 0;
  }

  /** 32 random bits. */
  bits() {
    if (this.at === SIZE) this.refill();
    let y = this.state[this.at];
    this.at += 1;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** A number in [0, 1). */
  uniform() {
    return (this.bits() & MASK) / (MASK + 1);
  }

  /** An integer in [0, high). */
  integer(high) {
    return this.bits() % high;
  }

  /** A number in [0, 1) in double precision: 53 of 64 bits, of which the first 32 are the upper ones. */
  precise() {
    const upper = this.bits() & 0x1fffff;
    return (upper * 2 ** 32 + this.bits()) / 2 ** 53;
  }

  /** A standard normal number, one of two that are made together; the other is the next. */
  single() {
    const { spare } = this;
    this.spare = null;
    if (spare !== null) return spare;
    const angle = 2 * Math.PI * this.precise();
    const radius = Math.sqrt(-2 * Math.log1p(-this.precise()));
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Standard normal numbers by Box and Muller's method: on blocks, or in double precision below one, as PyTorch has them. */
  normal(count) {
    if (count < BLOCK) return Float32Array.from({ length: count }, () => this.single());
    const x = new Float32Array(count);
    for (let i = 0; i < count; i += 1) x[i] = this.uniform();
    for (let start = 0; start + BLOCK <= count; start += BLOCK) paired(x, start);
    if (count % BLOCK) {
      const start = count - BLOCK; // the last block overlaps with the one before, and is drawn anew
      for (let i = start; i < count; i += 1) x[i] = this.uniform();
      paired(x, start);
    }
    return x;
  }
}

function paired(x, start) {
  for (let i = start; i < start + BLOCK / 2; i += 1) {
    const radius = Math.sqrt(-2 * Math.log(1 - x[i]));
    const angle = 2 * Math.PI * x[i + BLOCK / 2];
    x[i] = radius * Math.cos(angle);
    x[i + BLOCK / 2] = radius * Math.sin(angle);
  }
}
