// The pages: their files without the ending, and what they are called.

export const PAGES = [
  ["wall", "Wall"],
  ["brush", "Brush"],
  ["walk", "Walk"],
  ["piano", "Piano"],
  ["world", "World"],
  ["stream", "Stream"],
];

/** Whether there is a page of that name here. */
export const hasPage = (name) => PAGES.some(([known]) => known === name);
