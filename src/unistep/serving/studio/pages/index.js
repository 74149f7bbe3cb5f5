// The start: what the Studio can do, and which of the server's models each page would use.

import { byId, h } from "../lib/dom.js";
import { allModels, drawsPictures, edits, isWorld, playsHits, playsNotes, streamsSound } from "../lib/models.js";
import { PAGES } from "../lib/pages.js";
import { shell } from "../lib/shell.js";

const ABOUT = {
  wall: ["Type, and pictures answer while you do.", [drawsPictures], "emoji"],
  brush: ["Fill in, colour, enlarge, vary, or paint a sketch that turns into a picture.", [edits], "emoji"],
  walk: ["Go from one picture to another through noise, and take the way with you as a film.", [drawsPictures], "emoji"],
  piano: ["Play notes and drums, each of which is made when you strike it.", [playsNotes, playsHits], "notes drums"],
  world: ["Drive through a world that a model makes frame by frame.", [isWorld], "racing"],
  stream: ["Music without an end, made while you listen.", [streamsSound], "phrases"],
};

const page = shell();
const found = await allModels(page.notice);
byId("pages").append(
  ...PAGES.map(([name, label]) => {
    const [what, suits, example] = ABOUT[name];
    const names = found.filter((model) => suits.some((fits) => fits(model))).map((model) => model.id);
    const state = names.length ? `With ${names.join(", ")}` : `Needs a model: unistep serve ${example}`;
    return h("li", {}, h("h2", {}, h("a", { href: `${name}.html` }, label)), h("p", {}, what), h("p", { class: "hint" }, state));
  }),
);
document.body.dataset.ready = "";
