// Sound: one audio context for a page, buffers at the model's rate, and a volume.

let context = null;
let volume = null;
let level = 0.8;
let sampleRate = undefined;

/**
 * Sets the rate of the context before it begins: that of a stream's chunks, so that they follow each other sample by
 * sample and are resampled together.
 */
export function setRate(rate) {
  sampleRate = rate ?? undefined;
}

/** The page's audio context, running after the first key or click, as browsers demand. */
export function audio() {
  if (!context) {
    context = new AudioContext({ latencyHint: "interactive", sampleRate });
    volume = context.createGain();
    volume.gain.value = level;
    volume.connect(context.destination);
  }
  if (context.state !== "running") context.resume();
  return context;
}

/** Where sources connect to. */
export function output() {
  audio();
  return volume;
}

export function setVolume(value) {
  level = value;
  if (volume) volume.gain.value = value;
}

/** What the device adds after a sound was handed over, in seconds, as far as the browser knows. */
export const deviceLatency = () => (context ? (context.baseLatency ?? 0) + (context.outputLatency ?? 0) : 0);

/** A buffer of float samples; it needs no context, which may not run before the first key. */
export function bufferOf(samples, rate) {
  const buffer = new AudioBuffer({ length: Math.max(1, samples.length), sampleRate: rate, numberOfChannels: 1 });
  buffer.copyToChannel(samples, 0);
  return buffer;
}

/** Plays a buffer at a time of the context (0: now) with a gain: `{source, gain, at}`. */
export function play(buffer, at = 0, loudness = 1) {
  const now = audio();
  const source = new AudioBufferSourceNode(now, { buffer });
  const gain = new GainNode(now, { gain: loudness });
  source.connect(gain).connect(output());
  source.start(at);
  return { source, gain, at: at || now.currentTime };
}

/** Lets a sound die away within `seconds`, as a damper does. */
export function damp({ source, gain }, seconds = 0.15) {
  const now = audio().currentTime;
  gain.gain.setTargetAtTime(0, now, seconds / 3);
  source.stop(now + 2 * seconds);
}
