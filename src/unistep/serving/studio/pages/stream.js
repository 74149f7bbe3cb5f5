// The Stream: chunks of sound over a web socket, scheduled without gaps, under an instrument and a scale that may change.

import { audio, setRate, setVolume } from "../lib/audio.js";
import { byId, download, h } from "../lib/dom.js";
import { fieldControls } from "../lib/fields.js";
import { Latency } from "../lib/latency.js";
import { marked } from "../lib/marks.js";
import { allModels, chooseModel, streamsSound } from "../lib/models.js";
import { floats } from "../lib/pcm.js";
import { Player } from "../lib/player.js";
import { Recorder, recordButton } from "../lib/record.js";
import { drawSchedule } from "../lib/schedule.js";
import { Session } from "../lib/session.js";
import { shell } from "../lib/shell.js";
import { choice, seedSlider, slider } from "../lib/sliders.js";

const ORDERS = { random: "Random", up: "Up", down: "Down", hold: "Held" };
const page = shell();
const player = new Player();
const recorder = new Recorder();
const took = new Latency(byId("latency"));
const seed = seedSlider({ value: 0, change: () => session && start() });
const volume = slider({ label: "Volume", min: 0, max: 1, step: 0.01, value: 0.8, format: (value) => `${Math.round(100 * value)} %`, change: setVolume });
const order = choice({ label: "Order of the notes", choices: Object.entries(ORDERS), value: "random" });
let model = null;
let fields = null;
let session = null;
let rate = 16000;
let channels = 1;
let place = 0;
let count = 0;
let asked = new Map(); // the note of each interaction

const notes = () => [...byId("scale").querySelectorAll("button[aria-pressed=true]")].map((button) => button.textContent);

/** The next note of the scale, or null where the seed chooses. */
function nextNote() {
  const chosen = notes();
  if (!chosen.length) return null;
  if (order.value === "random") place = Math.floor(Math.random() * chosen.length);
  if (order.value === "up") place += 1;
  if (order.value === "down") place += chosen.length - 1;
  return chosen[place % chosen.length];
}

/** Says what the next chunk shall be. */
function ask() {
  const condition = Object.fromEntries(Object.keys(model.unistep.fields).map((name) => [name, null]));
  Object.assign(condition, fields.condition());
  if ("pitch" in condition) condition.pitch = nextNote();
  const number = session?.interact({ condition });
  if (!number) return;
  const label = [condition.pitch, condition.instrument].filter(Boolean).join(" ") || "from the seed";
  asked.set(number, label);
}

function chunk(about, bytes) {
  const samples = floats(bytes, channels);
  const scheduled = player.add(samples, rate, { label: asked.get(about.interaction) ?? "from the seed", took: about.gen_ms });
  recorder.add(samples, rate, scheduled.due);
  took.add(about.gen_ms);
  count += 1;
  const schedule = byId("schedule");
  Object.assign(schedule.dataset, { chunks: count, label: scheduled.label, gaps: player.gaps });
  schedule.setAttribute("aria-label", `${count} chunks, ${player.buffered.toFixed(1)} seconds buffered, ${player.gaps} gaps`);
  byId("chunks").textContent = `${count} / ${player.gaps}`;
  ask();
}

function start() {
  session?.stop();
  player.stop();
  took.clear();
  asked = new Map();
  [count, place] = [0, 0];
  recorder.cut(audio().currentTime);
  const began = (about) => {
    rate = about.sample_rate;
    channels = about.channels;
    page.say(`Playing, seed ${about.seed}.`);
    ask();
  };
  const first = { model: model.id, seed: seed.value, format: "pcm", condition: fields.condition() };
  session = new Session("v1/realtime/audio", first, page.notice, { started: began, chunk });
  show();
}

function stop() {
  session?.stop();
  session = null;
  player.stop();
  recorder.cut(audio().currentTime);
  page.say("Stopped.");
  show();
}

function show() {
  byId("start").textContent = session ? "Stop" : "Play";
  byId("start").disabled = byId("record").disabled = !model;
}

function scale(names) {
  const buttons = names.map((name) => {
    const button = h("button", { type: "button", "aria-pressed": "false" }, name);
    button.addEventListener("click", () => button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true")));
    return button;
  });
  const none = h("button", { type: "button", class: "small" }, "From the seed");
  none.addEventListener("click", () => buttons.forEach((button) => button.setAttribute("aria-pressed", "false")));
  const every = h("button", { type: "button", class: "small" }, "All");
  every.addEventListener("click", () => buttons.forEach((button) => button.setAttribute("aria-pressed", "true")));
  const group = h("div", { class: "scale", role: "group", "aria-labelledby": "scale-title" }, ...buttons);
  byId("scale").replaceChildren(h("div", { class: "row" }, h("h2", { id: "scale-title" }, "Notes of the scale"), h("div", { class: "actions" }, every, none)), group);
  byId("scale").hidden = false;
}

function use(chosen) {
  if (session) stop();
  model = chosen;
  setRate(model.unistep.rate);
  fields = fieldControls(model, () => {}, ["pitch"]);
  byId("fields").replaceChildren(...fields.elements);
  order.element.hidden = byId("scale").hidden = !("pitch" in model.unistep.fields);
  if ("pitch" in model.unistep.fields) scale(model.unistep.fields.pitch.names);
}

byId("start").addEventListener("click", () => (session ? stop() : start()));
const save = async (file) => download(await marked(file, { model: model.id, seed: seed.value }), "unistep-stream.wav");
recordButton(byId("record"), recorder, () => audio().currentTime, save, page.say);
byId("settings").append(h("div", { id: "fields", class: "group" }), ...[order, seed, volume].map((control) => control.element));
const choose = chooseModel(await allModels(page.notice), { notice: page.notice, suits: streamsSound, use, name: "stream", example: "phrases" });
if (choose.element) byId("settings").prepend(choose.element);
show();

function draw() {
  const now = session ? audio().currentTime : 0;
  drawSchedule(byId("schedule"), player.chunks, now);
  byId("buffered").textContent = session ? `${player.buffered.toFixed(2)} s` : "–";
  setTimeout(() => requestAnimationFrame(draw), session ? 30 : 200);
}
draw();
document.body.dataset.ready = "";
