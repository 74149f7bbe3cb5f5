// What models make as files: pictures that say where they come from, bitmaps for the screen, samples of sound.

import { marked } from "../marks.js";

const byte = (value) => Math.round(Math.min(255, Math.max(0, 127.5 * (value + 1))));

/** Numbers `[channels, ..., height, width]` in [-1, 1] as pixels of four bytes. */
function pixels(x, shape) {
  const [height, width] = shape.slice(-2);
  const area = height * width;
  const channels = shape[0];
  const found = new Uint8ClampedArray(4 * area);
  const plane = channels >= 3 ? [0, area, 2 * area] : [0, 0, 0];
  for (let at = 0; at < area; at += 1) {
    plane.forEach((start, channel) => (found[4 * at + channel] = byte(x[start + at])));
    found[4 * at + 3] = channels === 4 ? byte(x[3 * area + at]) : 255;
  }
  return { data: found, height, width };
}

/** A picture as a PNG file that names its model, seed and condition. */
export async function markedPng(x, shape, { model, seed, condition }) {
  const { data, height, width } = pixels(x, shape);
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/png" });
  return marked(blob, { model: model.id, hash: model.hash, seed, condition });
}

/** A picture as a bitmap file, which browsers read quickest. */
export function bitmap(x, shape) {
  const { data, height, width } = pixels(x, shape);
  const head = 54;
  const view = new DataView(new ArrayBuffer(head + 4 * width * height));
  view.setUint16(0, 0x424d);
  view.setUint32(2, view.byteLength, true);
  view.setUint32(10, head, true);
  view.setUint32(14, 40, true); // size of the second header
  view.setInt32(18, width, true);
  view.setInt32(22, -height, true); // from the top
  view.setUint16(26, 1, true);
  view.setUint16(28, 32, true); // bits
  const bytes = new Uint8Array(view.buffer, head);
  for (let at = 0; at < data.length; at += 4) {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]] = [data[at + 2], data[at + 1], data[at], 255];
  }
  return view.buffer;
}

/** Sound, one channel after the other, as 16-bit little-endian samples, channels in turn. */
export function pcm(x, channels = 1) {
  const view = new DataView(new ArrayBuffer(2 * x.length));
  const each = x.length / channels;
  x.forEach((value, at) => {
    const place = (at % each) * channels + Math.floor(at / each);
    view.setInt16(2 * place, Math.round(32767 * Math.min(1, Math.max(-1, value))), true);
  });
  return view.buffer;
}
