// Samples of sound as bytes, and as numbers.

/** 16-bit little-endian samples as floats in [-1, 1]. */
export function floats(buffer) {
  const view = new DataView(buffer);
  const samples = new Float32Array(buffer.byteLength >> 1);
  for (let index = 0; index < samples.length; index += 1) samples[index] = view.getInt16(2 * index, true) / 32768;
  return samples;
}
