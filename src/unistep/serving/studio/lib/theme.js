// Runs before the first paint, so that a page does not flash in the other colours; hence not a module.
"use strict";
(() => {
  let theme = null;
  try {
    theme = JSON.parse(localStorage.getItem("unistep.theme-name"));
  } catch {
    // Storage may be forbidden; the system's preference then holds.
  }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();
