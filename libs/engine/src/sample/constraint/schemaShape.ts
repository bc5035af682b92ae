/** Looks at schemas without compiling them: where references lead, and which values can fit two of them. */
import { isJsonObject } from '../../json.ts';

/** References followed to see a schema's types. */
const MAX_HOPS = 10;

/** What `#/$defs/name` stands for; undefined when there is nothing, or the reference leads elsewhere. */
export function resolvePointer(root: unknown, ref: string): unknown {
  if (ref !== '#' && !ref.startsWith('#/')) return undefined;
  let at: unknown = root;
  for (const part of ref.split('/').slice(1)) {
    let key: string;
    try {
      key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
    } catch {
      return undefined;
    }
    if (Array.isArray(at)) at = at[Number(key)];
    else if (isJsonObject(at) && Object.hasOwn(at, key)) at = at[key];
    else return undefined;
  }
  return at;
}

function followed(root: unknown, schema: unknown): unknown {
  let at = schema;
  for (let i = 0; i < MAX_HOPS && isJsonObject(at); i++) {
    const ref = at['$ref'];
    const only: unknown = Array.isArray(at['allOf']) && at['allOf'].length === 1 ? at['allOf'][0] : undefined;
    if (typeof ref === 'string') at = resolvePointer(root, ref);
    else if (only !== undefined) at = only;
    else break;
  }
  return at;
}

function typeOfValue(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

function listedValues(schema: unknown): string[] | undefined {
  if (!isJsonObject(schema)) return undefined;
  if (schema['const'] !== undefined) return [JSON.stringify(schema['const'])];
  return Array.isArray(schema['enum']) ? schema['enum'].map((value) => JSON.stringify(value)) : undefined;
}

/** The JSON types of a schema's values ('number' comes with 'integer'), when it says so; undefined when it may be any. */
export function typesOf(root: unknown, schema: unknown): ReadonlySet<string> | undefined {
  const at = followed(root, schema);
  if (!isJsonObject(at)) return undefined;
  const { type } = at;
  if (type !== undefined) {
    const types = new Set<string>((Array.isArray(type) ? type : [type]).map(String));
    if (types.has('number')) types.add('integer');
    return types;
  }
  if (at['const'] !== undefined) return new Set([typeOfValue(at['const'])]);
  return Array.isArray(at['enum']) ? new Set(at['enum'].map(typeOfValue)) : undefined;
}

/** Whether no value fits two of the schemas, as far as can be seen from types, constants, and constants of properties. */
export function areDisjoint(root: unknown, schemas: readonly unknown[]): boolean {
  return schemas.every((a, i) => schemas.slice(i + 1).every((b) => apart(followed(root, a), followed(root, b), root)));
}

function apart(a: unknown, b: unknown, root: unknown): boolean {
  const [typesA, typesB] = [typesOf(root, a), typesOf(root, b)];
  if (typesA !== undefined && typesB !== undefined && ![...typesA].some((type) => typesB.has(type))) return true;
  const [valuesA, valuesB] = [listedValues(a), listedValues(b)];
  if (valuesA !== undefined && valuesB !== undefined) return valuesA.every((value) => !valuesB.includes(value));
  if (!isJsonObject(a) || !isJsonObject(b)) return false;
  // Objects: a property that both require, with constants that differ.
  const [propertiesA, propertiesB] = [a['properties'], b['properties']];
  const [requiredA, requiredB] = [a['required'], b['required']];
  if (a['type'] !== 'object' || b['type'] !== 'object') return false;
  if (!isJsonObject(propertiesA) || !isJsonObject(propertiesB)) return false;
  if (!Array.isArray(requiredA) || !Array.isArray(requiredB)) return false;
  return requiredA.some((name) => {
    if (typeof name !== 'string' || !requiredB.includes(name)) return false;
    const here = listedValues(followed(root, propertiesA[name]));
    const there = listedValues(followed(root, propertiesB[name]));
    return here !== undefined && there !== undefined && here.every((value) => !there.includes(value));
  });
}

/** Whether all of `types` are among `others`; unknown types are not. */
export function isWithin(types: ReadonlySet<string> | undefined, others: ReadonlySet<string> | undefined): boolean {
  return types !== undefined && others !== undefined && [...types].every((type) => others.has(type));
}
