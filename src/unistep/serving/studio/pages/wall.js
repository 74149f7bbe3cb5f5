// The Wall: pictures that answer while you type; the newest input wins.

import { image, images } from "../lib/api.js";
import { byId, download, h, painted } from "../lib/dom.js";
import { fieldControls, textField } from "../lib/fields.js";
import { Latency, inMs } from "../lib/latency.js";
import { allModels, chooseModel, drawsPictures, mostSteps } from "../lib/models.js";
import { Newest } from "../lib/newest.js";
import { hasPage } from "../lib/pages.js";
import { Shelf, drawBitmap, fileName, toBrush } from "../lib/pictures.js";
import { shell, upscalingSwitch } from "../lib/shell.js";
import { seedSlider, slider } from "../lib/sliders.js";
import { dataUrl, remember, remembered } from "../lib/state.js";

const MOST = 12;
const PATIENCE = 40; // ms that a batch may take, so that the next key does not wait long for it
const page = shell();
const prompt = byId("prompt");
const tiles = byId("tiles");
const newest = new Newest(page.notice);
const following = new Newest(page.notice);
const shelf = new Shelf(byId("shelf"), page);
const first = new Latency(byId("latency-first"));
const all = new Latency(byId("latency-all"));
let model = null;
let fields = null;

const ask = (event) => answer(event?.timeStamp ?? performance.now());
const before = remembered("wall", { prompt: "", number: 6, seed: 0 });
const number = slider({ label: "Pictures", min: 1, max: MOST, value: before.number, change: (_, event) => ask(event) });
const seed = seedSlider({ value: before.seed, change: (_, event) => ask(event) });
let steps = null;

function tile(index) {
  const canvas = h("canvas", { class: "picture", width: 64, height: 64 });
  const state = { canvas, blob: null, about: null };
  const button = h("button", { type: "button", class: "bare", "aria-label": `Picture ${index + 1}` }, canvas);
  button.addEventListener("click", () => state.blob && shelf.keep(state.blob, state.about));
  const brush = h("button", { type: "button", class: "small" }, "Brush");
  brush.addEventListener("click", async () => state.blob && toBrush({ ...state.about, url: await dataUrl(state.blob) }, page.notice));
  const save = h("button", { type: "button", class: "small" }, "Save");
  save.addEventListener("click", () => state.blob && download(state.blob, fileName(state.about)));
  state.name = (title) => {
    button.setAttribute("aria-label", `Keep picture ${index + 1}: ${title}`);
    brush.setAttribute("aria-label", `Open picture ${index + 1} in the Brush`);
    save.setAttribute("aria-label", `Save picture ${index + 1}`);
  };
  state.name("none yet");
  state.element = h("figure", { class: "tile" }, button, h("figcaption", { class: "actions" }, hasPage("brush") ? brush : null, save));
  return state;
}

const wall = [];
function layOut() {
  while (wall.length < number.value) wall.push(tile(wall.length));
  tiles.replaceChildren(...wall.slice(0, number.value).map((each) => each.element));
  tiles.dataset.count = number.value;
}

async function put(state, { blob, seed: drawn }, about, signal) {
  const bitmap = await createImageBitmap(blob);
  if (signal.aborted) return; // a newer picture may be there already
  drawBitmap(state.canvas, bitmap);
  Object.assign(state, { blob, about: { ...about, seed: drawn } });
  state.name(`${about.title || about.model}, seed ${drawn}`);
}

function request() {
  const body = { model: model.id, seed: seed.value, num_inference_steps: steps.value };
  const condition = fields.condition();
  if (Object.keys(condition).length) body.condition = condition;
  if (textField(model) && prompt.value.trim()) body.prompt = prompt.value.trim();
  const title = [body.prompt, ...Object.values(condition).filter((value) => typeof value === "string")].filter(Boolean).join(", ");
  return { body, about: { model: model.id, title } };
}

/** The pictures after the first, in batches that are short for this model on this machine. */
async function others(body, { generationMs }, about, signal) {
  const size = Math.max(1, Math.floor(PATIENCE / (generationMs || PATIENCE)));
  for (let done = 1; done < number.value && !signal.aborted; ) {
    const count = Math.min(size, number.value - done);
    const next = { ...body, seed: body.seed + done };
    const found = count === 1 ? [await image(next, signal)] : await images({ ...next, n: count }, signal);
    if (signal.aborted) return;
    await Promise.all(found.map((each, index) => put(wall[done + index], each, about, signal)));
    done += count;
  }
}

/** One picture first, as quickly as it goes; then the others. */
async function answer(since) {
  if (!model) return;
  layOut();
  const { body, about } = request();
  const count = number.value;
  remember("wall", { prompt: prompt.value, number: count, seed: seed.value });
  tiles.setAttribute("aria-busy", "true");
  following.stop();
  const picture = await newest.latest(async (signal) => {
    const found = await image(body, signal);
    await put(wall[0], found, about, signal);
    return found;
  });
  if (!picture) return;
  byId("generation").textContent = inMs(picture.generationMs);
  painted().then((now) => first.add(now - since));
  if (newest.busy) return; // there is newer input, which comes first
  const done = await following.run(async (signal) => {
    await others(body, picture, about, signal);
    return true;
  });
  if (!done) return;
  painted().then((now) => all.add(now - since));
  tiles.setAttribute("aria-busy", "false");
  page.say(`${count} ${count === 1 ? "picture" : "pictures"}${about.title ? ` of ${about.title}` : ""}, seed ${body.seed}.`);
}

function use(chosen) {
  newest.stop(); // what another model makes is not waited for
  model = chosen;
  const text = textField(model);
  byId("prompt-row").hidden = !text;
  fields = fieldControls(model, ask, text ? [text] : []);
  steps = slider({ label: "Steps", min: 1, max: mostSteps(model), value: model.unistep.steps, change: (_, event) => ask(event) });
  byId("fields").replaceChildren(...fields.elements, steps.element);
  first.clear();
  all.clear();
  ask();
}

prompt.value = before.prompt;
prompt.addEventListener("input", ask);
byId("settings").append(h("div", { id: "fields", class: "group" }), seed.element, number.element, upscalingSwitch());
const choice = chooseModel(await allModels(page.notice), { notice: page.notice, suits: drawsPictures, use, name: "wall", example: "emoji" });
if (choice.element) byId("settings").prepend(choice.element);
document.body.dataset.ready = "";
