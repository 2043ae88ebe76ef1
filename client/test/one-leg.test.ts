// Nothing is left out of a leg but what one-leg.ts names.

import { expect, test } from "vitest";
import { read, testFiles } from "./files.js";
import { FILES, LEGS, TESTS, reasonAgainst } from "./one-leg.js";

const files = testFiles().filter((file) => file !== "one-leg");
const alone = LEGS.flatMap((leg) => Object.values(FILES[leg]).flat());
const sourceOf = (file: string): string => read(`${file}.test.ts`);

test("each name stands once in the files that run on both legs, and means no other test", () => {
  expect(files).toEqual(expect.arrayContaining(alone.filter((file) => file !== "one-leg")));
  const sources = files.filter((file) => !alone.includes(file)).map(sourceOf);
  const texts = sources.join("").match(/"(?:[^"\\\n]|\\.)*"/g)!.map((text) => text.slice(1, -1));
  for (const [index, leg] of LEGS.entries()) {
    const named = Object.values(TESTS[LEGS[1 - index]!]).flat();
    expect(texts.filter((text) => reasonAgainst(leg, text)).sort()).toEqual(named.sort());
  }
});

test("no file skips a test by itself", () => {
  const skips = /\.(skip|skipIf|runIf|todo|only|fails)\b|\bskip\(|if \(leg [^\n]*\) return/;
  for (const file of files) expect(sourceOf(file), file).not.toMatch(skips);
});
