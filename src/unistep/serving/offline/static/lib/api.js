// What the pages ask of a server, answered by the models of this folder, which a worker of the browser runs.

import { ApiError } from "./error.js";
import { call } from "./local/client.js";
import { LocalSocket } from "./local/socket.js";

/** There is no server, and no key. */
export const apiKey = { value: "" };
export function setKey() {}

/** The models of this folder: `[{id, unistep: {...}}]`. */
export const models = (signal) => call("models", {}, signal);

/** One picture: `{blob, seed, generationMs}`. */
export const image = async (body, signal) => (await call("pictures", { ...body, n: 1 }, signal))[0];

/** Several pictures: `[{blob, seed, generationMs}]`. */
export const images = (body, signal) => call("pictures", body, signal);

/** Nothing is edited without a server. */
export async function edit() {
  throw new ApiError(400, "Pictures are edited by a server only: unistep studio.");
}

/** A sound as float samples of one channel: `{samples, rate, seed, generationMs}`. */
export const sound = (body, signal) => call("sound", body, signal);

/** A stream of a model here, with the messages of a server's web socket. */
export const socket = (path) => new LocalSocket(path);
