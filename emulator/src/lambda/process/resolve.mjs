// Hooks for imports of ES modules: as in Lambda, NODE_PATH holds for them too, and layers are in /opt.

import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

let layers = [];

/** Takes the directories of the layers, the one that overrides the others first. */
export function initialize(directories) {
  layers = directories;
}

function candidates(specifier, context) {
  const name = specifier.replace(/^file:\/\//, '');
  if (name.startsWith('/opt/')) {
    return layers.map((layer) => [pathToFileURL(layer + name.slice('/opt'.length)).href, context]);
  }
  // A relative name, or one with a scheme.
  if (/^(?:[./]|[a-z]+:)/i.test(specifier)) return [];
  const directories = (process.env.NODE_PATH ?? '').split(path.delimiter);
  const modules = directories.filter((directory) => path.basename(directory) === 'node_modules');
  return modules.map((directory) => {
    const parentURL = pathToFileURL(path.resolve(directory, '..', 'index.mjs')).href;
    return [specifier, { ...context, parentURL }];
  });
}

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
    for (const candidate of candidates(specifier, context)) {
      try {
        return await next(...candidate);
      } catch (missing) {
        if (missing.code !== 'ERR_MODULE_NOT_FOUND') throw missing;
      }
    }
    try {
      // A directory in NODE_PATH that is not called node_modules.
      const found = createRequire(context.parentURL).resolve(specifier);
      return await next(pathToFileURL(found).href, context);
    } catch {
      throw error;
    }
  }
}
