// Animated GIF files: a palette of 256 colours for all frames, and the LZW coding that the format has.

const COLOURS = 256;
const SAMPLES = 60_000; // pixels that choose the palette

/** A palette by median cut: boxes of colours are halved where they are longest, the fullest first. */
function palette(pixels) {
  let boxes = [pixels];
  while (boxes.length < COLOURS) {
    const widths = boxes.map((box) => spread(box));
    const next = widths.reduce((best, { width }, index) => (width * boxes[index].length > widths[best].width * boxes[best].length ? index : best), 0);
    const { channel, width } = widths[next];
    if (!width) break;
    const box = boxes[next].sort((a, b) => a[channel] - b[channel]);
    const middle = box.length >> 1;
    boxes = [...boxes.slice(0, next), box.slice(0, middle), box.slice(middle), ...boxes.slice(next + 1)];
  }
  return boxes.map((box) => [0, 1, 2].map((channel) => Math.round(box.reduce((sum, pixel) => sum + pixel[channel], 0) / box.length)));
}

function spread(box) {
  const widths = [0, 1, 2].map((channel) => {
    let [low, high] = [255, 0];
    for (const pixel of box) {
      low = Math.min(low, pixel[channel]);
      high = Math.max(high, pixel[channel]);
    }
    return box.length > 1 ? high - low : 0;
  });
  const channel = widths.indexOf(Math.max(...widths));
  return { channel, width: widths[channel] };
}

/** The index of the nearest colour for each pixel; colours are looked up once per 6 bits a channel. */
function indices(data, colours, known) {
  const found = new Uint8Array(data.length / 4);
  for (let at = 0; at < found.length; at += 1) {
    const [r, g, b] = [data[4 * at], data[4 * at + 1], data[4 * at + 2]];
    const name = ((r >> 2) << 12) | ((g >> 2) << 6) | (b >> 2);
    if (known[name] < 0) {
      let nearest = Infinity;
      colours.forEach(([x, y, z], index) => {
        const distance = (x - r) ** 2 + (y - g) ** 2 + (z - b) ** 2;
        if (distance < nearest) [nearest, known[name]] = [distance, index];
      });
    }
    found[at] = known[name];
  }
  return found;
}

/** LZW with codes of 9 to 12 bits over bytes, as blocks of at most 255. */
function compressed(bytes) {
  const [CLEAR, END] = [256, 257];
  const out = [];
  let [bits, held, size, next, table] = [0, 0, 9, 258, new Map()];
  const emit = (code) => {
    held |= code << bits;
    for (bits += size; bits >= 8; bits -= 8, held >>>= 8) out.push(held & 255);
  };
  emit(CLEAR);
  let prefix = bytes[0];
  for (let at = 1; at < bytes.length; at += 1) {
    const name = (prefix << 8) | bytes[at];
    if (table.has(name)) {
      prefix = table.get(name);
      continue;
    }
    emit(prefix);
    if (next === 4096) {
      emit(CLEAR);
      [size, next, table] = [9, 258, new Map()];
    } else {
      if (next === 1 << size) size += 1; // the decoder is one entry behind
      table.set(name, next);
      next += 1;
    }
    prefix = bytes[at];
  }
  emit(prefix);
  emit(END);
  if (bits) out.push(held & 255);
  const blocks = [];
  for (let at = 0; at < out.length; at += 255) blocks.push(Math.min(255, out.length - at), ...out.slice(at, at + 255));
  return [...blocks, 0];
}

const short = (value) => [value & 255, value >> 8];

/** A GIF that repeats for ever. `frames` are ImageData of one size, `delay` is the time of each in milliseconds. */
export function gif(frames, { delay = 80 } = {}) {
  const { width, height } = frames[0];
  const every = Math.max(1, Math.floor((frames.length * width * height) / SAMPLES));
  const pixels = [];
  frames.forEach(({ data }) => {
    for (let at = 0; at < data.length; at += 4 * every) pixels.push([data[at], data[at + 1], data[at + 2]]);
  });
  const colours = palette(pixels);
  const known = new Int16Array(1 << 18).fill(-1);
  const table = new Uint8Array(3 * COLOURS);
  colours.forEach((colour, index) => table.set(colour, 3 * index));
  const text = (letters) => [...new TextEncoder().encode(letters)];
  const parts = [[...text("GIF89a"), ...short(width), ...short(height), 0xf7, 0, 0], table];
  parts.push([0x21, 0xff, 11, ...text("NETSCAPE2.0"), 3, 1, 0, 0, 0]);
  for (const { data } of frames) {
    parts.push([0x21, 0xf9, 4, 4, ...short(Math.max(2, Math.round(delay / 10))), 0, 0]);
    parts.push([0x2c, 0, 0, 0, 0, ...short(width), ...short(height), 0, 8], compressed(indices(data, colours, known)));
  }
  parts.push([0x3b]);
  return new Blob(parts.map((part) => Uint8Array.from(part)), { type: "image/gif" });
}
