// Building elements without inline markup, which the content security policy forbids to carry scripts and styles.

/** An element with properties (attributes where a name has a dash or is `role`, `for`, `class`) and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.includes("-") || ["role", "for", "class", "list"].includes(name)) element.setAttribute(name, value === true ? "" : value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** The element of the page with an id; a page without it is a mistake of ours. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no #${id}.`);
  return element;
}

/** Resolves with the time just after the next frame was painted; soon, too, in a tab that is hidden and paints none. */
export function painted() {
  if (document.hidden) return Promise.resolve(performance.now());
  return new Promise((resolve) => {
    setTimeout(() => resolve(performance.now()), 1000);
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => resolve(performance.now());
      channel.port2.postMessage(null);
    });
  });
}

/** Offers a blob as a file. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Whether a key event belongs to a control that takes text, and its own undo. */
export const writing = ({ target }) => target instanceof HTMLInputElement && ["text", "number", "password"].includes(target.type);

/** Whether a key event belongs to a control that takes text or arrows itself; letters and digits move no slider. */
export function typing(event) {
  const target = event.target;
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement && ["range", "radio"].includes(target.type)) return event.key === " " || event.key.length > 1;
  if (target instanceof HTMLInputElement) return !["checkbox", "button"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}
