// A mark on each drawn frame, so that a camera or a screen recorder can say when a frame was really seen.

const BITS = 8;

/**
 * Stamps two rows of ten cells into the lower left corner, each cell a 128th of the width: above white, black and
 * the low eight bits of the frame's number, below black, white and those of its interaction, highest bit first.
 */
export function stamp(context, sequence, interaction) {
  const { width, height } = context.canvas;
  const cell = Math.max(1, Math.round(width / 128));
  const row = (number, lead, y) => {
    const bits = Array.from({ length: BITS }, (_, bit) => (number >> (BITS - 1 - bit)) & 1);
    [...lead, ...bits].forEach((bit, x) => {
      context.fillStyle = bit ? "#fff" : "#000";
      context.fillRect(x * cell, y, cell, cell);
    });
  };
  row(sequence, [1, 0], height - 2 * cell);
  row(interaction, [0, 1], height - cell);
}
