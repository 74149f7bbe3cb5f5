// Small charts on canvases, in the colours of the theme.

const cache = new Map();
document.addEventListener("themechange", () => cache.clear());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => cache.clear());

/** A colour of the style sheet, `--name`, as a canvas understands it. */
export function ink(name) {
  if (!cache.has(name)) {
    const probe = document.createElement("span");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    cache.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return cache.get(name);
}

/** Fits a canvas to its place on the screen: `{context, width, height}` in CSS pixels, cleared. */
export function fitted(canvas) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "12px system-ui, sans-serif";
  return { context, width, height };
}

/** Lines over the last `span` values, from 0 to `top`: `series` are `{values, colour}`; `marks` are dashed levels. */
export function lines(canvas, series, { span, top, marks = [] }) {
  const { context, width, height } = fitted(canvas);
  const y = (value) => height - 1 - (Math.min(value, top) / top) * (height - 2);
  context.lineWidth = 1;
  for (const { value, label } of marks) {
    context.strokeStyle = ink("line");
    context.fillStyle = ink("soft");
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(0, y(value) + 0.5);
    context.lineTo(width, y(value) + 0.5);
    context.stroke();
    context.setLineDash([]);
    context.fillText(label, 0, y(value) - 4);
  }
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  for (const { values, colour } of series) {
    context.strokeStyle = ink(colour);
    context.beginPath();
    values.slice(-span).forEach((value, index, shown) => {
      const x = width - ((shown.length - 1 - index) / (span - 1)) * width;
      if (index) context.lineTo(x, y(value));
      else context.moveTo(x, y(value));
    });
    context.stroke();
  }
}
