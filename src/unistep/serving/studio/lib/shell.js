// What every page has: the bar with its pages, the theme switch, the notice, and what is said to screen readers.

import { byId, h } from "./dom.js";
import { Notice } from "./notice.js";
import { PAGES } from "./pages.js";
import { setTaste, taste } from "./state.js";

const THEMES = [
  ["", "System"],
  ["light", "Light"],
  ["dark", "Dark"],
];

function themeSwitch() {
  const picker = h(
    "select",
    { id: "theme", "aria-label": "Colours" },
    ...THEMES.map(([value, label]) => h("option", { value, selected: value === (taste("theme-name") ?? "") }, label)),
  );
  picker.addEventListener("change", () => {
    setTaste("theme-name", picker.value || null);
    if (picker.value) document.documentElement.dataset.theme = picker.value;
    else delete document.documentElement.dataset.theme;
    document.dispatchEvent(new Event("themechange"));
  });
  return picker;
}

function bar() {
  const here = location.pathname.split("/").pop().replace(".html", "") || "index";
  const links = PAGES.map(([name, label]) =>
    h("a", { href: `${name}.html`, "aria-current": name === here ? "page" : null }, label),
  );
  const brand = h("a", { href: "index.html", class: "brand", "aria-label": "Unistep Studio, start" }, h("img", { src: "icon.svg", alt: "", width: 24, height: 24 }), "Studio");
  byId("bar").append(brand, h("nav", { "aria-label": "Pages" }, ...links), themeSwitch());
}

/** Says results to screen readers, not more often than they can be heard. */
class Said {
  constructor() {
    this.element = h("p", { class: "hidden", role: "status", "aria-live": "polite", id: "said" });
    document.body.append(this.element);
    this.timer = 0;
  }

  say(text) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.element.textContent = text), 600);
  }
}

/** Sets up a page: `{notice, say}`. */
export function shell() {
  bar();
  const notice = new Notice(byId("notice"));
  const said = new Said();
  return { notice, say: (text) => said.say(text) };
}

/** A switch between hard pixels and smooth upscaling, which holds for every page. */
export function upscalingSwitch() {
  const smooth = taste("upscaling") === "smooth";
  const apply = (on) => document.documentElement.classList.toggle("smooth", on);
  apply(smooth);
  const input = h("input", { type: "checkbox", checked: smooth, id: "smooth" });
  input.addEventListener("change", () => {
    setTaste("upscaling", input.checked ? "smooth" : null);
    apply(input.checked);
  });
  return h("label", { class: "check" }, input, h("span", {}, "Smooth upscaling"));
}
