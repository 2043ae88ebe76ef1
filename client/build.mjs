// Builds the modules of the package from src/, each with its types, into this folder.
//
//   node build.mjs            writes them
//   node build.mjs --check    fails if committed files are out of date, if the client is too large, or if the READMEs
//                             say another size
//   node build.mjs --package DIRECTORY    writes the same modules with their source maps there, for npm

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { minify } from "terser";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const CORE = "viral-alerts";
const ENTRIES = ["debug", "events", "iterate", "react", "recent"];
const MODULES = [CORE, ...ENTRIES.map((entry) => `${CORE}-${entry}`), "viral-toast"];
/** Upper bound of the core's size in bytes, as an application's bundler gives it: see `sizeOf`. */
const CORE_SIZE_MAX = 6_144;
/** Files that state the core's size, in bytes or in kilobytes. */
const CLAIMS = {
  "README.md": (size) => `${size.toLocaleString("en")} bytes`,
  "package.json": (size) => `${size.toLocaleString("en")} bytes`,
  "../README.md": (size) => `${(size / 1_000).toFixed(1)} kB`,
};

/** Modules import each other, so that an application has each once. The core has the class of errors. */
const MODULES_OUTSIDE = {
  name: "modules",
  setup: ({ onResolve }) =>
    onResolve({ filter: /^\.\/(viral-[a-z-]+|types)\.js$/ }, ({ path }) => ({
      path: path.replace("types", CORE),
      external: true,
    })),
};

/** Properties that neither applications nor other tabs see. The build shortens their names. */
const INTERNAL = new RegExp(
  `^(${[
    "acknowledged admit apply ask at begin busy early end exchange fail forget free giveUp head heardAt idle isBehind",
    "keep leave offline overHttp pause pending ping receive refresh rewind serve stop tries wake",
  ]
    .join(" ")
    .replaceAll(" ", "|")})$`,
);

/** Classes keep their names, which consoles and error messages show. */
const CLASSES = ["ViralAlerts", "ViralAlertsError"];

/** The options that give the smallest gzip: fewer transformations leave more repetition. */
const COMPRESS = {
  passes: 4,
  unsafe_arrows: true,
  reduce_funcs: false,
  hoist_funs: true,
  // No property that the modules read has an effect.
  pure_getters: true,
  sequences: false,
};

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
    plugins: module === CORE ? [] : [MODULES_OUTSIDE],
    external: ["react"],
    ...(module === CORE && { mangleProps: INTERNAL }),
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

/** Returns the bytes of a module after `esbuild --bundle --minify --format=esm | gzip -9`. */
async function sizeOf(code) {
  const stdin = { contents: code, resolveDir: HERE };
  const { outputFiles } = await build({ stdin, bundle: true, minify: true, format: "esm", write: false });
  return execFileSync("gzip", ["-9c"], { input: outputFiles[0].text }).length;
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
      const shared = module === CORE ? "" : "$1./viral-alerts.js$2";
      const text = declarationsOf(module)
        .replace(/^export \* from "\.\/types\.js";$/m, () => declarationsOf("types"))
        .replace(/^(import (?:type )?\{[^}]*\} from ")\.\/types\.js(";)\n/m, shared && `${shared}\n`);
      const others = /from "(?!react"|\.\/viral-(alerts|toast)\.js")/;
      if (others.test(text)) throw new Error(`${module}.d.ts imports other files`);
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
  if (module !== CORE) continue;
  const size = await sizeOf(files[`${module}.js`]);
  console.log(`${module}.js: ${size} bytes after esbuild and gzip`);
  if (size > CORE_SIZE_MAX) {
    console.error(`the core may have at most ${CORE_SIZE_MAX} bytes after esbuild and gzip`);
    failed = true;
  }
  for (const [file, claim] of Object.entries(CLAIMS)) {
    if (!check || readFileSync(join(HERE, file), "utf8").includes(claim(size))) continue;
    console.error(`${file} does not say "${claim(size)}"`);
    failed = true;
  }
}
process.exitCode = failed ? 1 : 0;
