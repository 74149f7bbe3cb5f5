// The worker: one request after the other, and streams between them when their next chunk is due. Models are downloaded
// meanwhile, so that one that is on its way holds up no other.

import { allModels, loaded } from "./models.js";
import { pictures, sound } from "./samples.js";
import { Stream } from "./streams.js";

const HANDLERS = { models: allModels, pictures, sound };
const jobs = [];
const coming = new Set(); // requests whose model is on its way
const streams = new Map();
let working = false;
let wake = 0;

const post = (message, moved = []) => self.postMessage(message, moved);

/** What went wrong, and whether another worker might do better. */
const failure = (error) => ({ error: String(error?.message ?? error), fatal: Boolean(error?.fatal) });

/** Lets messages come in between two pieces of work. */
const breathe = () =>
  new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });

async function answer({ kind, id, body }) {
  try {
    post({ id, result: await HANDLERS[kind](body) });
  } catch (error) {
    post({ id, ...failure(error) });
  }
}

/** Puts a request in the queue once the files of its model are here. */
async function admit(job) {
  const { kind, id, body } = job;
  coming.add(id);
  try {
    if (kind !== "models") await loaded.arrived(body.model);
    if (coming.delete(id)) jobs.push(job);
    work();
  } catch (error) {
    if (coming.delete(id)) post({ id, ...failure(error) });
  }
}

/** Begins a stream once the files of its model are here. */
async function join(id, body) {
  const stream = new Stream(body);
  streams.set(id, stream);
  try {
    await loaded.arrived(body.model);
    stream.due = 0;
    work();
  } catch (error) {
    ended(id, error);
  }
}

function ended(id, error) {
  const { error: message, fatal } = failure(error);
  if (streams.delete(id)) post({ stream: id, fatal, message: { about: { type: "error", error: { message } } } });
}

async function advance(id, stream) {
  try {
    for (const message of await stream.next()) post({ stream: id, message }, message.bytes ? [message.bytes] : []);
  } catch (error) {
    ended(id, error);
  }
}

/** The stream whose chunk is due, the most urgent first; or how long until one is. */
function mostUrgent(now) {
  let [first, wait] = [null, Infinity];
  for (const entry of streams) {
    const left = entry[1].due - now;
    if (left < wait) [first, wait] = [entry, left];
  }
  return { first, wait };
}

async function work() {
  if (working) return;
  working = true;
  clearTimeout(wake);
  for (;;) {
    const { first, wait } = mostUrgent(performance.now());
    if (first && wait <= 1) await advance(...first);
    else if (jobs.length) await answer(jobs.shift());
    else {
      working = false;
      if (wait < Infinity) wake = setTimeout(work, Math.max(0, wait - 1));
      return;
    }
    await breathe();
  }
}

function begin({ search, isolated }) {
  const asked = new URLSearchParams(search);
  loaded.begin({ asked, isolated, say: (status) => post({ status }) });
}

self.onmessage = ({ data }) => {
  const { kind, id, body } = data;
  if (kind === "begin") begin(data);
  else if (kind === "cancel") {
    coming.delete(id);
    const at = jobs.findIndex((job) => job.id === id);
    if (at >= 0) jobs.splice(at, 1);
  } else if (kind !== "stream") admit(data);
  else if (body.type === "session.start") join(id, body);
  else if (body.type === "session.stop") streams.delete(id);
  else streams.get(id)?.interact(body);
};
