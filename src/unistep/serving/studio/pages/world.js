// The World: a model's frames at their rate under your keys; only the newest frame is drawn.

import { lines } from "../lib/chart.js";
import { byId, h, painted } from "../lib/dom.js";
import { fieldControls } from "../lib/fields.js";
import { HeldKeys } from "../lib/keys.js";
import { Latency, inMs } from "../lib/latency.js";
import { stamp } from "../lib/marker.js";
import { allModels, chooseModel, isAction, isWorld } from "../lib/models.js";
import { Pace } from "../lib/pace.js";
import { Session } from "../lib/session.js";
import { shell, upscalingSwitch } from "../lib/shell.js";
import { checkbox, seedSlider, select, slider } from "../lib/sliders.js";

const SPAN = 150;
const wantedRate = Number(new URLSearchParams(location.search).get("fps")) || null; // world.html?fps=30
const page = shell();
const screen = byId("screen");
const context = screen.getContext("2d");
const toKey = new Latency(byId("latency-key"));
const between = new Latency(byId("latency-frame"));
const seed = seedSlider({ value: 0, change: () => session && start() });
const game = select({
  label: "Begin",
  choices: [
    ["", "with a frame of the model"],
    ["start", "with a frame of the game"],
    ["beside", "beside the game"],
  ],
  value: "",
  change: () => session && start(),
});
const marker = checkbox({ label: "Latency mark", checked: true, hint: "Frame and key numbers as pixels in the corner" });
let model = null;
let session = null;
let keys = null;
let steps = null;
let arrivals = [];
let times = [];
let waiting = new Map(); // interactions by number, with the time of their key
let world = 0; // which of the worlds, one after the other, is shown; a frame of one before is not drawn over it
let received = null; // the newest frame as it came
let decoding = false;
let decoded = null; // the newest picture, until it is shown
let pace = new Pace();
let counts = { drawn: 0, left: 0 };

/** Forgets what there is of the last world: its frames that are not shown yet, and the keys whose frames are to come. */
function anew() {
  world += 1;
  decoded?.bitmap.close();
  [received, decoded, waiting] = [null, null, new Map()];
}

function begin(about) {
  anew(); // a connection that is opened anew counts from 1 again
  Object.assign(counts, { drawn: 0, left: 0 });
  Object.assign(screen.dataset, { seed: about.seed, drawn: 0 });
  const fit = Math.max(1, Math.round((screen.clientWidth * (window.devicePixelRatio || 1)) / about.width));
  Object.assign(screen, { width: about.width * fit, height: about.height * fit });
  screen.style.aspectRatio = `${about.width} / ${about.height}`; // twice as wide beside the game
  period = 1000 / about.fps;
  screen.setAttribute("aria-label", `The world of ${model.id}, seed ${about.seed}, running`);
  page.say(`Running, seed ${about.seed}.`);
  if (keys?.down.length) keys.changed(keys.down, new Event("start")); // held since the world before
}
let period = 40;

function chunk(about, bytes) {
  const now = performance.now();
  if (arrivals.length) {
    between.add(now - arrivals.at(-1));
    times.push({ between: now - arrivals.at(-1), model: about.gen_ms });
  }
  arrivals = [...arrivals.slice(-1), now];
  times = times.slice(-SPAN);
  if (received) counts.left += 1;
  received = { about, bytes, arrived: now };
  if (!decoding) decode();
}

async function decode() {
  decoding = true;
  while (received) {
    const { bytes, ...frame } = received;
    const mine = world;
    received = null;
    const bitmap = await createImageBitmap(new Blob([bytes])).catch(() => null);
    if (!bitmap || mine !== world) {
      bitmap?.close();
      continue;
    }
    if (decoded) counts.left += 1;
    else requestAnimationFrame(repaint);
    decoded?.bitmap.close();
    decoded = { ...frame, bitmap };
  }
  decoding = false;
}

function repaint(now) {
  if (!decoded) return;
  if (!pace.allows(now, decoded.arrived, period)) {
    requestAnimationFrame(repaint);
    return;
  }
  const { about, bitmap } = decoded;
  decoded = null;
  context.imageSmoothingEnabled = document.documentElement.classList.contains("smooth");
  context.drawImage(bitmap, 0, 0, screen.width, screen.height);
  bitmap.close();
  if (marker.input.checked) stamp(context, about.sequence, about.interaction);
  counts.drawn += 1;
  Object.assign(screen.dataset, { drawn: counts.drawn, sequence: about.sequence, interaction: about.interaction });
  const seen = [...waiting].filter(([number]) => number <= about.interaction);
  seen.forEach(([number]) => waiting.delete(number));
  if (seen.length) painted().then((then) => seen.forEach(([, since]) => toKey.add(then - since)));
}

function graph() {
  byId("frames").textContent = counts.drawn ? `${counts.drawn} / ${counts.left}` : "–";
  const series = [
    { values: times.map((each) => each.between), colour: "accent" },
    { values: times.map((each) => each.model), colour: "strong-line" },
  ];
  lines(byId("graph"), series, { span: SPAN, top: Math.max(3 * period, ...times.map((each) => each.between)), marks: [{ value: period, label: inMs(period) }] });
}

function act(what, event) {
  const number = session?.interact(what);
  if (number) waiting.set(number, event.timeStamp);
}

function start() {
  session?.stop();
  arrivals = [];
  times = [];
  anew();
  pace = new Pace();
  toKey.clear();
  between.clear();
  const first = { model: model.id, seed: seed.value, format: "jpeg", quality: 90, num_inference_steps: steps.value, fps: wantedRate, game: game.element.hidden ? null : game.input.value || null };
  session = new Session("v1/realtime/video", first, page.notice, { started: begin, chunk, ended: () => show() });
  show();
}

function stop() {
  session?.stop();
  session = null;
  keys?.release(new Event("stop"));
  screen.setAttribute("aria-label", `The world of ${model.id}, stopped`);
  page.say("Stopped.");
  show();
}

function show() {
  byId("start").hidden = session !== null || !model;
  byId("start").disabled = !model;
  restart.disabled = halt.disabled = session === null;
}
const restart = h("button", { type: "button", onclick: start, id: "restart" }, "Restart");
const halt = h("button", { type: "button", onclick: stop, id: "stop" }, "Stop");

function use(chosen) {
  if (session) stop();
  keys?.end();
  model = chosen;
  steps = slider({ label: "Steps", min: 1, max: Math.min(4, model.unistep.max_steps), value: model.unistep.steps, change: () => session && start() });
  game.element.hidden = !model.unistep.game;
  const [name, field] = Object.entries(model.unistep.fields).find(([, each]) => isAction(each));
  keys = null;
  if (Object.keys(field.presets ?? {}).length) {
    const pressed = (down, event) => act({ condition: { [name]: down.join("+") || "none" } }, event);
    keys = new HeldKeys(Object.keys(field.presets), pressed, () => session?.live ?? false);
    byId("keys").replaceChildren(...keys.buttons());
    byId("fields").replaceChildren(steps.element);
  } else {
    const controls = fieldControls({ unistep: { fields: { [name]: field } } }, (event) => act({ condition: controls.condition() }, event));
    byId("keys").replaceChildren();
    byId("fields").replaceChildren(...controls.elements, steps.element);
  }
  show();
}

byId("start").addEventListener("click", () => {
  start();
  restart.focus({ preventScroll: true });
});
const buttons = h("div", { class: "buttons" }, restart, halt);
byId("settings").append(buttons, h("div", { id: "fields", class: "group" }), seed.element, game.element, marker.element, upscalingSwitch());
const choice = chooseModel(await allModels(page.notice), { notice: page.notice, suits: isWorld, use, name: "world", example: "racing" });
if (choice.element) byId("settings").prepend(choice.element);
show();
setInterval(graph, 100);
graph();
document.body.dataset.ready = "";
