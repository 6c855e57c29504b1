import { isSchemaObject } from './keywords.js';

/** What is a value there, whatever it looks like. */
const values = new Set(['enum', 'const', 'default', 'examples']);
/** What has names for its keywords. */
const maps = new Set(['properties', 'patternProperties', 'dependentSchemas', '$defs', 'definitions']);

/** The places, as JSON pointers, of the schemas that have an `$anchor`. Of two with the same one the first has it. */
export function anchorsIn(root: unknown): Map<string, string> {
  const anchors = new Map<string, string>();
  const look = (schema: unknown, pointer: string, areNames: boolean): void => {
    if (Array.isArray(schema)) {
      for (const [index, item] of schema.entries()) look(item, `${pointer}/${index}`, false);
    }
    if (!isSchemaObject(schema)) return;
    const { $anchor } = schema;
    if (!areNames && typeof $anchor === 'string' && !anchors.has($anchor)) anchors.set($anchor, pointer);
    for (const [key, value] of Object.entries(schema)) {
      if (!areNames && values.has(key)) continue;
      look(value, `${pointer}/${escaped(key)}`, !areNames && maps.has(key));
    }
  };
  look(root, '#', false);
  return anchors;
}

function escaped(key: string): string {
  return encodeURIComponent(key.replaceAll('~', '~0').replaceAll('/', '~1'));
}
