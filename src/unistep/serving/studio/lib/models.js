// Which of the server's models a page can use, and the choice among them.

import { models } from "./api.js";
import { Newest } from "./newest.js";
import { remember, remembered } from "./state.js";
import { select } from "./sliders.js";

/** Whether a field is what a player does: numbers, of which some have names, `presets`. */
export const isAction = (field) => ["action", "vector"].includes(field.kind);
/** Most steps that a slider offers: more than that makes no picture of a model better. */
export const mostSteps = ({ unistep }) => Math.min(unistep.max_steps, Math.max(8, 2 * unistep.steps));
export const drawsPictures = ({ unistep }) => unistep.modality === "image" && !unistep.streams;
export const edits = (model) => drawsPictures(model) && (model.unistep.tasks ?? []).length > 0;
export const playsNotes = ({ unistep }) => unistep.modality === "audio" && !unistep.streams && "pitch" in unistep.fields;
export const playsHits = ({ unistep }) => unistep.modality === "audio" && !unistep.streams && !("pitch" in unistep.fields);
export const isWorld = ({ unistep }) =>
  unistep.modality === "video" && unistep.streams && Object.values(unistep.fields).some(isAction);
export const streamsSound = ({ unistep }) => unistep.modality === "audio" && unistep.streams;

/** All models, retried with the notice until the server answers. */
export async function allModels(notice) {
  return (await new Newest(notice).run(models)) ?? [];
}

/**
 * The models that suit a page, with a list to choose from where there are several: `{models, element}`. `use(model)` is
 * called for the one in use, now and when it changes. Without any, the notice says how to start the server.
 */
export function chooseModel(found, { notice, suits, use, name, example, label = "Model" }) {
  const suited = found.filter(suits);
  if (!suited.length) {
    notice?.show(`No model here does this. Start the server with one that does: unistep serve ${example}`);
    return { models: [], element: null };
  }
  const asked = new URLSearchParams(location.search).get("model") ?? remembered(`model.${name}`);
  const first = suited.find((model) => model.id === asked) ?? suited.find((model) => model.id === example) ?? suited[0];
  const control = select({
    label,
    choices: suited.map((model) => [model.id, model.id]),
    value: first.id,
    change: (id) => {
      remember(`model.${name}`, id);
      use(suited.find((model) => model.id === id));
    },
  });
  use(first);
  return { models: suited, element: control.element };
}
