// Elements of the page.

const TYPING_PAUSE_MS = 150;

export const $ = (id) => document.getElementById(id);

/** Builds an element. Text is set as text, so a payload never becomes markup. */
export function element(tag, { text, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/** Returns a dot in the connection's own colour: the ids of connections that opened together look alike. */
export function dot(connectionId) {
  const mark = element("span", { className: "dot" });
  let hash = 0;
  for (const character of connectionId) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  mark.style.setProperty("--hue", (hash * 137) % 360);
  return mark;
}

/** Calls back when typing pauses. */
export function onTyped(input, callback) {
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(callback, TYPING_PAUSE_MS);
  });
}
