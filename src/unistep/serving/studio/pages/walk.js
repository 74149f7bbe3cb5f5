// The Walk: a slider through noise space between two seeds, a loop of it, and that loop as a file.

import { image } from "../lib/api.js";
import { byId, download, h, painted } from "../lib/dom.js";
import { fieldControls, textField } from "../lib/fields.js";
import { gif } from "../lib/gif.js";
import { Latency } from "../lib/latency.js";
import { marked } from "../lib/marks.js";
import { allModels, chooseModel, drawsPictures, mostSteps } from "../lib/models.js";
import { Newest } from "../lib/newest.js";
import { hasPage } from "../lib/pages.js";
import { drawBitmap, pngOf, toBrush } from "../lib/pictures.js";
import { shell, upscalingSwitch } from "../lib/shell.js";
import { seedSlider, slider } from "../lib/sliders.js";
import { dataUrl } from "../lib/state.js";

const TOGETHER = 3; // requests of a loop that are on their way at a time
const LARGEST = 256; // width of a GIF's frames at most, where pixels are repeated
const page = shell();
const pictures = new Map(); // bitmaps by their request
const looking = new Newest(page.notice);
const ends = new Newest(page.notice);
const walking = new Newest(page.notice);
const latency = new Latency(byId("latency"));
let model = null;
let fields = null;
let steps = null;
let timer = 0;

const from = seedSlider({ label: "First seed", value: 1, change: (_, event) => changed(event) });
const to = seedSlider({ label: "Second seed", value: 2, change: (_, event) => changed(event) });
const count = slider({ label: "Pictures of the loop", min: 4, max: 48, value: 16, change: () => {
  stop();
  walking.stop(); // a loop of another length is on its way
} });
const speed = slider({ label: "Pictures a second", min: 2, max: 30, value: 12, change: () => timer && replay() });
const share = slider({
  label: "Way", min: 0, max: 1, step: 0.01, value: 0.5, format: (value) => `${Math.round(100 * value)} %`,
  change: (_, event) => {
    stop();
    look(event.timeStamp);
  },
});

function request(at) {
  const condition = fields.condition();
  const body = { model: model.id, seed: from.value, num_inference_steps: steps.value };
  const text = textField(model);
  if (text && condition[text]) body.prompt = condition[text];
  delete condition[text];
  if (Object.keys(condition).length) body.condition = condition;
  if (at > 0) body.toward = { seed: to.value, share: at };
  return body;
}

/** The picture at a share of the way, from before or made now. */
async function picture(at, signal) {
  const body = request(at);
  const name = JSON.stringify(body);
  if (!pictures.has(name)) {
    const { blob } = await image(body, signal);
    if (pictures.size > 400) pictures.clear();
    pictures.set(name, await createImageBitmap(blob));
  }
  return pictures.get(name);
}

async function look(since) {
  if (!model) return;
  const at = share.value;
  const found = await looking.latest((signal) => picture(at, signal));
  if (!found) return;
  drawBitmap(byId("picture"), found);
  Object.assign(byId("picture").dataset, { share: at });
  latency.add((await painted()) - since);
  page.say(`${Math.round(100 * at)} percent of the way.`);
}

/** Something else than the way has changed: both ends, and the picture between them. */
async function changed(event) {
  stop();
  walking.stop();
  if (!model) return;
  await look(event?.timeStamp ?? performance.now());
  await ends.run(async (signal) => {
    drawBitmap(byId("from"), await picture(0, signal));
    drawBitmap(byId("to"), await picture(1, signal));
  });
}

/** All pictures of the loop, a few at a time; undefined where something else came between. */
async function loop() {
  const shares = Array.from({ length: count.value }, (_, index) => index / (count.value - 1));
  return walking.run(async (signal) => {
    const found = new Array(shares.length);
    let [next, ready] = [0, 0];
    const worker = async () => {
      while (next < shares.length) {
        const index = next;
        next += 1;
        found[index] = await picture(shares[index], signal);
        ready += 1;
        byId("loop").textContent = `${ready} of ${shares.length}`;
      }
    };
    try {
      await Promise.all(Array.from({ length: TOGETHER }, worker));
    } catch (error) {
      next = shares.length; // another try begins with workers of its own
      throw error;
    }
    return found;
  });
}

/** There and back, without showing the ends twice. */
const thereAndBack = (frames) => [...frames, ...frames.slice(1, -1).reverse()];

let frames = [];
function replay() {
  clearInterval(timer);
  let index = 0;
  timer = setInterval(() => {
    drawBitmap(byId("picture"), frames[index % frames.length]);
    byId("picture").dataset.frame = index;
    index += 1;
  }, 1000 / speed.value);
  label(true);
}

function label(playing) {
  byId("play").textContent = playing ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", String(playing));
}

function stop() {
  clearInterval(timer);
  timer = 0;
  label(false);
}

byId("play").addEventListener("click", async () => {
  if (timer) return stop();
  const found = await loop();
  if (!found) return undefined;
  frames = thereAndBack(found);
  replay();
  return page.say("Playing.");
});

byId("gif").addEventListener("click", async () => {
  const found = await loop();
  if (!found) return;
  const scale = Math.max(1, Math.floor(LARGEST / found[0].width));
  const canvas = h("canvas", { width: scale * found[0].width, height: scale * found[0].height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = document.documentElement.classList.contains("smooth");
  const images = thereAndBack(found).map((bitmap) => {
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  });
  const about = { model: model.id, seed: `${from.value}, ${to.value}`, condition: fields.condition() };
  download(await marked(gif(images, { delay: 1000 / speed.value }), about), `${model.id}-${from.value}-to-${to.value}.gif`);
  page.say(`Saved ${images.length} pictures.`);
});

byId("brush").addEventListener("click", async () => {
  toBrush({ model: model.id, seed: `${from.value}, ${to.value}`, url: await dataUrl(await pngOf(byId("picture"))) }, page.notice);
});

function use(chosen) {
  looking.stop(); // what another model makes is not waited for
  model = chosen;
  fields = fieldControls(model, changed);
  steps = slider({ label: "Steps", min: 1, max: mostSteps(model), value: model.unistep.steps, change: (_, event) => changed(event) });
  byId("fields").replaceChildren(...fields.elements, steps.element);
  latency.clear();
  changed();
}

byId("share").append(share.element);
byId("settings").append(h("div", { id: "fields", class: "group" }), ...[from, to, count, speed].map((control) => control.element), upscalingSwitch());
const choice = chooseModel(await allModels(page.notice), { notice: page.notice, suits: drawsPictures, use, name: "walk", example: "emoji" });
if (choice.element) byId("settings").prepend(choice.element);
byId("brush").hidden = !hasPage("brush");
for (const id of ["play", "gif", "brush"]) byId(id).disabled = !model;
document.body.dataset.ready = "";
