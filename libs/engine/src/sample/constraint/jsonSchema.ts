/**
 * A grammar of the JSON texts that a schema (https://json-schema.org/draft/2020-12) accepts. It may leave out texts that
 * are valid too (other orders of properties, other spellings), and contains none that is not. What it cannot express is
 * refused by keyword and place.
 */
import { EngineError } from '../../errors.ts';
import { isJsonObject, type JsonObject, shown } from '../../json.ts';
import { type Expr, Grammar, unsatisfiable } from './grammar.ts';
import { JsonScalars, refused, span } from './jsonScalars.ts';
import { JsonSyntax } from './jsonSyntax.ts';
import { areDisjoint, isWithin, resolvePointer, typesOf } from './schemaShape.ts';

/** Of the schema as JSON, in UTF-16 units. */
const MAX_SCHEMA_LENGTH = 262_144;
const MAX_DEPTH = 100;

/** Keywords that say nothing about what is valid. */
const ANNOTATIONS: ReadonlySet<string> = new Set([
  '$anchor',
  '$comment',
  '$defs',
  '$id',
  '$schema',
  'contentEncoding',
  'contentMediaType',
  'default',
  'definitions',
  'deprecated',
  'description',
  'discriminator',
  'example',
  'examples',
  'readOnly',
  'title',
  'writeOnly',
]); // prettier-ignore
const BY_TYPE: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties', 'propertyNames'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
};
const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'];

class SchemaCompiler {
  readonly #root: unknown;
  readonly grammar = new Grammar();
  readonly syntax = new JsonSyntax(this.grammar);
  /** By place of the schema, so that a recursive one ends. */
  readonly #references = new Map<string, Expr>();
  readonly #scalars = new JsonScalars(this.grammar, this.syntax);
  #depth = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  compile(): Expr {
    const value = this.#value(this.#root, '#');
    const root = this.grammar.sequence([this.syntax.gap, value]);
    if (unsatisfiable(root).size > 0) {
      throw refused('#', 'a part of it must contain itself, so that no value is finite');
    }
    return root;
  }

  #value(schema: unknown, at: string): Expr {
    if (schema === true) return this.anyValue();
    if (!isJsonObject(schema)) throw refused(at, `it must be an object or true, found ${shown(schema).slice(0, 50)}`);
    if (++this.#depth > MAX_DEPTH) throw refused(at, `schemas nest deeper than ${MAX_DEPTH}`);
    try {
      return this.#checked(schema, at);
    } finally {
      this.#depth--;
    }
  }

  #checked(schema: JsonObject, at: string): Expr {
    const keys = Object.keys(schema).filter((key) => !ANNOTATIONS.has(key) && schema[key] !== undefined);
    const whole = ['$ref', 'anyOf', 'oneOf', 'allOf'].find((key) => keys.includes(key));
    if (whole !== undefined) {
      this.#only(schema, at, keys, [whole]);
      if (whole === '$ref') return this.#reference(schema['$ref'], at);
      return this.#combined(schema, whole, at);
    }
    if (keys.includes('const') || keys.includes('enum')) return this.#listed(schema, at, keys);
    const known = ['type', ...Object.values(BY_TYPE).flat()];
    const unknown = keys.find((key) => !known.includes(key));
    if (unknown !== undefined) throw refused(`${at}/${unknown}`, 'this keyword is not supported');
    const types = this.#types(schema, at);
    if (types === undefined) return this.anyValue();
    return this.grammar.choice(types.map((type) => this.#typed(type, schema, at)));
  }

  #only(schema: JsonObject, at: string, keys: readonly string[], allowed: readonly string[]): void {
    const other = keys.find((key) => !allowed.includes(key));
    // Pydantic and zod repeat the type beside what already says it.
    if (other === undefined || (other === 'type' && this.#sayTheSame(schema, allowed[0]!))) return;
    throw refused(`${at}/${other}`, `this keyword is not supported beside ${allowed[0]}`);
  }

  /** Whether all branches are of the type that stands beside them. */
  #sayTheSame(schema: JsonObject, key: string): boolean {
    const branches = schema[key];
    const beside = typesOf(this.#root, { type: schema['type'] });
    return Array.isArray(branches) && branches.every((branch) => isWithin(typesOf(this.#root, branch), beside));
  }

  #reference(ref: unknown, at: string): Expr {
    const target = typeof ref === 'string' ? resolvePointer(this.#root, ref) : undefined;
    if (typeof ref !== 'string' || target === undefined) {
      throw refused(`${at}/$ref`, `only references into the schema itself are supported, found ${shown(ref)}`);
    }
    const known = this.#references.get(ref);
    if (known !== undefined) return known;
    let made: Expr | undefined;
    const reference = this.grammar.reference(() => made!);
    this.#references.set(ref, reference);
    made = this.#value(target, ref);
    return reference;
  }

  #combined(schema: JsonObject, key: string, at: string): Expr {
    const branches = schema[key];
    if (!Array.isArray(branches) || branches.length === 0) throw refused(`${at}/${key}`, 'it must list schemas');
    if (key === 'allOf' && branches.length > 1) throw refused(`${at}/allOf`, 'only one schema in it is supported');
    if (key === 'oneOf' && !areDisjoint(this.#root, branches)) {
      throw refused(`${at}/oneOf`, 'its schemas may overlap: tell them apart by type or a constant, or use anyOf');
    }
    return this.grammar.choice(branches.map((branch, i) => this.#value(branch, `${at}/${key}/${i}`)));
  }

  #types(schema: JsonObject, at: string): string[] | undefined {
    const { type } = schema;
    if (type === undefined) {
      // Without a type, keywords bind only their own; a value of that type is valid whatever else would be.
      const implied = Object.keys(BY_TYPE).filter((name) => BY_TYPE[name]!.some((key) => schema[key] !== undefined));
      return implied.length === 0 ? undefined : implied;
    }
    const types = Array.isArray(type) ? type : [type];
    const wrong: unknown = types.find((name) => typeof name !== 'string' || !TYPES.includes(name));
    if (wrong !== undefined || types.length === 0) {
      throw refused(`${at}/type`, `it must be of ${TYPES.join(', ')}, found ${shown(type)}`);
    }
    return types as string[];
  }

  #listed(schema: JsonObject, at: string, keys: readonly string[]): Expr {
    const other = keys.find((key) => !['const', 'enum', 'type'].includes(key));
    if (other !== undefined) throw refused(`${at}/${other}`, 'this keyword is not supported beside enum or const');
    const listed = schema['enum'] ?? [schema['const']];
    if (!Array.isArray(listed)) throw refused(`${at}/enum`, 'it must list values');
    const types = schema['type'] === undefined ? undefined : typesOf(this.#root, { type: schema['type'] });
    const fitting = listed.filter(
      (value) => types === undefined || isWithin(typesOf(this.#root, { const: value }), types),
    );
    const texts = new Set(fitting.map((value) => JSON.stringify(value)));
    if (keys.includes('const') && keys.includes('enum')) {
      const only = JSON.stringify(schema['const']);
      for (const text of texts) if (text !== only) texts.delete(text);
    }
    if (texts.size === 0) throw refused(at, 'no listed value is of the type beside it');
    return this.grammar.choice([...texts].map((text) => this.grammar.literal(text)));
  }

  #typed(type: string, schema: JsonObject, at: string): Expr {
    const { grammar } = this;
    switch (type) {
      case 'object':
        return this.#object(schema, at);
      case 'array':
        return this.#array(schema, at);
      case 'string':
        return this.#scalars.string(schema, at);
      case 'boolean':
        return grammar.choice([grammar.literal('true'), grammar.literal('false')]);
      case 'null':
        return grammar.literal('null');
      default:
        return this.#scalars.number(type === 'integer', schema, at);
    }
  }

  /** Any JSON value. */
  anyValue(): Expr {
    return this.#shared('any value', () => {
      const types = ['object', 'array', 'string', 'number', 'boolean', 'null'];
      return this.grammar.choice(types.map((type) => this.#typed(type, {}, '#')));
    });
  }

  #shared(name: string, make: () => Expr): Expr {
    const known = this.#references.get(name);
    if (known !== undefined) return known;
    const reference = this.grammar.reference(make);
    this.#references.set(name, reference);
    return reference;
  }

  #array(schema: JsonObject, at: string): Expr {
    if (schema['uniqueItems'] === true) throw refused(`${at}/uniqueItems`, 'this keyword is not supported');
    const { min, max } = span(schema, ['minItems', 'maxItems'], at);
    const { items, prefixItems = [] } = schema;
    if (!Array.isArray(prefixItems)) throw refused(`${at}/prefixItems`, 'it must list schemas');
    const prefix = prefixItems.map((item, i) => this.#value(item, `${at}/prefixItems/${i}`));
    // A tuple gets no more than its own items unless the schema says what they are.
    const open = items !== false && (items !== undefined || prefix.length === 0);
    const longest = open ? max : Math.min(max, prefix.length);
    if (longest < min) throw refused(`${at}/minItems`, 'there is no schema for so many items');
    const item = open && longest > prefix.length ? this.#value(items ?? true, `${at}/items`) : this.grammar.empty;
    return this.syntax.array({ prefix, item, min, max: longest });
  }

  #object(schema: JsonObject, at: string): Expr {
    const { syntax } = this;
    const { properties = {}, required = [], additionalProperties, propertyNames = true } = schema;
    if (!isJsonObject(properties)) throw refused(`${at}/properties`, 'it must be an object');
    if (!Array.isArray(required)) throw refused(`${at}/required`, 'it must list names');
    const nameKeys = isJsonObject(propertyNames) ? Object.entries(propertyNames) : [['', propertyNames]];
    // zod's records say of their names only that they are texts.
    if (!nameKeys.every(([key, value]) => key === 'type' && value === 'string') && propertyNames !== true) {
      throw refused(`${at}/propertyNames`, 'only {"type": "string"} is supported');
    }
    // Where properties are named and others not mentioned, no others are written.
    const others = additionalProperties ?? schema['properties'] === undefined;
    const names = [...new Set([...Object.keys(properties), ...required.map(String)])];
    const pairs = names.map((name) => {
      const own = Object.hasOwn(properties, name);
      if (!own && others === false) throw refused(`${at}/required`, `${name} is required, but not a property`);
      const value = own
        ? this.#value(properties[name], `${at}/properties/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`)
        : this.#value(others, `${at}/additionalProperties`);
      return { needed: required.includes(name), pair: syntax.pair(syntax.name(name), value) };
    });
    const extra =
      others === false
        ? undefined
        : syntax.pair(syntax.otherName(names), this.#value(others, `${at}/additionalProperties`));
    return this.syntax.object(pairs, extra);
  }
}

/** The grammar of any JSON object. */
export function jsonObjectGrammar(): { grammar: Grammar; root: Expr } {
  return jsonSchemaGrammar({ type: 'object' });
}

/**
 * @throws EngineError `engine.sample.unsupported_schema` with the place (`#/properties/age/multipleOf`) and what is wrong there
 */
export function jsonSchemaGrammar(schema: unknown): { grammar: Grammar; root: Expr } {
  const length = JSON.stringify(schema)?.length ?? 0;
  if (length > MAX_SCHEMA_LENGTH) {
    throw new EngineError(
      'engine.sample.unsupported_schema',
      `the JSON schema has more than ${MAX_SCHEMA_LENGTH} characters`,
    );
  }
  const compiler = new SchemaCompiler(schema);
  const root = compiler.compile();
  return { grammar: compiler.grammar, root };
}
