// The Brush: a picture to cover, paint, fill in, colour, enlarge and vary; a sketch that turns into a picture as it grows.

import { edit, image } from "../lib/api.js";
import { byId, download, h, painted, writing } from "../lib/dom.js";
import { Easel } from "../lib/easel.js";
import { fieldControls, textField } from "../lib/fields.js";
import { Latency, inMs } from "../lib/latency.js";
import { TRAINED, marked, sourceOf } from "../lib/marks.js";
import { allModels, chooseModel, edits } from "../lib/models.js";
import { Newest } from "../lib/newest.js";
import { drawBitmap, pngOf } from "../lib/pictures.js";
import { shell, upscalingSwitch } from "../lib/shell.js";
import { checkbox, choice, seedSlider, slider } from "../lib/sliders.js";
import { blobOf, takeHanded } from "../lib/state.js";

const CALLS = 4; // steps that edits take unless another number is chosen
const page = shell();
const newest = new Newest(page.notice, () => show());
const following = new Newest(page.notice);
const latency = new Latency(byId("latency"));
const layers = { picture: byId("picture"), before: byId("before"), cover: byId("cover"), touch: byId("touch") };
let model = null;
let fields = null;
let work = null; // what is on its way, or waits for another try

const tool = choice({ label: "Tool", choices: [["cover", "Cover"], ["uncover", "Uncover"], ["paint", "Paint"]], value: "cover", change: () => show() });
const size = slider({ label: "Brush size", min: 1, max: 32, value: 10 });
const colour = h("input", { type: "color", id: "colour", value: "#e0402a" });
const seed = seedSlider({ value: 0, change: (_, event) => live.input.checked && sketch(event.timeStamp) });
const steps = slider({ label: "Steps", min: 1, max: 16, value: CALLS });
const strength = slider({ label: "Strength", min: 0.05, max: 1, step: 0.05, value: 0.5, format: (value) => value.toFixed(2), hint: "Of variations and sketches", change: (_, event) => live.input.checked && sketch(event.timeStamp) });
const live = checkbox({ label: "Sketch live", hint: "The model's picture follows your strokes", change: (on) => turnLive(on) });
const compare = slider({ label: "Before and after", min: 0, max: 100, value: 0, format: (value) => `${value} % before`, change: () => show() });

const easel = new Easel(layers, {
  tool: () => ({ kind: tool.value, size: size.value, colour: colour.value }),
  stroked: (event) => {
    if (tool.value !== "paint") return;
    small = null; // it is no longer what is shown
    if (live.input.checked) sketch(event.timeStamp);
  },
  changed: () => show(),
  say: page.say,
});

const button = (label, act, more = {}) => h("button", { type: "button", onclick: act, ...more }, label);
const tasks = {
  inpaint: button("Fill in", () => change("inpaint", "Filled in"), { class: "primary" }),
  colorize: button("Colour in", () => change("colorize", "Coloured")),
  upscale: button("Upscale", () => change("upscale", "Enlarged"), { title: "From a quarter of the resolution, or from the small picture that you opened" }),
  vary: button("Vary", () => change("vary", "Varied")),
};
const undo = button("Undo", () => easel.history.go(-1), { id: "undo" });
const redo = button("Redo", () => easel.history.go(1), { id: "redo" });
const clear = button("Uncover all", () => easel.uncoverAll());
let sketched = null; // what a file of the live picture says
let small = null; // a picture that was opened smaller than the model's

function show() {
  const { history } = easel;
  const working = work !== null && !newest.failing; // after a failure something else can be asked for
  byId("easel").setAttribute("aria-busy", String(working));
  undo.disabled = !history.canUndo;
  redo.disabled = !history.canRedo;
  const covered = model && easel.covered;
  clear.disabled = !covered;
  save.disabled = !model;
  for (const [name, each] of Object.entries(tasks)) {
    each.hidden = !model?.unistep.tasks.includes(name);
    each.disabled = working || (name === "inpaint" && !covered);
  }
  compare.element.hidden = layers.before.hidden = !easel.hasBefore;
  layers.before.style.clipPath = `inset(0 ${100 - compare.value}% 0 0)`;
  byId("colour-row").hidden = tool.value !== "paint";
  live.element.hidden = !model?.unistep.tasks.includes("sketch");
}

function about() {
  const body = { model: model.id, seed: seed.value };
  const condition = fields.condition();
  const text = textField(model);
  if (text && condition[text]) body.prompt = condition[text];
  delete condition[text];
  return { ...body, condition };
}

/** The condition of a request with its text, as a file of what comes of it says it. */
const whole = ({ prompt, condition }) => (prompt ? { ...condition, [textField(model)]: prompt } : condition);

/** What the server makes of a request: a bitmap, its seed, and what a file of it says; newer work takes its place. */
async function busy(ask, condition) {
  work = ask;
  show();
  const result = await newest.run(async (signal) => {
    const found = await ask(signal);
    const [bitmap, source] = await Promise.all([createImageBitmap(found.blob), sourceOf(found.blob)]);
    return { ...found, bitmap, made: source && { model: model.id, seed: found.seed, condition, source } };
  });
  if (work === ask) work = null;
  show();
  if (result) byId("generation").textContent = inMs(result.generationMs);
  return result;
}

/** What is on its way is not waited for: it would take the place of what is put on the easel now. */
function leave() {
  newest.stop();
  work = null;
  small = null;
  page.notice.clear();
}

async function change(task, done) {
  const started = performance.now();
  const source = task === "upscale" ? (small ?? easel.quarter()) : layers.picture;
  const form = { ...about(), task, image: await pngOf(source), num_inference_steps: steps.value };
  if (task === "vary") form.strength = strength.value;
  if (task === "upscale") form.options = { factor: easel.width / source.width };
  if (easel.covered && ["inpaint", "vary"].includes(task)) form.mask = await pngOf(easel.mask());
  const result = await busy((signal) => edit(form, signal), whole(form));
  if (!result) return;
  if (task !== "upscale") small = null; // of which another upscaling may begin
  easel.put(result.bitmap, { kept: true, made: result.made });
  latency.add((await painted()) - started);
  page.say(`${done}, seed ${result.seed}.`);
}

async function generate() {
  if (!model) return;
  const form = about();
  const result = await busy((signal) => image(form, signal), whole(form));
  if (!result) return;
  small = null;
  easel.put(result.bitmap, { made: result.made });
  page.say(`New picture, seed ${result.seed}.`);
}

function blank() {
  leave();
  easel.fill("#ffffff");
}

/** Puts a file on the easel; `about` says which model made it, where that is known. */
async function open(blob, about = null) {
  if (!model) return;
  try {
    const [bitmap, source] = await Promise.all([createImageBitmap(blob), sourceOf(blob)]);
    leave();
    small = bitmap.width * easel.height === bitmap.height * easel.width && bitmap.width < easel.width ? bitmap : null;
    if (small) small = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    small?.getContext("2d").drawImage(bitmap, 0, 0);
    const known = source ?? (about?.model ? TRAINED : null);
    easel.put(bitmap, { made: known && { model: about?.model, seed: about?.seed, source: known } });
  } catch {
    page.notice.show("This file is no picture that the browser can read.");
  }
}

/** The model's picture of the sketch as it is now; the newest stroke wins. */
async function sketch(since) {
  if (!model) return;
  const form = { ...about(), task: "sketch", image: await pngOf(layers.picture), strength: strength.value, num_inference_steps: steps.value };
  const condition = whole(form);
  const result = await following.latest(async (signal) => {
    const found = await edit(form, signal);
    const [bitmap, source] = await Promise.all([createImageBitmap(found.blob), sourceOf(found.blob)]);
    return { ...found, bitmap, made: source && { model: form.model, seed: found.seed, condition, source } };
  });
  if (!result) return;
  drawBitmap(byId("live-picture"), result.bitmap);
  sketched = result.made;
  byId("generation").textContent = inMs(result.generationMs);
  byId("live-picture").dataset.count = Number(byId("live-picture").dataset.count ?? 0) + 1;
  latency.add((await painted()) - since);
}

function turnLive(on) {
  byId("live").hidden = !on;
  latency.clear();
  if (!on) return following.stop();
  tool.element.querySelector("input[value=paint]").click();
  return sketch(performance.now());
}

function use(chosen) {
  following.stop(); // what another model makes is not waited for
  leave();
  model = chosen;
  const [, height, width] = model.unistep.shape;
  fields = fieldControls(model, (event) => live.input.checked && sketch(event.timeStamp));
  byId("fields").replaceChildren(...fields.elements);
  easel.resize(width, height);
  byId("easel").style.aspectRatio = `${width} / ${height}`;
  steps.input.max = Math.min(16, model.unistep.max_steps);
  steps.value = Math.min(steps.value, model.unistep.max_steps);
  size.input.max = Math.round(width / 2);
  small = null;
  easel.fill("#ffffff");
  const handed = takeHanded();
  if (handed) open(blobOf(handed.url), handed);
  else generate();
  if (!live.input.checked) return;
  if (model.unistep.tasks.includes("sketch")) sketch(performance.now());
  else live.input.click();
}

const file = h("input", { type: "file", id: "file", accept: "image/*", onchange: () => file.files[0] && open(file.files[0]) });
file.addEventListener("click", () => (file.value = "")); // the same file may be opened once more
const save = button("Save", async () => {
  const { made } = easel;
  const picture = await pngOf(layers.picture);
  download(made ? await marked(picture, made) : picture, `${model.id}-brush.png`);
});
const takeOver = button("Take it over", () => {
  small = null;
  easel.put(byId("live-picture"), { kept: true, made: sketched });
});
byId("tools").append(
  tool.element,
  size.element,
  h("div", { class: "control", id: "colour-row" }, h("label", { for: "colour" }, "Colour"), colour),
  h("div", { class: "buttons" }, undo, redo, clear, save),
);
byId("compare").append(h("div", { class: "buttons", role: "group", "aria-label": "Edits" }, ...Object.values(tasks)), compare.element);
byId("easel").after(
  h("figure", { id: "live", class: "live", hidden: true }, h("canvas", { id: "live-picture", class: "picture", width: 64, height: 64, role: "img", "aria-label": "The model's picture of the sketch" }), h("figcaption", { class: "buttons" }, takeOver)),
);
byId("settings").append(
  h("div", { class: "control" }, h("label", { for: "file" }, "Open a picture"), file),
  h("div", { class: "buttons" }, button("New picture", generate), button("Blank", blank)),
  h("div", { id: "fields", class: "group" }),
  live.element,
  ...[strength, steps, seed].map((control) => control.element),
  upscalingSwitch(),
);
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || writing(event)) return;
  event.preventDefault();
  easel.history.go(event.shiftKey ? 1 : -1);
});
const models = chooseModel(await allModels(page.notice), { notice: page.notice, suits: edits, use, name: "brush", example: "emoji" });
if (models.element) byId("settings").prepend(models.element);
show();
document.body.dataset.ready = "";
