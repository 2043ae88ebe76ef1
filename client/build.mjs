// Builds the modules of the package from src/, each with its types, into this folder.
//
//   node build.mjs            writes them
//   node build.mjs --check    fails if committed files or READMEs are out of date, or the client is too large
//   node build.mjs --package DIRECTORY    writes the same modules with their source maps there, for npm

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const MODULES = ["viral-alerts", "viral-toast"];
/** Upper bound of the client's size in bytes after `gzip -9`. */
const CLIENT_SIZE_MAX = 6_500;
const KILOBYTES = `under ${Math.ceil(CLIENT_SIZE_MAX / 100) / 10} kB`;
/** What the READMEs say about the size. */
const CLAIMS = {
  "README.md": `${KILOBYTES} (${CLIENT_SIZE_MAX.toLocaleString("en")} bytes) after gzip`,
  "../README.md": KILOBYTES,
};

/** Properties that neither applications nor other tabs see. The build shortens their names. */
const INTERNAL = new RegExp(
  `^(${[
    "accept acknowledged apply ask at begin busy early exchange forget giveUp head heardAt idle isBehind keep leave",
    "offline opened overHttp pause ping receive refresh rewind serve stop top tries wake",
  ]
    .join(" ")
    .replaceAll(" ", "|")})$`,
);

/** Classes keep their names, which consoles and error messages show. */
const CLASSES = ["ViralAlerts", "ViralAlertsError"];

/** The options that give the smallest gzip: fewer transformations leave more repetition. */
const COMPRESS = { passes: 4, unsafe_arrows: true, reduce_funcs: false, hoist_vars: true, sequences: false };

const BANNER = "// Built from src/.";

/** A module as one file, and its source map. */
async function script(module) {
  const { outputFiles } = await build({
    entryPoints: [join(HERE, `src/${module}.ts`)],
    outfile: join(HERE, `${module}.js`),
    sourcemap: "external",
    bundle: true,
    minifySyntax: true,
    minifyWhitespace: true,
    mangleProps: INTERNAL,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    write: false,
  });
  const text = (ending) => outputFiles.find(({ path }) => path.endsWith(ending)).text;
  const sourceMap = { content: text(".js.map"), filename: `${module}.js`, includeSources: true };
  const options = { module: true, ecma: 2022, compress: COMPRESS, mangle: { reserved: CLASSES }, sourceMap };
  const { code, map } = await minify(text(".js"), options);
  const moved = JSON.parse(map);
  // Down by the line of the banner.
  moved.mappings = `;${moved.mappings}`;
  return { code: `${BANNER}\n${code}\n`, map: JSON.stringify(moved) };
}

async function writePackage(directory) {
  for (const module of MODULES) {
    const { code, map } = await script(module);
    writeFileSync(join(directory, `${module}.js`), `${code}//# sourceMappingURL=${module}.js.map\n`);
    writeFileSync(join(directory, `${module}.js.map`), map);
  }
}

/** The declarations of the modules: each in one file, and the shared types in that of the client. */
function declarations() {
  const directory = mkdtempSync(join(tmpdir(), "viral-alerts-"));
  try {
    const options = [
      "--noEmit",
      "false",
      "--declaration",
      "--emitDeclarationOnly",
      "--rootDir",
      "src",
      "--outDir",
      directory,
    ];
    const compiler = join(HERE, "node_modules/typescript/bin/tsc");
    execFileSync(process.execPath, [compiler, "-p", "tsconfig.build.json", ...options], {
      cwd: HERE,
      stdio: "inherit",
    });
    const declarationsOf = (file) => readFileSync(join(directory, `${file}.d.ts`), "utf8");
    return MODULES.map((module) => {
      const shared = module === "viral-alerts" ? "" : "$1./viral-alerts.js$2";
      const text = declarationsOf(module)
        .replace(/^export \* from "\.\/types\.js";$/m, () => declarationsOf("types"))
        .replace(/^(import (?:type )?\{[^}]*\} from ")\.\/types\.js(";)\n/m, shared && `${shared}\n`);
      if (/from "(?!\.\/viral-alerts\.js")/.test(text)) throw new Error(`${module}.d.ts imports other files`);
      return text;
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

if (process.argv[2] === "--package") {
  await writePackage(process.argv[3]);
  process.exit();
}
const types = declarations();
const check = process.argv.includes("--check");
let failed = false;
for (const [index, module] of MODULES.entries()) {
  const files = { [`${module}.js`]: (await script(module)).code, [`${module}.d.ts`]: types[index] };
  for (const [name, text] of Object.entries(files)) {
    const path = join(HERE, name);
    if (!check) writeFileSync(path, text);
    else if (readFileSync(path, "utf8") !== text) {
      console.error(`${name} is not what src/ gives: run npm run build`);
      failed = true;
    }
  }
  const size = gzipSync(files[`${module}.js`], { level: 9 }).length;
  console.log(`${module}.js: ${size} bytes after gzip`);
  if (module === "viral-alerts" && size >= CLIENT_SIZE_MAX) {
    console.error(`the client may have at most ${CLIENT_SIZE_MAX - 1} bytes after gzip`);
    failed = true;
  }
}
for (const [readme, claim] of Object.entries(CLAIMS)) {
  if (!check || readFileSync(join(HERE, readme), "utf8").includes(claim)) continue;
  console.error(`${readme} does not say "${claim}"`);
  failed = true;
}
process.exitCode = failed ? 1 : 0;
