// Drawing pictures: blobs to canvases in the pictures' own size, which the style sheet enlarges.

import { download, h } from "./dom.js";
import { hasPage } from "./pages.js";
import { blobOf, dataUrl, forget, handOver, keep, keptPictures } from "./state.js";

/** Draws a bitmap into a canvas, which takes its size. */
export function drawBitmap(canvas, bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

/** A canvas as a PNG. */
export function pngOf(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture is empty."))), "image/png");
  });
}

export const fileName = ({ model, title, seed }, ending = "png") =>
  `${[model, title, seed].filter((part) => part !== undefined && part !== null && part !== "").join("-").replace(/[^\p{L}\p{N}.-]+/gu, "-").slice(0, 80)}.${ending}`;

const FULL = "There is no room for more pictures in this tab; remove some of those that are kept on the Wall.";

/** Takes a picture over to the Brush. */
export function toBrush(picture, notice) {
  if (handOver(picture)) location.assign("brush.html");
  else notice.show(FULL);
}

/** The pictures that were kept in this tab, each with its actions. */
export class Shelf {
  constructor(element, { say, notice }) {
    Object.assign(this, { element, say, notice });
    this.show();
  }

  async keep(blob, about) {
    const picture = { ...about, url: await dataUrl(blob) };
    const kept = keep(picture);
    if (kept) this.say(`Kept ${about.title || about.model}.`);
    else this.notice.show(FULL);
    this.show();
    return kept;
  }

  show() {
    const pictures = keptPictures();
    this.element.hidden = !pictures.length;
    const list = this.element.querySelector("ul");
    list.replaceChildren(...pictures.map((picture) => this.item(picture)));
  }

  item(picture) {
    const title = picture.title || picture.model;
    const shown = h("img", { src: picture.url, alt: hasPage("brush") ? "" : title, class: "picture" });
    const open = { type: "button", class: "bare", "aria-label": `${title}: open in the Brush`, onclick: () => toBrush(picture, this.notice) };
    const link = hasPage("brush") ? h("button", open, shown) : shown;
    const save = h("button", { type: "button", class: "small", "aria-label": `Save ${title}` }, "Save");
    save.addEventListener("click", () => download(blobOf(picture.url), fileName(picture)));
    const remove = h("button", { type: "button", class: "small", "aria-label": `Remove ${title}` }, "Remove");
    remove.addEventListener("click", () => {
      forget(picture);
      this.show();
    });
    return h("li", {}, link, h("div", { class: "actions" }, save, remove));
  }
}
