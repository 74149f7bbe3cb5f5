// Recording: what was played, mixed again from its samples. That needs neither a microphone nor a secure page, and the
// file is exactly what the model made.

/** A 16-bit WAV file of one channel. */
export function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, index) => view.setInt16(44 + 2 * index, Math.round(Math.max(-1, Math.min(1, value)) * 32767), true));
  return new Blob([view], { type: "audio/wav" });
}

const KEPT = 10; // seconds for which what was played is remembered: a recording begins in the middle of it

/** When a sound is over. */
const ending = ({ samples, rate, at, end }) => Math.min(end, at + samples.length / rate);

export class Recorder {
  constructor() {
    this.entries = null;
    this.played = [];
  }

  get running() {
    return this.entries !== null;
  }

  /** Begins, with what sounds at that time or is yet to sound. */
  start(now) {
    this.entries = this.played.filter((entry) => ending(entry) > now);
    this.began = now;
  }

  /** Notes a sound that starts at `at`; the entry's `end` may be set when it is damped. */
  add(samples, rate, at, level = 1) {
    const entry = { samples, rate, at, level, end: Infinity };
    this.played = [...this.played.filter((each) => ending(each) > at - KEPT), entry];
    this.entries?.push(entry);
    return entry;
  }

  /** Notes that what sounds is stopped, and that what was yet to sound will not. */
  cut(now) {
    for (const entry of this.played) entry.end = Math.min(entry.end, now);
  }

  /** The recording as a WAV file, or null of none; peaks above full scale are brought down together. */
  finish(now) {
    const entries = (this.entries ?? []).filter(({ at, end }) => at <= end);
    this.entries = null;
    if (!entries.length) return null;
    const { rate } = entries[0];
    const last = Math.max(now, ...entries.map(ending));
    const mix = new Float32Array(Math.ceil((last - this.began) * rate));
    for (const { samples, rate: own, at, level, end } of entries) {
      const first = Math.round((at - this.began) * rate);
      const length = Math.min(Math.floor((samples.length * rate) / own), mix.length - first);
      for (let index = Math.max(0, -first); index < length; index += 1) {
        const late = at + index / rate - end; // after the damper fell: 50 ms of decay
        const damping = late <= 0 ? 1 : Math.exp(-late / 0.05);
        mix[first + index] += level * damping * samples[Math.floor((index * own) / rate)];
      }
    }
    const peak = mix.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    return wav(mix.map((value) => value / peak), rate);
  }
}

/** A button that records into a recorder and offers the file at its end; `clock` says the time in seconds. */
export function recordButton(button, recorder, clock, save, say) {
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    if (!recorder.running) {
      recorder.start(clock());
      say("Recording.");
    } else {
      const file = recorder.finish(clock());
      if (file) save(file);
      say(file ? "Recording saved." : "Nothing was played.");
    }
    button.setAttribute("aria-pressed", String(recorder.running));
    button.textContent = recorder.running ? "Stop and save" : "Record";
  });
}
