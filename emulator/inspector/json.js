// JSON laid out for reading.

import { parsed } from "./text.js";

/**
 * Lays JSON out over lines, and keeps its own spelling of numbers and strings. Returns pairs of a class name and a
 * text, or `undefined` if the text is not JSON.
 */
export function laidOut(text) {
  if (parsed(text) === undefined) return undefined;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/g);
  const parts = [];
  let depth = 0;
  const line = () => parts.push(["", `\n${"  ".repeat(depth)}`]);
  tokens.forEach((token, index) => {
    if ("{[".includes(token)) {
      parts.push(["", token]);
      depth += 1;
      if (!"}]".includes(tokens[index + 1])) line();
    } else if ("}]".includes(token)) {
      depth -= 1;
      if (!"{[".includes(tokens[index - 1])) line();
      parts.push(["", token]);
    } else if (token === ",") {
      parts.push(["", token]);
      line();
    } else if (token === ":") {
      parts.push(["", ": "]);
    } else if (token.startsWith('"')) {
      parts.push([tokens[index + 1] === ":" ? "key" : "text", token]);
    } else {
      parts.push([/^[tfn]/.test(token) ? "word" : "number", token]);
    }
  });
  return parts;
}
