// The Brush's layers in the model's own size: the picture, what it was before the last edit, and the cover (what to make anew).

import { fitted, ink } from "./chart.js";
import { History } from "./history.js";
import { COMPOSITE } from "./marks.js";

const surface = (width, height) => Object.assign(document.createElement("canvas"), { width, height });
const pen = (canvas) => canvas.getContext("2d", { willReadFrequently: true });

export class Easel {
  /**
   * `layers` are the canvases `{picture, before, cover, touch}`; `tool()` says `{kind, size, colour}`, the kind being
   * cover, uncover or paint; `stroked(event, done)` is called while a stroke grows and at its end; `changed()` after every change.
   */
  constructor(layers, { tool, stroked, changed, say }) {
    Object.assign(this, { layers, tool, stroked, changed, say, last: null, cursor: { x: 0, y: 0 }, down: false, pointer: null, made: null });
    this.history = new History((state) => this.show(state), () => changed());
    this.bind();
  }

  /** Sets the size of the layers; what they show is gone. */
  resize(width, height) {
    for (const name of ["picture", "before", "cover"]) Object.assign(this.layers[name], { width, height });
    this.cursor = { x: width / 2, y: height / 2 };
  }

  get width() {
    return this.layers.picture.width;
  }

  get height() {
    return this.layers.picture.height;
  }

  /**
   * Puts a picture on the easel, cropped to its middle and on white where it is transparent. `kept` says whether the last
   * one remains to compare with, `made` what a file of it says: `{model, seed, condition, source}`, null where no model
   * had a part in it.
   */
  put(image, { kept = false, made = null } = {}) {
    const { width, height } = this;
    const before = kept ? this.pixels("picture") : null;
    const scale = Math.max(width / image.width, height / image.height);
    const [w, h] = [image.width * scale, image.height * scale];
    const context = pen(this.layers.picture);
    context.imageSmoothingEnabled = scale !== 1;
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, width, height);
    context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
    if (!kept) pen(this.layers.cover).clearRect(0, 0, width, height);
    const state = { picture: this.pixels("picture"), cover: this.pixels("cover"), before, made };
    if (kept) this.history.push(state);
    else this.history.begin(state);
    this.show(state);
  }

  fill(colour) {
    const blank = surface(this.width, this.height);
    pen(blank).fillStyle = colour;
    pen(blank).fillRect(0, 0, this.width, this.height);
    this.put(blank);
  }

  pixels(name) {
    return pen(this.layers[name]).getImageData(0, 0, this.width, this.height);
  }

  show({ picture, cover, before, made }) {
    pen(this.layers.picture).putImageData(picture, 0, 0);
    pen(this.layers.cover).putImageData(cover, 0, 0);
    this.hasBefore = before !== null;
    this.made = made;
    if (before) pen(this.layers.before).putImageData(before, 0, 0);
    this.changed();
  }

  uncoverAll() {
    pen(this.layers.cover).clearRect(0, 0, this.width, this.height);
    this.remember();
  }

  remember() {
    const before = this.hasBefore ? this.pixels("before") : null;
    this.history.push({ picture: this.pixels("picture"), cover: this.pixels("cover"), before, made: this.made });
  }

  /** Whether anything is covered. */
  get covered() {
    return this.pixels("cover").data.some((value, index) => index % 4 === 3 && value > 127);
  }

  /** The cover as a mask: white where to make anew, black elsewhere. */
  mask() {
    const canvas = surface(this.width, this.height);
    const pixels = this.pixels("cover");
    for (let at = 0; at < pixels.data.length; at += 4) {
      pixels.data.fill(pixels.data[at + 3] > 127 ? 255 : 0, at, at + 3);
      pixels.data[at + 3] = 255;
    }
    pen(canvas).putImageData(pixels, 0, 0);
    return canvas;
  }

  /** The picture a quarter as wide and high, each pixel the mean of sixteen. */
  quarter() {
    let canvas = this.layers.picture;
    for (let step = 0; step < 2; step += 1) {
      const half = surface(Math.max(1, canvas.width >> 1), Math.max(1, canvas.height >> 1));
      pen(half).drawImage(canvas, 0, 0, half.width, half.height); // halving by interpolation is the mean of four
      canvas = half;
    }
    return canvas;
  }

  bind() {
    const { touch } = this.layers;
    // Of several fingers the first one paints; `pointer` is null where a key holds the brush down.
    const other = ({ pointerId }) => this.down && this.pointer !== null && pointerId !== this.pointer;
    touch.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || other(event)) return;
      this.lift(event); // what a key put down
      touch.setPointerCapture(event.pointerId);
      this.pointer = event.pointerId;
      this.down = true;
      this.last = null;
      this.stroke(this.place(event), event);
    });
    touch.addEventListener("pointermove", (event) => {
      if (other(event) || (this.down && this.pointer === null)) return;
      this.cursor = this.place(event);
      if (this.down) this.stroke(this.cursor, event);
      this.point();
    });
    for (const end of ["pointerup", "pointercancel"]) touch.addEventListener(end, (event) => other(event) || this.lift(event));
    touch.addEventListener("pointerleave", () => !this.down && fitted(touch));
    touch.addEventListener("focus", () => this.point());
    touch.addEventListener("blur", (event) => {
      this.lift(event);
      fitted(touch);
    });
    touch.addEventListener("keydown", (event) => this.key(event));
  }

  place(event) {
    const box = this.layers.touch.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * this.width, y: ((event.clientY - box.top) / box.height) * this.height };
  }

  stroke(to, event) {
    const { kind, size, colour } = this.tool();
    const context = pen(kind === "paint" ? this.layers.picture : this.layers.cover);
    const from = this.last ?? { x: to.x + 0.01, y: to.y };
    context.save();
    context.globalCompositeOperation = kind === "uncover" ? "destination-out" : "source-over";
    Object.assign(context, { lineWidth: size, lineCap: "round", lineJoin: "round", strokeStyle: kind === "paint" ? colour : ink("accent") });
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
    context.restore();
    if (kind === "paint") this.made &&= { ...this.made, source: COMPOSITE };
    this.last = to;
    this.stroked(event, false);
  }

  lift(event) {
    if (!this.down) return;
    this.down = false;
    this.last = null;
    this.remember();
    this.stroked(event, true);
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (event.key === " ") {
      event.preventDefault();
      if (event.repeat) return;
      if (this.down) this.lift(event);
      else {
        [this.down, this.pointer] = [true, null];
        this.stroke(this.cursor, event);
      }
      this.say(this.down ? "Brush down." : "Brush up.");
    } else if (event.key === "Escape") this.lift(event);
    else if (move) {
      event.preventDefault();
      const step = Math.max(1, this.tool().size / 2);
      const held = (value, most) => Math.min(most, Math.max(0, value));
      this.cursor = { x: held(this.cursor.x + step * move[0], this.width), y: held(this.cursor.y + step * move[1], this.height) };
      if (this.down) this.stroke(this.cursor, event);
      this.point();
    }
  }

  /** Shows where the brush is. */
  point() {
    const { context, width, height } = fitted(this.layers.touch);
    const radius = Math.max(2, (this.tool().size / 2 / this.width) * width);
    const [x, y] = [(this.cursor.x / this.width) * width, (this.cursor.y / this.height) * height];
    for (const [colour, more] of [["#000", 1], ["#fff", 0]]) {
      context.strokeStyle = colour;
      context.lineWidth = 1.5;
      context.beginPath();
      context.arc(x, y, radius + more, 0, 2 * Math.PI);
      context.stroke();
    }
  }
}
