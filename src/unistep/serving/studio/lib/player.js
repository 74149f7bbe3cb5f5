// Gapless playback of chunks: each starts, by the audio clock, on the sample on which the one before ends.

import { audio, bufferOf, play } from "./audio.js";

const LEAD = 0.25; // seconds between the first chunk and its sound
const SPARE = 0.02; // a chunk that comes later than this before its time leaves a gap

export class Player {
  constructor() {
    this.reset();
  }

  reset() {
    this.next = 0;
    this.gaps = 0;
    this.chunks = [];
  }

  /** Stops what sounds, and forgets it. */
  stop() {
    for (const { source } of this.chunks) source.stop();
    this.reset();
  }

  /** Schedules samples; returns `{due, seconds, ...about}`. */
  add(samples, rate, about) {
    const now = audio().currentTime;
    if (this.next < now + SPARE) {
      if (this.chunks.length) this.gaps += 1;
      this.next = now + LEAD;
    }
    const { source } = play(bufferOf(samples, rate), this.next);
    const chunk = { ...about, source, due: this.next, seconds: samples.length / rate };
    this.next += chunk.seconds;
    this.chunks = [...this.chunks.slice(-40), chunk];
    return chunk;
  }

  /** Seconds of sound that are there and have not been heard. */
  get buffered() {
    return Math.max(0, this.next - audio().currentTime);
  }
}
