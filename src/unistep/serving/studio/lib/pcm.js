// Samples of sound as bytes, and as numbers.

/** The first of so many channels of 16-bit little-endian samples, as floats in [-1, 1]. */
export function floats(buffer, channels = 1) {
  const view = new DataView(buffer);
  const samples = new Float32Array(Math.floor(buffer.byteLength / (2 * channels)));
  for (let index = 0; index < samples.length; index += 1) samples[index] = view.getInt16(2 * channels * index, true) / 32768;
  return samples;
}
